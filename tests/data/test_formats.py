"""Annotations: what is legal, what is dropped and counted, what is refused with its place; and exact writing."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image

from detector.data import formats
from detector.errors import DataError
from detector.types import Page, Word

SQUARE = [[0, 0], [10, 0], [10, 5.5], [0, 5.5]]


def write(folder: Path, images: Any, raw: str | None = None) -> Path:
    path = folder / "train.json"
    path.write_text(json.dumps({"images": images}) if raw is None else raw, encoding="utf-8")
    return path


def draw(folder: Path, *names: str, wh: tuple[int, int] = (40, 30)) -> Path:
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", wh).save(images / name)
    return images


def one_word(**changes: Any) -> dict[str, Any]:
    return {"a.jpg": {"words": {"0001": {"points": SQUARE, **changes}}}}


def test_everything_that_is_legal(tmp_path: Path) -> None:
    images = {
        "가.jpg": {"img_w": 7, "img_h": None, "words": {"1": {"points": SQUARE, "transcription": "합계"}}},
        "b.jpg": {"words": {}},
        "c.jpg": {},
        "d.jpg": {
            "words": {
                "x": {"points": [[-5, 0], [99, 1], [3, 80]], "illegibility": True, "orientation": "Horizontal"},
                "y": {"points": SQUARE, "language": ["ko", "en"], "transcription": None, "illegibility": None},
            }
        },
    }
    reading = formats.read_annotations(write(tmp_path, images), draw(tmp_path, *images))
    assert [page.name for page in reading.pages] == list(images)
    assert reading.notes == ()
    assert reading.counts == {
        "pages": 4,
        "words": 3,
        "ignored": 1,
        "without_words": 2,
        "no_points": 0,
        "few_vertices": 0,
        "no_area": 0,
        "unknown_keys": 0,
    }
    x, y = reading.pages[3].words
    assert (x.id, x.ignore, x.orientation, x.language) == ("x", True, "Horizontal", None)
    assert (y.ignore, y.transcription, y.language) == (False, None, ("ko", "en"))
    assert_array_equal(x.polygon_V2, [[-5, 0], [99, 1], [3, 80]])
    assert reading.pages[0].words[0].polygon_V2.dtype == np.float64


def test_what_is_dropped_is_counted_and_named(tmp_path: Path) -> None:
    words = {
        "1": {"points": SQUARE},
        "2": {"points": []},
        "3": {"points": SQUARE[:2]},
        "4": {"points": [[0, 0], [5, 5], [9, 9]]},
        "5": {"points": [[3, 3], [3, 3], [3, 3], [3, 3]], "colour": "red"},
    }
    reading = formats.read_annotations(write(tmp_path, {"a.jpg": {"words": words}}), draw(tmp_path, "a.jpg"))
    assert [word.id for word in reading.pages[0].words] == ["1"]
    counts = {key: reading.counts[key] for key in ("no_points", "few_vertices", "no_area", "unknown_keys")}
    assert counts == {"no_points": 1, "few_vertices": 1, "no_area": 2, "unknown_keys": 1}
    assert reading.notes == (
        "image a.jpg, word 2: has no points; dropped",
        "image a.jpg, word 3: has fewer than 3 vertices; dropped",
        "image a.jpg, word 4: has no area; dropped",
        "image a.jpg, word 5: key 'colour' is not part of the format; not used",
        "image a.jpg, word 5: has no area; dropped",
    )


@pytest.mark.parametrize(
    "points",
    [
        "[[0, 0], [NaN, 1], [2, 2]]",
        "[[0, 0], [Infinity, 1], [2, 2]]",
        "[[0, 0], [1e999, 1], [2, 2]]",
        "[[0, 0], [" + "9" * 400 + ", 1], [2, 2]]",
        "[[0, 0], [true, 1], [2, 2]]",
        '[[0, 0], ["1", 1], [2, 2]]',
        "[[0, 0], [1], [2, 2]]",
        "[[0, 0], [1, 2, 3], [2, 2]]",
        "[0, 0, 1, 2, 3, 3]",
        "[[0, 0], null, [2, 2]]",
        "null",
        '"0 0 1 1 2 2"',
        "[[[0, 0], [1, 1], [2, 0]]]",
    ],
)
def test_impossible_points_name_file_image_and_word(tmp_path: Path, points: str) -> None:
    path = write(tmp_path, None, raw=f'{{"images": {{"a.jpg": {{"words": {{"0007": {{"points": {points}}}}}}}}}}}')
    with pytest.raises(DataError, match=r"train\.json: image a\.jpg, word 0007: "):
        formats.read_words(path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (one_word(illegibility="no"), "word 0001: `illegibility` must be true or false, got a string"),
        (one_word(illegibility=1), "word 0001: `illegibility`"),
        (one_word(transcription=5), "word 0001: `transcription` must be a string, got a number"),
        (one_word(language="ko"), "word 0001: `language`"),
        (one_word(language=[1]), "word 0001: `language`"),
        ({"a.jpg": {"words": []}}, "image a.jpg: `words` must be an object"),
        ({"a.jpg": {"words": {"1": {}}}}, "image a.jpg, word 1: must be an object with `points`"),
        ({"a.jpg": {"words": {"1": SQUARE}}}, "image a.jpg, word 1: must be an object with `points`, got a list"),
        ({"a.jpg": []}, "image a.jpg: must be an object"),
        ({"a.jpg": {"img_w": "960"}}, "image a.jpg: `img_w` must be a number"),
        ([], "must be"),
        ({"../a.jpg": {}}, "bare file name"),
        ({"/etc/passwd": {}}, "bare file name"),
        ({"sub/a.jpg": {}}, "bare file name"),
        ({"..\\a.jpg": {}}, "bare file name"),
        ({"..": {}}, "bare file name"),
        ({"": {}}, "bare file name"),
        ({"\ud800.jpg": {}}, "bare file name"),
    ],
)
def test_other_faults_name_their_place(tmp_path: Path, images: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.read_annotations(write(tmp_path, images), draw(tmp_path, "a.jpg"))
    assert message in str(caught.value) and str(caught.value).startswith(str(tmp_path / "train.json"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"images": {"a.jpg": {}, "b.jpg": {}, "a.jpg": {}}}', "images: key 'a.jpg' is there twice"),
        (
            '{"images": {"a.jpg": {"words": {"1": {"points": []}, "1": {"points": []}}}}}',
            "a.jpg / words: key '1' is there",
        ),
        (
            '{"images": {"a.jpg": {"words": {"1": {"points": [], "points": []}}}}}',
            "words / 1: key 'points' is there twice",
        ),
        ('{"images": {}, "images": {}}', "the top level: key 'images' is there twice"),
        ('{"images": {"a.jpg": }}', "train.json:1:22: is not JSON"),
        ("[" * 100_000, "is not readable JSON"),
        ("[1]", 'must be {"images"'),
        ("", "is not JSON"),
    ],
)
def test_broken_files_name_their_place(tmp_path: Path, raw: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.read_words(write(tmp_path, None, raw))
    assert message in str(caught.value)


def test_a_duplicate_inside_an_overwritten_twin_is_found(tmp_path: Path) -> None:
    # The first "a" has a repeated key and is itself repeated: its parent names the fault.
    raw = '{"images": {"a": {"words": {}, "words": {}}, "a": {}}}'
    with pytest.raises(DataError, match="images: key 'a' is there twice"):
        formats.read_words(write(tmp_path, None, raw))


def test_unreadable_files(tmp_path: Path) -> None:
    latin = tmp_path / "latin.json"
    latin.write_bytes('{"images": {"ä.jpg": {}}}'.encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 at byte 13"):
        formats.read_words(latin)
    with pytest.raises(DataError, match="cannot be read"):
        formats.read_words(tmp_path / "none.json")
    with pytest.raises(DataError, match="is not a folder of images"):
        formats.read_annotations(write(tmp_path, {}), tmp_path / "none")


def test_listed_files_that_are_missing_are_one_error(tmp_path: Path) -> None:
    images = {name: {} for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")}
    with pytest.raises(DataError, match=r"image b\.jpg: listed but not in .*images \(2 more\); remove the entries"):
        formats.read_annotations(write(tmp_path, images), draw(tmp_path, "a.jpg"))
    with pytest.raises(DataError, match=r"image d\.jpg: listed but not in .*images; remove"):
        formats.read_annotations(write(tmp_path, images), draw(tmp_path, "a.jpg", "b.jpg", "c.jpg"))


def test_unicode_forms_of_a_name(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "영수증.jpg") for form in ("NFC", "NFD"))
    folder = draw(tmp_path, decomposed)
    (page,) = formats.read_annotations(write(tmp_path, {composed: {}}), folder).pages
    assert page.name == composed and page.path.name == decomposed
    with pytest.raises(DataError, match="is the same file as"):
        formats.read_annotations(write(tmp_path, {composed: {}, decomposed: {}}), folder)


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
COORDINATES = st.floats(-1e6, 1e6)


@st.composite
def words(draw_: st.DrawFn, key: str) -> Word:
    shift, step = draw_(st.tuples(COORDINATES, COORDINATES)), draw_(st.floats(0.01, 1e3))
    corners = np.array([[0.0, 0.0], [1.0, 0.1], [0.9, 1.0], [0.1, 0.7]])[: draw_(st.integers(3, 4))]
    language = draw_(st.none() | st.lists(TEXT, max_size=2))
    return Word(
        key,
        shift + step * corners,
        draw_(st.none() | TEXT),
        draw_(st.booleans()),
        draw_(st.none() | TEXT),
        None if language is None else tuple(language),
    )


@settings(deadline=None)
@given(st.data())
def test_written_and_read_again_is_the_same(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "round" / "pages.json"
    keys = data.draw(st.lists(TEXT, max_size=3, unique=True))
    page = Page("그림 1.jpg", path.parent / "none.jpg", tuple(data.draw(words(key)) for key in keys))
    formats.write_annotations(path, [page])
    (again,) = formats.read_words(path).values()
    assert len(again) == len(page.words)
    for ours, theirs in zip(page.words, again, strict=True):
        assert_array_equal(ours.polygon_V2, theirs.polygon_V2)
        for field in ("id", "transcription", "ignore", "orientation", "language"):
            assert getattr(ours, field) == getattr(theirs, field)


def test_written_sizes_are_as_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    folder = draw(tmp_path, "a.jpg")
    Image.new("RGB", (40, 30)).save(folder / "a.jpg", exif=exif)
    formats.write_annotations(tmp_path / "out.json", formats.read_images(folder))
    assert (tmp_path / "out.json").read_text() == '{"images": {"a.jpg": {"img_w": 30, "img_h": 40, "words": {}}}}\n'
    twice = [Page("a.jpg", folder / "a.jpg")] * 2
    with pytest.raises(ValueError, match="twice"):
        formats.write_annotations(tmp_path / "out.json", twice)


def test_digest_covers_names_bytes_words_and_order(tmp_path: Path) -> None:
    folder = draw(tmp_path, "a.jpg", "b.jpg")
    pages = formats.read_annotations(
        write(tmp_path, {"a.jpg": {"words": {"1": {"points": SQUARE}}}, "b.jpg": {}}), folder
    ).pages
    first = formats.pages_digest(pages)
    assert len(first) == 16 and first == formats.pages_digest(pages)
    word = pages[0].words[0]
    others = [
        pages[::-1],
        pages[:1],
        (Page("c.jpg", pages[0].path, pages[0].words), pages[1]),
        (Page("a.jpg", pages[0].path), pages[1]),
        (Page("a.jpg", pages[0].path, (Word("1", word.polygon_V2 + 1e-9),)), pages[1]),
        (Page("a.jpg", pages[0].path, (Word("1", word.polygon_V2, ignore=True),)), pages[1]),
    ]
    digests = {formats.pages_digest(other) for other in others}
    Image.new("RGB", (40, 30), "red").save(folder / "a.jpg")
    assert len({first, *digests, formats.pages_digest(pages)}) == 8
    (folder / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"b\.jpg"):
        formats.pages_digest(pages)


def test_real_receipts_read_without_a_note(real_data: Path) -> None:
    # data/README.md: 48 + 16 pages with 2,554 + 813 boxes.
    for name, pages, boxes in (("train", 48, 2554), ("val", 16, 813)):
        folder = real_data / "sroie_mini"
        reading = formats.read_annotations(folder / f"{name}.json", folder / "images")
        assert (reading.counts["pages"], reading.counts["words"], reading.notes) == (pages, boxes, ())


def test_reading_formats_loads_nothing_slow() -> None:
    code = "import sys, detector.data.formats; print({'torch', 'numba', 'albumentations'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
