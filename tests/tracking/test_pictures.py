"""Pictures of pages, and the prose around runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import DataError
from detector.types import Detections, Word
from orchestrator.tracking import notes
from orchestrator.tracking.pictures import FOUND, IGNORED, LONGEST_SIDE_PX, TRUE, draw_page

BOX = np.array([[10.0, 10], [60, 10], [60, 30], [10, 30]])
NONE = Detections((), np.zeros(0))


def drawn(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=2).any())


def test_true_words_are_green_found_ones_orange_ignored_ones_grey(tmp_path: Path):
    page = np.full((400, 500, 3), 255, np.uint8)
    words = (Word("1", BOX), Word("2", BOX + 100, ignore=True))
    out = draw_page(page, words, Detections((BOX + 200,), np.ones(1)), tmp_path / "a.png", title="영수증")
    picture = drawn(out)
    body = picture[-400:]  # the legend stands above the page, which keeps its size
    assert picture.shape[1] == 500
    # Lines are 2 px wide and centred on the polygon: the page's pixel (10, 10) belongs to the first word's corner.
    assert tuple(body[10, 30]) == TRUE
    assert tuple(body[110, 130]) == IGNORED
    assert tuple(body[210, 230]) == FOUND
    assert (body[300:, :100] == 255).all()


def test_hangul_of_the_title_has_glyphs(tmp_path: Path):
    page = np.full((50, 600, 3), 255, np.uint8)
    hangul = drawn(draw_page(page, (), NONE, tmp_path / "a.png", title="영수"))
    other = drawn(draw_page(page, (), NONE, tmp_path / "b.png", title="증명"))
    assert (hangul != other).any(), "two missing glyphs look alike"


def test_large_pages_are_shrunk_with_their_polygons(tmp_path: Path):
    page = np.full((2 * LONGEST_SIDE_PX, 800, 3), 255, np.uint8)
    picture = drawn(draw_page(page, (Word("1", BOX * 10),), NONE, tmp_path / "a.png"))
    body = picture[-LONGEST_SIDE_PX:]
    assert picture.shape[1] == 400
    assert tuple(body[50, 100]) == TRUE  # (200, 100) on the page, at half the scale


def test_exif_orientation_is_applied_and_bad_files_are_named(tmp_path: Path):
    image = Image.new("RGB", (400, 600), "white")
    exif = image.getexif()
    exif[274] = 6  # turned by 90 degrees
    image.save(tmp_path / "a.jpg", exif=exif)
    picture = drawn(draw_page(tmp_path / "a.jpg", (), NONE, tmp_path / "out" / "a.jpg"))
    assert picture.shape[1] == 600
    assert not has(picture[-400:], TRUE)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.jpg: cannot be decoded"):
        draw_page(tmp_path / "bad.jpg", (), NONE, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_text_of_a_plan_cannot_become_markup():
    assert notes.escape("<img onerror=x>\n| a") == "&lt;img onerror=x&gt; \\| a"
    assert notes.code("a > `b`") == "`a > 'b'`"
    assert notes.table(("a", "b"), [("x|y", 0.123456789)]) == "| a | b |\n| --- | --- |\n| x\\|y | 0.123457 |\n"
