"""A bundle says what it is: every file and every setting has a digest that is checked before anything is computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from detector import checkpoint
from detector.config import Config, Postprocess
from detector.errors import CheckpointError
from detector.inference.bundle import read_bundle, save_bundle, verify
from detector.inference.predict import Predictor
from detector.model.detector import build

TINY = Config(
    encoder="test_resnet.r160_in1k", encoder_weights="none", inner_channels=16, output_channels=8, image_size=64
)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("members")
    for seed in (0, 1):
        config = TINY.model_copy(update={"seed": seed})
        checkpoint.save(folder / str(seed), build(config), config, {"epoch": seed})
    return folder / "0", folder / "1"


@pytest.fixture
def bundle(members: tuple[Path, Path], tmp_path: Path) -> Path:
    save_bundle(tmp_path / "bundle", [(members[0], 2.0), (members[1], 1.0)], ("identity", "hflip"))
    return tmp_path / "bundle"


def test_the_digest_is_of_what_a_bundle_finds(members: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = members
    plain = save_bundle(tmp_path / "a", [(first, 1.0), (second, 1.0)])
    assert read_bundle(tmp_path / "a").digest == plain
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    assert read_bundle(tmp_path / "moved").digest == plain
    others = [
        save_bundle(tmp_path / "b", [(first, 2.0), (second, 1.0)]),
        save_bundle(tmp_path / "b", [(second, 1.0), (first, 1.0)]),  # of equal maps the first gives the frame
        save_bundle(tmp_path / "b", [(first, 1.0), (second, 1.0)], ("identity", "hflip")),
        save_bundle(tmp_path / "b", [(first, 1.0), (second, 1.0)], rule=Postprocess(thresh=0.21)),
    ]
    assert len({plain, *others}) == 5
    assert save_bundle(tmp_path / "c", [(first, 1.0), (second, 1.0)]) == plain


def listed(bundle: Path) -> dict[str, str]:
    return json.loads((bundle / "bundle.json").read_text())["files"]


def test_every_file_is_held_against_its_digest(bundle: Path) -> None:
    verify(bundle)
    Predictor.load(bundle, "cpu")
    files = [path for path in sorted(bundle.rglob("*")) if path.is_file() and path.name != "bundle.json"]
    assert {path.relative_to(bundle).as_posix() for path in files} == set(listed(bundle))
    some = [bundle / "MLmodel", bundle / "code" / "detector" / "geometry.py", *sorted((bundle / "members").glob("*/*"))]
    assert len(some) == 8  # weights, config and meta of two members
    for file in some:
        whole = file.read_bytes()
        for damage in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], whole + b" "):
            file.write_bytes(damage)
            with pytest.raises(CheckpointError, match=rf"{file}: must have the digest .* got .*: it was changed"):
                Predictor.load(bundle, "cpu")
        file.unlink()
        with pytest.raises(CheckpointError, match=f"{file}: is missing"):
            Predictor.load(bundle, "cpu")
        file.write_bytes(whole)
    verify(bundle)


def test_an_edited_setting_is_found(bundle: Path) -> None:
    path = bundle / "bundle.json"
    good = json.loads(path.read_text())
    for edit in (
        {"postprocess": {**good["postprocess"], "thresh": 0.29}},
        {"views": ["identity"]},
        {"fusion": "geometric"},
        {"members": [{**good["members"][0], "weight": 1.0}, good["members"][1]]},
        {"members": good["members"][::-1]},
        {"digest": "0" * 32},
    ):
        path.write_text(json.dumps(good | edit))
        with pytest.raises(CheckpointError, match=r"bundle\.json: (its content must have the digest|fusion)"):
            Predictor.load(bundle, "cpu")


def test_exchanged_members_are_found(bundle: Path) -> None:
    path = bundle / "bundle.json"
    value = json.loads(path.read_text())
    value["members"][0]["path"], value["members"][1]["path"] = "members/1", "members/0"
    path.write_text(json.dumps(value))  # places are no part of the digest: the members' own digests tell
    with pytest.raises(CheckpointError, match="members were exchanged"):
        Predictor.load(bundle, "cpu")
    value["members"][0]["path"] = value["members"][1]["path"] = "members/0"
    del value["files"]["members/0/config.json"]
    path.write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match=r"config\.json: must have the digest None"):
        Predictor.load(bundle, "cpu")
    path.write_text(json.dumps({**value, "files": None}))
    with pytest.raises(CheckpointError, match="files: must name a digest"):
        Predictor.load(bundle, "cpu")


def test_bundles_of_format_1_are_read(bundle: Path) -> None:
    value = json.loads((bundle / "bundle.json").read_text())
    old = {key: value[key] for key in ("views", "postprocess")} | {
        "format": 1,
        "members": [{"path": row["path"], "weight": row["weight"]} for row in value["members"]],
    }
    (bundle / "bundle.json").write_text(json.dumps(old))
    assert len(Predictor.load(bundle, "cpu").members) == 2
    weights = bundle / "members" / "1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="must have the digest"):
        Predictor.load(bundle, "cpu")
