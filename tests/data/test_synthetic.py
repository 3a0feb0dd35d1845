"""Synthetic receipts: equal bytes for equal seeds, sets that grow, and words that lie where the annotations say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.data.formats import Reading, image_size, read_annotations, read_image
from detector.data.synthetic import make_pages
from detector.data.synthetic_text import HANGUL_FACES, LATIN_FACES, font_file
from detector.errors import InputError
from detector.geometry import area


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reading]:
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, make_pages(folder, 8, seed=11)


def test_what_is_returned_is_what_is_on_disk(made: tuple[Path, Reading]) -> None:
    folder, reading = made
    again = read_annotations(folder / "annotations.json", folder / "images")
    assert again.counts == reading.counts and reading.notes == ()
    assert [page.name for page in again.pages] == [f"page_{index:05d}.jpg" for index in range(8)]
    assert {path.name for path in (folder / "images").iterdir()} == {page.name for page in again.pages}


def test_pages_are_as_asked(made: tuple[Path, Reading]) -> None:
    pages = made[1].pages
    assert all(max(image_size(page.path)) == 640 for page in pages)
    assert all(15 <= len(page.words) <= 66 for page in pages)
    heights = [np.linalg.norm(word.polygon_V2[3] - word.polygon_V2[0]) for page in pages for word in page.words]
    low, high = np.percentile(heights, [2, 98])
    assert low >= 12 and high <= 34  # px; shop names are the largest
    text = "".join(word.transcription or "" for page in pages for word in page.words)
    assert any("가" <= sign <= "힣" for sign in text) and any(sign.isascii() and sign.isalpha() for sign in text)


def test_equal_bytes_and_a_set_that_grows(made: tuple[Path, Reading], tmp_path: Path) -> None:
    folder, reading = made
    make_pages(tmp_path, 3, seed=11)
    for page in reading.pages[:3]:
        assert (tmp_path / "images" / page.name).read_bytes() == page.path.read_bytes()
    make_pages(tmp_path, 1, seed=12, prefix="other")
    other = (tmp_path / "images" / "other_00000.jpg").read_bytes()
    assert other != (folder / "images" / "page_00000.jpg").read_bytes()


def test_words_lie_inside_the_picture_on_ink_and_apart(made: tuple[Path, Reading]) -> None:
    for page in made[1].pages:
        grey = read_image(page.path).astype(float).mean(axis=2)
        height, width = grey.shape
        for word in page.words:
            assert (word.polygon_V2 >= 0).all() and (word.polygon_V2 <= (width, height)).all()
            assert area(word.polygon_V2) > 20
            if word.ignore:
                assert word.transcription is None
                continue
            (left, top), (right, bottom) = word.polygon_V2.min(axis=0), word.polygon_V2.max(axis=0)
            part = grey[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
            assert np.ptp(part) > 40  # ink on paper
        centres = np.array([word.polygon_V2.mean(axis=0) for word in page.words])
        distances = np.hypot(*(centres[:, None] - centres[None]).T)
        assert distances[~np.eye(len(centres), dtype=bool)].min() > 8


def test_some_pages_have_dont_care_words(tmp_path: Path) -> None:
    reading = make_pages(tmp_path, 24, seed=1, size=160)
    smeared = [page for page in reading.pages if any(word.ignore for word in page.words)]
    assert 1 <= len(smeared) <= 12 and 0 < reading.counts["ignored"] <= 3 * len(smeared)


def test_wrong_numbers_are_refused(tmp_path: Path) -> None:
    for wrong in ({"count": 0}, {"count": 1, "size": 20}, {"count": 1, "words": (9, 2)}, {"count": 1, "seed": -1}):
        with pytest.raises(InputError, match="synthetic pages"):
            make_pages(tmp_path, **{"seed": 0, **wrong})
    assert not (tmp_path / "images").exists()


def test_fonts_come_with_their_packages() -> None:
    assert all(font_file(face).is_file() for face in (*LATIN_FACES, *HANGUL_FACES))
    with pytest.raises(InputError, match="install koreanize-matplotlib"):
        font_file("NanumNone")
