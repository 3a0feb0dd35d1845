"""Image files as a person sees them: EXIF orientation applied (tag 274, all eight values), RGB, 8 bits.

Shapes: H, W height and width in px, after orientation. Everything is decoded by Pillow, in training and in inference
alike: two decoders would differ in the last bits.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from detector.errors import DataError
from detector.types import UInt8

ORIENTATION = 274  # EXIF 2.32, table 4
# What turns the stored picture upright, for each value of the tag (1 is upright already).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# What Pillow raises on damaged files: by format it is any of these, also while it reads a header lazily.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, Image.DecompressionBombError)


def read_image(path: Path, at_least_wh: tuple[int, int] | None = None) -> UInt8:
    """The picture, RGB, (H, W, 3); transparency lies on white, 16 bits are scaled to 8.

    Args:
        path: the file.
        at_least_wh: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size where that is no smaller than this (w, h).

    Raises:
        DataError: the file is missing, damaged or no image.
    """
    try:
        with Image.open(path) as image:
            turn = _orientation(image)
            if at_least_wh is not None:
                image.draft(None, (at_least_wh[1], at_least_wh[0]) if turn >= 5 else at_least_wh)
            upright = image.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else image
            return np.array(_rgb(upright))
    except _DAMAGED as error:
        raise _unusable(path, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in px as a person sees it, from the header alone.

    Raises:
        DataError: the file is missing, damaged or no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (height, width) if _orientation(image) >= 5 else (width, height)
    except _DAMAGED as error:
        raise _unusable(path, error) from error


def orientation(path: Path) -> int:
    """The value of the EXIF tag 274, 1..8; 1 where there is none. From 5 on, width and height are stored swapped.

    Raises:
        DataError: the file is missing, damaged or no image.
    """
    try:
        with Image.open(path) as image:
            return _orientation(image)
    except _DAMAGED as error:
        raise _unusable(path, error) from error


def list_images(folder: Path) -> tuple[Path, ...]:
    """The image files of a folder (by suffix, hidden files and subfolders left out), `a_2` before `a_10`.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder; check the path")
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    files = [path for path in files if path.is_file()]
    if not files:
        raise DataError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))}); check the path")
    return tuple(sorted(files, key=lambda path: natural(path.name)))


class Shelf:
    """The files of an image folder by name, listed once.

    A name is found as it is, else by its composed form: macOS stores Hangul decomposed (NFD) where annotations have it
    composed (NFC), and either may have been written by the other.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: is not a folder of images; check the path")
        self.folder = folder
        self._exact = {path.name for path in folder.iterdir()}
        self._composed = {unicodedata.normalize("NFC", name): name for name in sorted(self._exact)}

    def find(self, name: str) -> Path | None:
        """The file of that name, or None."""
        found = name if name in self._exact else self._composed.get(unicodedata.normalize("NFC", name))
        if found is None or not (self.folder / found).is_file():
            return None
        return self.folder / found


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block (any of a dozen exceptions) is no damaged picture: shown as stored
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.clip(np.round(wide / 257.0), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layers = image.convert("RGBA")
        paper = Image.new("RGBA", layers.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, layers)
    return image if image.mode == "RGB" else image.convert("RGB")


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key under which `a_2` is before `a_10`."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)], name


def _unusable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such image; restore the file or remove its entry")
    if isinstance(error, UnidentifiedImageError):
        return DataError(f"{path}: is not an image that Pillow knows; replace the file or remove its entry")
    return DataError(f"{path}: cannot be decoded ({error}); replace the file or remove its entry")
