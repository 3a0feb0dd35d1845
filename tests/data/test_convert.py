"""Converters: round trips give back every bit that a format holds, and what it does not hold is said or refused."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from conversions import FOLDERS, QUAD, annotate, plain, trip
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from detector.data.convert import NAMES, convert
from detector.data.foreign.frames import stored_size, to_stored, to_upright
from detector.data.foreign.trip import Options
from detector.data.images import ORIENTATION, image_size, read_image
from detector.data.words_json import parse_words
from detector.errors import DataError
from detector.geometry import area
from detector.types import Word

# Any character that a file can hold: quotes, commas, tabs, Hangul, U+2028, emoji; no half surrogates.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
LINE = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n"), max_size=12)
COORDINATE = st.one_of(st.integers(-50, 9000).map(float), st.floats(-1e6, 1e6, allow_subnormal=False))


def numbered(polygons: list[Any], texts: list[str | None], ignores: list[bool]) -> list[Word]:
    rows = zip(polygons, texts, ignores, strict=True)
    return [Word(f"{index:04d}", polygon, text, ignore) for index, (polygon, text, ignore) in enumerate(rows, start=1)]


@st.composite
def pages(draw: st.DrawFn, form: str) -> dict[str, list[Word]]:
    """Pages of words that a format holds wholly."""
    marks = ("###", "*") if form == "paddle" else ("###",) if form in ("icdar", "labelme") else ()
    texts = LINE if form in ("icdar", "sroie") else TEXT
    if form not in ("paddle", "labelme"):
        texts = st.one_of(st.none(), texts)  # type: ignore[assignment]
    names = st.sampled_from(["a_2.jpg", "a_10.jpg", "b.jpg", "영수증 1.jpg", "gt_x, y.jpg", "it's.v2.jpg"])
    found: dict[str, list[Word]] = {}
    for name in sorted(draw(st.lists(names, unique=True, max_size=3))):
        count = draw(st.integers(0, 4))
        vertices = [4 if form in ("icdar", "sroie") else draw(st.integers(3, 7)) for _ in range(count)]
        polygons = [
            np.array(draw(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=v, max_size=v))) for v in vertices
        ]
        for polygon in polygons:  # three vertices apart, so that nearly all have an area
            polygon[:3] += [[0.0, 0.0], [500.0, 0.0], [0.0, 900.0]]
        polygons = [polygon for polygon in polygons if area(polygon) > 1e-6]
        ignores = [form != "sroie" and draw(st.booleans()) for _ in polygons]
        held = form in ("coco", "coco-text")  # these hold the text of a don't-care word
        words = [
            "" if ignore and not held else draw(texts.filter(lambda text: text not in marks)) for ignore in ignores
        ]
        found[name] = numbered(polygons, words, ignores)
    return found


@pytest.mark.parametrize("form", NAMES[1:])
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_what_a_format_holds_comes_back_to_the_bit(form: str, data: st.DataObject) -> None:
    drawn = data.draw(pages(form))
    with TemporaryDirectory() as folder:
        path, images = annotate(Path(folder) / "set", drawn)
        if not drawn and form in FOLDERS:
            return  # a folder without files is refused
        there, back, words = trip(path, images, form)
        assert words == plain(parse_words(path).words)
        reordered = [note for note in there.notes if "order" in note]
        assert there.notes == tuple(reordered)
        assert back.notes == ()


@pytest.mark.parametrize("form", NAMES[1:])
def test_real_sets_come_back(form: str, real_data: Path, tmp_path: Path) -> None:
    for name in ("sroie_mini", "icdar2015"):
        source = real_data / name / "val.json"
        path = tmp_path / name / "val.json"
        path.parent.mkdir()
        path.write_bytes(source.read_bytes())
        if (name, form) == ("icdar2015", "sroie"):
            with pytest.raises(DataError, match=r"\(523 more\): don't-care word, the format knows none"):
                trip(path, real_data / name / "images", form)
            continue
        trip(path, real_data / name / "images", form)
        home = json.loads((path.parent / f"home-{form}.json").read_text(encoding="utf-8"))
        assert home == json.loads(source.read_text(encoding="utf-8"))


def test_files_as_their_tools_write_them(tmp_path: Path) -> None:
    """Bytes of each format from its own documentation, read to the same word."""
    square = [[38.0, 43.0], [920.0, 43.0], [920.0, 215.0], [38.0, 215.0]]
    flat = [value for point in square for value in point]
    numbers = "38,43,920,43,920,215,38,215"
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (1000, 300)).save(images / "img_1.png")
    icdar, sroie, labelme = (tmp_path / name for name in FOLDERS)
    for folder in (icdar, sroie, labelme):
        folder.mkdir()
    (icdar / "gt_img_1.txt").write_bytes(f'\ufeff{numbers},"A", b,c\r\n{numbers},###\r\n\r\n'.encode())
    (sroie / "img_1.csv").write_text(f'{numbers},"""A"", b,c"\n')
    paddle = [{"transcription": '"A", b,c', "points": square}, {"transcription": "###", "points": square}]
    (tmp_path / "paddle").write_text(f"train/img_1.png\t{json.dumps(paddle)}\n")
    shapes = [
        {"label": '"A", b,c', "points": [[920, 215], [38, 43]], "shape_type": "rectangle", "group_id": None},
        {"label": "###", "points": square, "shape_type": "polygon", "flags": {}},
    ]
    size = {"imageHeight": 300, "imageWidth": 1000, "imageData": "AAAA"}
    (labelme / "x.json").write_text(json.dumps({"shapes": shapes, "imagePath": "..\\images\\img_1.png", **size}))
    image = {"file_name": "img_1.png", "width": 1000, "height": 300}
    anns = {
        "9": {"image_id": 5, "mask": flat, "utf8_string": '"A", b,c', "legibility": "legible", "language": "na"},
        "4": {"image_id": 5, "bbox": [38, 43, 882, 172], "legibility": "illegible", "utf8_string": ""},
    }
    other = {"6": {"id": 6, "file_name": "none.jpg", "set": "val"}}
    imgs = {"5": {"id": 5, "set": "train", **image}}
    (tmp_path / "coco-text").write_text(json.dumps({"imgs": imgs | other, "anns": anns}))
    plain_anns = [
        {"image_id": 1, "segmentation": [flat], "iscrowd": 0, "utf8_string": '"A", b,c'},
        {"image_id": 1, "bbox": [38, 43, 882, 172], "iscrowd": 1, "utf8_string": ""},
    ]
    (tmp_path / "coco").write_text(json.dumps({"images": [{"id": 1, **image}], "annotations": plain_anns}))
    truth = [("0001", square, '"A", b,c', False, None, None), ("0002", square, "", True, None, None)]
    for form in NAMES[1:]:
        subset = "train" if form == "coco-text" else None
        out = tmp_path / f"{form}.json"
        convert(tmp_path / form, out, form, "competition", Options(images=images, subset=subset))
        assert plain(parse_words(out).words) == {"img_1.png": truth[: 1 if form == "sroie" else 2]}, form
        assert json.loads(out.read_text())["images"]["img_1.png"]["img_w"] == 1000


@pytest.mark.parametrize("key", ["mask", "polygon", "points"])
def test_outlines_by_each_name(key: str, tmp_path: Path) -> None:
    # COCO-Text 2, COCO-Text 1 and TextOCR, whose ids are words and whose images lie in folders.
    ann = {"image_id": "OpenImages_1", "bbox": [0, 0, 9, 9], key: [0, 0, 9, 1, 8, 9], "utf8_string": "x"}
    image = {"id": "OpenImages_1", "file_name": "train/1.jpg", "set": "train"}
    (tmp_path / "in").write_text(json.dumps({"imgs": {"OpenImages_1": image}, "anns": {"OpenImages_1_1": ann}}))
    done = convert(tmp_path / "in", tmp_path / "o.json", "coco-text", "competition")
    assert parse_words(tmp_path / "o.json").words["1.jpg"][0].polygon_V2.tolist() == [[0, 0], [9, 1], [8, 9]]
    assert [note.split(";")[0] for note in done.notes] == ["folder of an image is not held"]


def test_what_is_not_held_is_counted_once_with_its_first_place(tmp_path: Path) -> None:
    words = [
        Word("7", QUAD, "a", False, "Horizontal", ("ko", "en")),
        Word("8", QUAD, "b", True, None, ("en",)),
        Word("0003", QUAD, None),
    ]
    path, images = annotate(tmp_path / "s", {"b.jpg": words, "a.jpg": []})
    there, _, back = trip(path, images, "icdar")
    assert there.notes == (
        "place in the order of images is not held; read by name: 2 (first: image b.jpg)",
        "word id is not held; words are numbered anew: 2 (first: image b.jpg, word 7)",
        "word orientation is not held: 1 (first: image b.jpg, word 7)",
        "word language is not held: 2 (first: image b.jpg, word 7)",
        "text of a don't-care word is not held: 1 (first: image b.jpg, word 8)",
    )
    assert [(text, ignore) for _, _, text, ignore, _, _ in back["b.jpg"]] == [("a", False), ("", True), (None, False)]
    there, _, _ = trip(path, images, "coco-text")
    assert (
        there.notes[2] == "more than one language of a word is not held; the first is: 1 (first: image b.jpg, word 7)"
    )
    assert "missing transcription becomes an empty one" in trip(path, images, "paddle")[0].notes[-1]


@pytest.mark.parametrize(
    ("form", "word", "rule"),
    [
        ("icdar", Word("1", QUAD[:3], "a"), "word with 3 vertices, the format holds quads"),
        ("sroie", Word("1", np.vstack([QUAD, [[0.0, 7.0]]]), "a"), "word with more than 4 vertices"),
        ("icdar", Word("1", QUAD, "a\nb"), "line end in a transcription"),
        ("icdar", Word("1", QUAD, "###"), "text '###' means don't care"),
        ("paddle", Word("1", QUAD, "*"), r"text '\*' means don't care"),
        ("labelme", Word("1", QUAD, "###"), "text '###' means don't care"),
        ("sroie", Word("1", QUAD, "", True), "don't-care word, the format knows none"),
    ],
)
def test_what_would_change_a_word_needs_lossy(form: str, word: Word, rule: str, tmp_path: Path) -> None:
    path, images = annotate(tmp_path / "s", {"a.jpg": [word, word_after(word)]})
    with pytest.raises(DataError, match=rf"image a\.jpg, word 1.*\(1 more\): {rule}.*; mend it, or give --lossy"):
        trip(path, images, form)
    assert not (path.parent / f"away-{form}").exists()
    there, _, _ = trip(path, images, form, lossy=True)
    assert any("(first: image a.jpg, word 1" in note and ": 2 (" in note for note in there.notes)


def word_after(word: Word) -> Word:
    return Word("2", word.polygon_V2 + 1, word.transcription, word.ignore)


def test_a_polygon_becomes_the_smallest_rectangle(tmp_path: Path) -> None:
    # A hexagon in a 20 x 10 box that touches all four sides: the rectangle around it is the box.
    hexagon = np.array([[5.0, 0.0], [15.0, 0.0], [20.0, 5.0], [15.0, 10.0], [5.0, 10.0], [0.0, 5.0]])
    path, images = annotate(tmp_path / "s", {"a.jpg": [Word("0001", hexagon, "a")]})
    found = trip(path, images, "icdar", lossy=True)[2]["a.jpg"][0][1]
    assert sorted(map(tuple, np.round(found, 4))) == [(0, 0), (0, 10), (20, 0), (20, 10)]


def test_coordinates_are_rounded_once_on_demand(tmp_path: Path) -> None:
    path, images = annotate(tmp_path / "s", {"a.jpg": [Word("0001", QUAD + 0.5, "a")]})
    there, _, words = trip(path, images, "icdar", whole=True)
    # 1.5 -> 2, 2.5 -> 3, 31.0 and 30.5 -> 31, 12.75 -> 13, 12.5 -> 13: halves away from zero.
    assert words["a.jpg"][0][1] == [[2, 3], [31, 3], [31, 13], [2, 13]]
    assert there.notes[0].startswith("word with decimals in its coordinates; rounded to integers: 1")
    assert (path.parent / "away-icdar" / "gt_a.txt").read_text() == "2,3,31,3,31,13,2,13,a\n"


@pytest.mark.parametrize("turn", range(1, 9))
def test_frames_of_turned_images(turn: int, tmp_path: Path) -> None:
    """A black block of the stored pixels is found upright where the matrix says, in a picture read by `read_image`."""
    stored = np.full((20, 40, 3), 255, dtype=np.uint8)
    stored[4:8, 10:24] = 0
    box = np.array([[10.0, 4.0], [24.0, 4.0], [24.0, 8.0], [10.0, 8.0]])
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    wh = image_size(tmp_path / "a.png")
    assert stored_size(turn, wh) == (40, 20)
    upright = to_upright(box, turn, wh)
    rows, columns = np.nonzero(read_image(tmp_path / "a.png")[..., 0] == 0)
    assert_array_equal(upright.min(axis=0), [columns.min(), rows.min()])
    assert_array_equal(upright.max(axis=0), [columns.max() + 1, rows.max() + 1])
    assert_allclose(to_stored(upright, turn, wh), box, atol=0)
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "gt_a.txt").write_text("10,4,24,4,24,8,10,8,x\n")
    convert(labels, tmp_path / "t.json", "icdar", "competition", Options(images=tmp_path, frame="stored"))
    assert_array_equal(parse_words(tmp_path / "t.json").words["a.png"][0].polygon_V2, upright)
    convert(tmp_path / "t.json", tmp_path / "x", "competition", "icdar", Options(images=tmp_path, frame="stored"))
    assert (tmp_path / "x" / "gt_a.txt").read_text() == "10,4,24,4,24,8,10,8,x\n"
    convert(tmp_path / "t.json", tmp_path / "c", "competition", "coco", Options(images=tmp_path, frame="stored"))
    if turn >= 5:  # the size in the file tells that the wrong frame was named
        with pytest.raises(DataError, match=r"image a\.png: is 20 x 40 px upright.*say 40 x 20.*give --frame stored"):
            convert(tmp_path / "c", tmp_path / "u.json", "coco", "competition", Options(images=tmp_path))


def test_names_in_either_unicode_form_find_their_image(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    Image.new("RGB", (8, 8)).save(images / "\u1112\u1161\u11ab.png")  # decomposed, as macOS stores it
    (labels / "gt_한.txt").write_text("0,0,5,0,5,5,0,5,글\n", encoding="utf-8")
    convert(labels, tmp_path / "t.json", "icdar", "competition", Options(images=images))
    assert json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["images"].popitem()[1]["img_w"] == 8
