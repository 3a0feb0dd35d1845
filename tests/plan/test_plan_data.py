"""The pages of a plan: synthetic ones made once, leaks refused, hashes kept, a digest of all that counts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from detector.errors import DataError
from orchestrator.plan.data import facts_of, folds_digest, present, read_datasets, read_facts
from orchestrator.plan.schema_data import DataSpec, Synthetic
from orchestrator.plan.synthetic import make_synthetic


def spec(folder: Path, folds: int | None = None) -> DataSpec:
    parts = {
        name: {"images": str(folder / name), "annotations": str(folder / f"{name}.json")} for name in ("train", "val")
    }
    return DataSpec.model_validate({**parts, **({"folds": {"k": folds}} if folds else {})})


def write(folder: Path, part: str, shades: dict[str, int], x: int = 1) -> None:
    (folder / part).mkdir(parents=True, exist_ok=True)
    for name, shade in shades.items():
        Image.new("RGB", (32, 32), (shade, 0, 0)).save(folder / part / name)
    points = [[x, 1], [20, 1], [20, 9], [1, 9]]
    images = {name: {"words": {"0001": {"points": points}}} for name in shades}
    (folder / f"{part}.json").write_text(json.dumps({"images": images}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "train", {"a.png": 1, "b.png": 2, "c.png": 3})
    write(tmp_path, "val", {"d.png": 4})
    return tmp_path


def test_pages_are_read_and_named(folder: Path) -> None:
    data = read_datasets(spec(folder, folds=3), folder / "w")
    assert [page.name for page in data.train] == ["a.png", "b.png", "c.png"]
    assert (len(data.val), data.test, sorted(data.folds)) == (1, (), [0, 1, 2])
    left_out = data.folds.index(1)
    assert [page.name for page in data.train_pages(1)] == [p.name for i, p in enumerate(data.train) if i != left_out]


def test_the_digest_follows_names_contents_and_words(folder: Path, tmp_path: Path) -> None:
    first = read_datasets(spec(folder), folder / "w").digest
    moved = tmp_path / "moved"
    for part in ("train", "val"):
        shutil.copytree(folder / part, moved / part)
        shutil.copy(folder / f"{part}.json", moved / f"{part}.json")
    assert read_datasets(spec(moved), moved / "w").digest == first  # where it lies does not matter
    write(folder, "val", {"d.png": 4}, x=2)
    words = read_datasets(spec(folder), folder / "w").digest
    write(folder, "train", {"a.png": 1, "b.png": 2, "c.png": 9}, x=1)
    os.utime(folder / "train" / "c.png", ns=(1, 1))  # an image of equal size, at another time
    content = read_datasets(spec(folder), folder / "w").digest
    assert len({first, words, content}) == 3


def test_leaks_are_refused_by_name_and_by_content(folder: Path) -> None:
    write(folder, "val", {"a.png": 7})
    with pytest.raises(DataError, match=r"1 names are in train and in val \(a.png\)"):
        read_datasets(spec(folder), folder / "w")
    write(folder, "val", {"e.png": 2})
    with pytest.raises(
        DataError, match=r"1 images of val are byte for byte in train under other names \(b.png = e.png\)"
    ):
        read_datasets(spec(folder), folder / "w")


def test_an_empty_set_is_refused(folder: Path) -> None:
    write(folder, "val", {})
    with pytest.raises(DataError, match=r"data.val: no pages"):
        read_datasets(spec(folder), folder / "w")


def test_a_broken_cache_of_hashes_is_made_again(folder: Path) -> None:
    first = read_datasets(spec(folder), folder / "w").digest
    (folder / "w" / "data" / "hashes.json").write_text("{")
    assert read_datasets(spec(folder), folder / "w").digest == first


def test_facts_are_those_of_the_pages_and_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read_datasets(spec(folder, folds=3), folder / "w")
    facts = read_facts(spec(folder, folds=3), folder / "w")
    assert facts == facts_of(data)
    assert facts is not None and (facts.train, facts.val_words, facts.folds) == (3, 1, 3)
    with monkeypatch.context() as patched:
        patched.setattr("orchestrator.plan.data.read_datasets", lambda *_: pytest.fail("read again"))
        assert read_facts(spec(folder, folds=3), folder / "w") == facts
    write(folder, "val", {"d.png": 4}, x=2)
    os.utime(folder / "val.json", ns=(1, 1))
    changed = read_facts(spec(folder, folds=3), folder / "w")
    assert changed is not None and changed.digest == read_datasets(spec(folder), folder / "w").digest != facts.digest
    assert read_facts(spec(folder, folds=2), folder / "w") != changed
    (folder / "val.json").unlink()
    assert read_facts(spec(folder), folder / "w") is None


def test_presence_is_told_without_reading(folder: Path) -> None:
    assert present(spec(folder), folder / "w")
    (folder / "val.json").unlink()
    assert not present(spec(folder), folder / "w")


def test_the_digest_of_folds_follows_the_assignment(folder: Path) -> None:
    two, three = (read_datasets(spec(folder, k), folder / "w") for k in (2, 3))
    assert two.digest == three.digest
    assert len({folds_digest(two), folds_digest(three), ""}) == 3
    assert folds_digest(read_datasets(spec(folder), folder / "w")) == ""


def test_synthetic_pages_are_made_once(tmp_path: Path) -> None:
    made = DataSpec(synthetic=Synthetic(train=2, val=1, test=1, seed=3, size=160))
    assert not present(made, tmp_path)
    data = read_datasets(made, tmp_path)
    assert (len(data.train), len(data.val), len(data.test)) == (2, 1, 1)
    assert all(page.words for page in data.train)
    assert present(made, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    assert read_datasets(made, tmp_path).digest == data.digest
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")} == before
    # Equal specs give equal pages anywhere, another seed does not.
    assert read_datasets(made, tmp_path / "other").digest == data.digest
    assert made.synthetic is not None
    other = made.model_copy(update={"synthetic": made.synthetic.model_copy(update={"seed": 4})})
    assert read_datasets(other, tmp_path).digest != data.digest


def test_half_made_pages_are_made_anew(tmp_path: Path) -> None:
    part = Synthetic(train=1, val=1, size=160)
    folder = make_synthetic(part, tmp_path)
    (folder / "made.json").unlink()
    (folder / "train" / "annotations.json").unlink()
    assert make_synthetic(part, tmp_path) == folder
    assert (folder / "train" / "annotations.json").is_file()
    assert [path.name for path in (tmp_path / "data").iterdir()] == [folder.name]
