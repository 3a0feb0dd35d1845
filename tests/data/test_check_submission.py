"""A submission looked at before it is sent: one message for each thing that is wrong, and none for what is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.data.check_submission import Checked, check_submission, expected
from detector.data.formats import read_annotations, read_images, write_submission
from detector.data.index import open_annotations
from detector.data.word_counts import WordCounts, pooled, word_counts
from detector.errors import DataError
from detector.types import Page, Word

BOX = "1 2 30 2 30 12 1 12"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, ...]:
    folder = tmp_path_factory.mktemp("images")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (100, 60)).save(folder / name)
    return read_images(folder)


def checked(tmp_path: Path, pages: tuple[Page, ...], lines: str, training: WordCounts | None = None) -> Checked:
    path = tmp_path / "s.csv"
    path.write_text("filename,polygons\n" + lines)
    return check_submission(path, pages, training)


TWO = WordCounts(pages=100, mean=2.0, sd=0.0, least=1, most=3)


def test_what_is_right_is_passed_over(tmp_path: Path, pages: tuple[Page, ...]) -> None:
    found = checked(tmp_path, pages, f"b.png,{BOX}|0 0 100 0 100 60 0 60\na.png,{BOX}\n", TWO)
    assert (found.images, found.rows, found.boxes, found.findings, found.sound) == (2, 2, 3, (), True)


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        (f"a.png,{BOX}\n", "s.csv: image b.png: every image must have a line"),
        (f"a.png,{BOX}\nb.png,{BOX}\nc.png,\n", "s.csv:4: image c.png: is no image of the set; remove the line"),
        (
            f"a.png,{BOX}\nb.png,{BOX}|1.5 2 30 2 30.0 12 1 12\n",
            "s.csv:3: image b.png: polygon 2: coordinates must be integers, got 1.5; round each",
        ),
        (f"a.png,{BOX}\nb.png,1 2 30 2 30 12 1 1e1\n", "integers, got 1e1"),
        (
            f"a.png,{BOX}\nb.png,1 2 101 2 101 61 1 12\n",
            "image b.png: polygon 1: 0 <= x <= 100 and 0 <= y <= 60 must hold, got 101 2; clip it",
        ),
        (
            f"a.png,{BOX}\nb.png,-1 2 30 2 30 12 1 12|-2 2 30 2 30 12 1 12\n",
            "got -1 2; clip it to the image (1 more",
        ),
        (f"a.png,{BOX}\nb.png,1 2 30 2 30 12\n", "polygon 1: 4 vertices at least, the scorer skips others, got 3"),
        (
            f"a.png,{BOX}\nb.png,{'|'.join([BOX] * 501)}\n",
            "500 boxes at most, the scorer ignores all after",
        ),
    ],
)
def test_each_fault_has_its_message(tmp_path: Path, pages: tuple[Page, ...], lines: str, want: str) -> None:
    found = checked(tmp_path, pages, lines)
    assert not found.sound
    told = [line for line in found.lines() if "notice" not in line]
    assert len(told) == 1 and want in told[0], told


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        (f"a.png,{BOX}\nb.png,\n", "s.csv:3: image b.png: notice: no box, and no training page had fewer than 1 words"),
        (f"a.png,{BOX}\nb.png,1 2 30 2 50 2 70 2\n", "notice: polygon 1: has no area (1 2 30 2 50 2 70 2)"),
        (f"a.png,{BOX}\nb.png,{BOX}|{BOX}\n", "notice: polygon 2: is polygon 1 again; keep one"),
    ],
)
def test_notices_are_no_faults(tmp_path: Path, pages: tuple[Page, ...], lines: str, want: str) -> None:
    found = checked(tmp_path, pages, lines, WordCounts(100, 1.0, 0.5, 1, 3))
    assert found.sound and want in "\n".join(found.lines())
    assert "nothing is known of the training set's words" in "\n".join(checked(tmp_path, pages, lines).lines())


def test_the_number_of_boxes_is_held_against_the_training_set(tmp_path: Path, pages: tuple[Page, ...]) -> None:
    # 2 words a page without scatter: 2 / 1.5 = 1.33 to 3 boxes on any number of images.
    assert expected(TWO, 2) == (2 / 1.5, 3.0)
    boxes = [f"{x} 2 30 2 30 12 1 12" for x in range(4)]
    for each, sound in ((1, False), (2, True), (3, True), (4, False)):
        field = "|".join(boxes[:each])
        found = checked(tmp_path, pages, f"a.png,{field}\nb.png,{field}\n", TWO)
        assert found.sound is sound
        if not sound:
            assert (
                f"1.3 to 3.0 boxes an image are sane after training on 2.0 words a page, got {each}.0"
                in (found.lines()[0])
            )
    # With a scatter of 8 a mean over 16 images has a standard error of 2: 3 of them are added.
    low, high = expected(WordCounts(100, 30.0, 8.0, 10, 50), 16)
    assert (low, high) == (30 / 1.5 - 6, 30 * 1.5 + 6)


def test_many_findings_are_counted(tmp_path: Path, pages: tuple[Page, ...]) -> None:
    lines = "".join(f"{number}.png,\n" for number in range(9)) + f"a.png,{BOX}\nb.png,{BOX}\n"
    told = checked(tmp_path, pages, lines, TWO).lines(most=3)
    assert [line for line in told if "more images" in line] == [f"{tmp_path / 's.csv'}: unknown: 6 more images"]
    assert sum("is no image of the set" in line for line in told) == 3


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 60), min_size=8, max_size=16), max_size=6))
def test_what_is_written_from_inside_an_image_is_never_a_fault(
    tmp_path_factory: pytest.TempPathFactory, pages: tuple[Page, ...], polygons: list[list[int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "inside.csv"
    some = [np.array(values[: len(values) // 2 * 2], dtype=float).reshape(-1, 2) for values in polygons]
    write_submission(path, {page.name: some for page in pages})
    assert check_submission(path, pages).sound


def test_a_file_that_breaks_the_format_is_refused(tmp_path: Path, pages: tuple[Page, ...]) -> None:
    with pytest.raises(DataError, match=r"s\.csv:2: must have 2 fields, got 3"):
        checked(tmp_path, pages, "a.png,1 2,3\n")


def test_words_are_counted_alike_in_an_index(real_data: Path, tmp_path: Path) -> None:
    mini = real_data / "sroie_mini"
    plain = read_annotations(mini / "val.json", mini / "images").pages
    counts = word_counts(plain)
    index = open_annotations(mini / "val.json", mini / "images", tmp_path).pages
    assert counts is not None and (counts.pages, counts.least, counts.most) == (16, 28, 82)
    assert word_counts(index) == counts == WordCounts.from_json(counts.as_json())
    parts = [WordCounts.of(len(page.words) for page in part) for part in (plain[:5], plain[5:])]
    both = pooled([*parts, None])
    assert both is not None and both.pages == 16 and both.mean == pytest.approx(counts.mean)
    assert both.sd == pytest.approx(counts.sd) and (both.least, both.most) == (28, 82)
    assert word_counts(()) is pooled([]) is WordCounts.from_json({"pages": 1}) is WordCounts.from_json(None) is None
    assert word_counts([Page("a", Path("a"), (Word("1", np.zeros((3, 2))),))]) == WordCounts(1, 1.0, 0.0, 1, 1)
