"""What `check` finds in images: cut-off files, sizes, and pictures that fall into two parts that must share none."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from detector.errors import DataError
from orchestrator.__main__ import main
from orchestrator.plan.data import read_datasets
from orchestrator.plan.preflight import Preflight, Sizes, Twin, preflight
from orchestrator.plan.schema_data import DataSpec

SHADES = {"train": {"a.png": 1, "b.png": 2, "c.png": 3, "d.png": 4}, "val": {"e.png": 5}, "test": {"f.png": 6}}


def write(folder: Path, part: str, shades: dict[str, int], wh: tuple[int, int] = (32, 24)) -> None:
    (folder / part).mkdir(parents=True, exist_ok=True)
    for name, shade in shades.items():
        Image.new("RGB", wh, (shade, 0, 0)).save(folder / part / name)
    points = [[1, 1], [20, 1], [20, 9], [1, 9]]
    files = sorted(path.name for path in (folder / part).iterdir())
    listed = {name: {"words": {"0001": {"points": points}}} for name in files}
    (folder / f"{part}.json").write_text(json.dumps({"images": listed}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, shades in SHADES.items():
        write(tmp_path, part, shades)
    return tmp_path


def spec(folder: Path, k: int = 2) -> DataSpec:
    parts = {part: {"images": str(folder / part), "annotations": str(folder / f"{part}.json")} for part in SHADES}
    del parts["test"]["annotations"]
    return DataSpec.model_validate({**parts, "folds": {"k": k}})


def found(folder: Path) -> Preflight:
    return preflight(spec(folder), folder / "w")


def test_a_clean_plan_has_sizes_and_no_twins(folder: Path) -> None:
    write(folder, "val", {"g.png": 7}, (40, 10))
    seen = found(folder)
    total = sum(path.stat().st_size for path in (folder / "val").iterdir())
    # 40 x 10 px is less than 32 x 24
    assert seen.sizes["val"] == Sizes(2, total, (40, 10), (32, 24))
    assert (seen.sizes["train"].files, seen.sizes["test"].files, seen.twins) == (4, 1, ())
    assert str(seen.sizes["val"]) == f"2 files, {total / 1e6:.1f} MB, 40 x 10 to 32 x 24 px"


def test_twins_in_different_folds_and_parts_are_named_pair_by_pair(folder: Path) -> None:
    with Image.open(folder / "train" / "a.png") as image:  # the same pixels in other bytes
        for path in ("train/z.bmp", "val/g.bmp"):
            image.save(folder / path)
        image.save(folder / "test" / "h.png", compress_level=0)
    shutil.copy(folder / "train" / "z.bmp", folder / "train" / "y.bmp")  # byte for byte: these two share a fold
    (folder / "val" / "g.bmp").unlink()  # byte for byte z.bmp would be refused
    for part in ("train", "val"):
        write(folder, part, {})
    datasets = read_datasets(spec(folder), folder / "w")
    homes = {page.name: home for page, home in zip(datasets.train, datasets.folds, strict=True)}
    assert homes["y.bmp"] == homes["z.bmp"]
    labels = {name: f"train/{name} (fold {home})" for name, home in homes.items()}
    same = [("a.png", "y.bmp"), ("a.png", "z.bmp")] if homes["a.png"] != homes["z.bmp"] else []
    expected = {(labels[one], labels[other], "pixels") for one, other in same}
    expected |= {(labels[name], "test/h.png", "pixels") for name in ("a.png", "y.bmp", "z.bmp")}
    assert {(twin.one, twin.other, twin.same) for twin in found(folder).twins} == expected


def test_a_file_of_folds_that_tears_twins_apart_is_refused(folder: Path) -> None:
    shutil.copy(folder / "train" / "a.png", folder / "train" / "z.png")
    write(folder, "train", {})
    own = folder / "folds.csv"
    own.write_text("image,fold\na.png,0\nb.png,1\nc.png,1\nd.png,0\nz.png,1\n")
    data = spec(folder).model_dump(exclude_none=True) | {"folds": {"k": 2, "file": str(own)}}
    with pytest.raises(DataError, match=r"folds.csv:6: z.png: is byte for byte a.png \(line 2\)"):
        read_datasets(DataSpec.model_validate(data), folder / "w")


def test_what_cannot_be_read_is_named_with_its_reason(folder: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "train" / f"{name[0]}.jpg")
        (folder / "train" / name).unlink()
    cut = folder / "train" / "a.jpg"
    cut.write_bytes(cut.read_bytes()[:-30])
    (folder / "train" / "b.jpg").write_bytes(b"no image")
    write(folder, "train", {})
    with pytest.raises(DataError) as caught:
        found(folder)
    assert str(caught.value).splitlines() == [
        f"{cut}: ends before its picture does; replace the file or remove its entry",
        f"{folder}/train/b.jpg: is not an image that Pillow knows; replace the file or remove its entry",
    ]


def test_images_are_looked_at_once_and_again_where_one_has_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = found(folder)
    with monkeypatch.context() as patched:
        patched.setattr("orchestrator.plan.preflight.survey", lambda *_: pytest.fail("looked again"))
        assert found(folder) == first
    shutil.copy(folder / "val" / "e.png", folder / "test" / "f.png")
    os.utime(folder / "test" / "f.png", ns=(1, 1))
    assert found(folder).twins == (Twin("val/e.png", "test/f.png", "bytes"),)
    (folder / "w" / "data" / "preflight.json").write_text("{")
    assert len(found(folder).twins) == 1
    assert read_datasets(spec(folder), folder / "w").digest == read_datasets(spec(folder), folder / "v").digest


def test_check_tells_sizes_and_twins(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "val" / "e.png", folder / "test" / "f.png")
    plan = folder / "plan.yaml"
    parts = spec(folder).model_dump(mode="json", exclude_none=True)
    plan.write_text(
        json.dumps(
            {
                "roadmap": "r",
                "workspace": str(folder / "w"),
                "data": parts,
                "phases": [{"id": "one", "experiments": [{"id": "a"}]}],
            }
        )
    )
    assert main(["check", str(plan)]) == 0
    out = capsys.readouterr().out
    assert "  train: 4 files, 0.0 MB, 32 x 24 px\n" in out
    assert (
        "data: val/e.png and test/f.png are the same picture, byte for byte; scores would tell less than they seem; "
        "remove one if it is not meant" in out
    )
    assert main(["check", str(plan), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["preflight"]
    assert told["twins"] == [{"one": "val/e.png", "other": "test/f.png", "same": "bytes"}]
    assert told["sizes"]["train"]["largest_wh"] == [32, 24]
