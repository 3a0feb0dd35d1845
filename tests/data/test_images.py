"""Pictures as a person sees them, whatever the file says about its orientation, depth or transparency."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.data.images import Shelf, image_size, list_images, read_image
from detector.errors import DataError

# EXIF 2.32, table 4: where the stored row 0 and column 0 are seen. Row 0 at a side: rows and columns change places.
SEEN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def upright() -> np.ndarray:
    """48 x 32, in 8 px blocks (so that JPEG keeps them), with no symmetry."""
    blocks = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1)


def stored(picture: np.ndarray, orientation: int) -> np.ndarray:
    row, column = SEEN[orientation]
    if row in ("left", "right"):
        picture = picture.transpose(1, 0, 2)
    if row in ("bottom", "right"):
        picture = picture[::-1]
    if column in ("bottom", "right"):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def write_jpeg(path: Path, picture: np.ndarray, orientation: int | None) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    Image.fromarray(picture).save(path, quality=98, subsampling=0, exif=exif)


@pytest.mark.parametrize("orientation", sorted(SEEN))
def test_every_orientation_comes_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    write_jpeg(path, stored(upright(), orientation), orientation)
    picture = read_image(path)
    assert picture.shape == (32, 48, 3) and picture.dtype == np.uint8
    assert np.abs(picture.astype(int) - upright()).max() <= 8  # JPEG's own loss
    assert image_size(path) == (48, 32)
    picture[0, 0] = 0  # writable


@pytest.mark.parametrize("orientation", [None, 0, 9])
def test_a_missing_or_unknown_orientation_is_upright(tmp_path: Path, orientation: int | None) -> None:
    path = tmp_path / "a.jpg"
    write_jpeg(path, upright(), orientation)
    assert read_image(path).shape == (32, 48, 3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_draft_is_no_smaller_than_asked(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    write_jpeg(path, stored(np.tile(upright(), (8, 8, 1)), orientation), orientation)  # 384 x 256
    assert read_image(path, at_least_wh=(180, 120)).shape == (128, 192, 3)
    assert read_image(path, at_least_wh=(193, 120)).shape == (256, 384, 3)


def test_other_modes(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 1, 255]
    clear = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], dtype=np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png")[0].tolist() == [[255, 255, 255], [10, 20, 30]]
    for mode in ("L", "1", "P", "CMYK", "LA"):
        path = tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (5, 4)).save(path)
        assert read_image(path).shape == (4, 5, 3)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    write_jpeg(whole, np.tile(upright(), (4, 4, 1)), None)
    cut, text, empty = tmp_path / "cut.jpg", tmp_path / "text.jpg", tmp_path / "empty.png"
    cut.write_bytes(whole.read_bytes()[:2000])
    text.write_text("no picture")
    empty.write_bytes(b"")
    for path in (cut, text, empty, tmp_path / "none.jpg"):
        with pytest.raises(DataError, match=path.name):
            read_image(path)
    for path in (text, empty, tmp_path / "none.jpg"):
        with pytest.raises(DataError, match=path.name):
            image_size(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_is_no_damaged_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(upright()).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\x01" * 20)
    assert read_image(path).shape == (32, 48, 3) and image_size(path) == (48, 32)


def test_a_folder_is_listed_as_people_count(tmp_path: Path) -> None:
    for name in ("a_10.jpg", "a_2.JPG", "b.png", ".hidden.jpg", "notes.txt", "x.jpg/y.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_images(tmp_path)] == ["a_2.JPG", "a_10.jpg", "b.png"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="is not a folder"):
        list_images(tmp_path / "none")
    with pytest.raises(DataError, match="holds no image"):
        list_images(empty)


def test_composed_and_decomposed_names_find_each_other(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "영수증.jpg")
    decomposed = unicodedata.normalize("NFD", composed)
    (tmp_path / decomposed).write_bytes(b"")
    found = Shelf(tmp_path).find(composed)
    assert found is not None and found.name == decomposed
    (tmp_path / composed).write_bytes(b"")
    both = Shelf(tmp_path)
    assert [both.find(name) for name in (composed, decomposed)] == [tmp_path / composed, tmp_path / decomposed]
    assert both.find("다른.jpg") is None
