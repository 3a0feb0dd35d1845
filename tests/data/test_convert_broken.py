"""Whatever is in a foreign file, the answer is words or one clear error, never a traceback; and the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.data.convert import NAMES, convert
from detector.data.foreign.trip import Options
from detector.data.words_json import parse_words
from detector.errors import DataError
from orchestrator.__main__ import main

FLAT = [1, 2, 30, 2, 30, 12, 1, 12]
POINTS = [[1, 2], [30, 2], [30, 12], [1, 12]]
IMAGE = {"id": 1, "file_name": "a.png", "width": 40, "height": 20}
WORD = {"id": 1, "image_id": 1, "bbox": [1, 2, 29, 10], "utf8_string": "x"}
GOOD: dict[str, Any] = {
    "paddle": [{"transcription": "x", "points": POINTS, "difficult": False}],
    "labelme": {
        "shapes": [{"label": "x", "points": POINTS, "shape_type": "polygon", "flags": {}, "group_id": None}],
        "imagePath": "a.png",
        "imageWidth": 40,
        "imageHeight": 20,
    },
    "coco-text": {
        "imgs": {"1": {**IMAGE, "set": "train"}},
        "anns": {"1": {**WORD, "mask": FLAT, "legibility": "legible", "language": "english"}},
    },
    "coco": {
        "images": [IMAGE],
        "annotations": [{**WORD, "segmentation": [FLAT], "iscrowd": 0, "category_id": 1}],
        "categories": [{"id": 1, "name": "text"}],
    },
}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON value."""
    yield place
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*place, key))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    value = copy.deepcopy(value)
    home = value
    for key in place[:-1]:
        home = home[key]
    home[place[-1]] = new
    return value


def source(folder: Path, form: str, value: Any) -> Path:
    """A file or folder of the format with that JSON in it."""
    text = json.dumps(value)
    if form == "labelme":
        (folder / "in").mkdir()
        (folder / "in" / "a.json").write_text(text)
    else:
        (folder / "in").write_text(f"a.png\t{text}\n" if form == "paddle" else text)
    return folder / "in"


@pytest.mark.parametrize("form", GOOD)
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere_gives_words_or_one_error(form: str, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(list(places(GOOD[form]))))
    with TemporaryDirectory() as name:
        folder = Path(name)
        Image.new("RGB", (40, 20)).save(folder / "a.png")
        given_ = source(folder, form, changed(GOOD[form], place, data.draw(ANY)))
        out = folder / "o.json"
        try:
            convert(given_, out, form, "competition", Options(images=folder))
        except DataError as error:
            assert str(given_) in str(error) or "image a.png" in str(error)
            assert not out.exists()
        else:
            assert len(parse_words(out).words) <= 1


@pytest.mark.parametrize("form", NAMES[1:])
@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_words_or_one_error(form: str, data: bytes) -> None:
    with TemporaryDirectory() as name:
        given_ = Path(name) / "in"
        suffix = {"icdar": "txt", "sroie": "csv", "labelme": "json"}.get(form)
        if suffix is not None:
            given_.mkdir()
        (given_ / f"a.{suffix}" if suffix else given_).write_bytes(data)
        try:
            convert(given_, Path(name) / "o.json", form, "competition")
        except DataError as error:
            assert str(given_) in str(error)


@given(
    st.lists(
        st.sampled_from(["1", "-2.5", "", " 7 ", "nan", "1e400", "x", '"a, b"', "###", "한,", "\u2028"]), max_size=12
    )
)
@settings(max_examples=100, deadline=None)
def test_any_line_gives_a_word_or_its_place(fields: list[str]) -> None:
    with TemporaryDirectory() as name:
        (Path(name) / "in").mkdir()
        (Path(name) / "in" / "gt_1.txt").write_text(",".join(fields) + "\n", encoding="utf-8")
        out = Path(name) / "o.json"
        numbers = [field.strip() for field in ",".join(fields).split(",")[:8]]
        good = len(numbers) == 8 and all(number in ("1", "-2.5", "7") for number in numbers)
        if not ",".join(fields).strip():
            good = True  # an empty page
        if good:
            convert(Path(name) / "in", out, "icdar", "competition")
        else:
            with pytest.raises(DataError, match=r"gt_1\.txt:1: must begin with 8 numbers"):
                convert(Path(name) / "in", out, "icdar", "competition")


def test_the_command_converts_and_says_what_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "영수증.png")
    (tmp_path / "in").write_text(f"x/영수증.png\t{json.dumps(GOOD['paddle'])}\n", encoding="utf-8")
    out = tmp_path / "t.json"
    words = ["data", "convert", str(tmp_path / "in"), "--from", "paddle", "-o", str(out), "--images", str(tmp_path)]
    assert main(words) == 0
    assert capsys.readouterr().out == (
        f"1 pages, 1 words -> {out}\n"
        "folder of an image is not held; images are looked for by their bare names: 1 "
        f"(first: {tmp_path / 'in'}:1)\n"
    )
    assert main(words) == 2
    assert "exists already; choose another name or give --force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert main(["data", "convert", str(out), "--to", "icdar", "-o", str(tmp_path / "gt"), "--round"]) == 0
    assert (tmp_path / "gt" / "gt_영수증.txt").read_text(encoding="utf-8") == "1,2,30,2,30,12,1,12,x\n"
    assert main(["data", "convert", str(tmp_path / "none"), "--from", "coco", "-o", str(tmp_path / "u.json")]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err
