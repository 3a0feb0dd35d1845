"""A page with what is written there and what was found: true polygons green, predicted ones orange.

Coordinates are those of the image frame, px. Lines are drawn on the shrunk picture, so they stay 2 px thin.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from detector.errors import DataError
from detector.files import replacing
from detector.types import Detections, Float64, UInt8, Word

TRUE = (0, 160, 60)
FOUND = (255, 120, 0)
IGNORED = (130, 130, 130)
INK = (20, 20, 20)
LONGEST_SIDE_PX = 1400  # of the picture; a receipt's words are readable, a file takes about 300 kB
LINE_PX = 2
TEXT_PX = 22
Entry = tuple[tuple[int, int, int] | None, str]
Placed = tuple[int, int, tuple[int, int, int] | None, str]


def draw_page(
    image: Path | UInt8,
    words: Sequence[Word],
    found: Detections,
    out: Path,
    *,
    title: str = "",
) -> Path:
    """Write a picture of one page with true and predicted polygons and a legend above it.

    Args:
        image: a file (EXIF orientation is applied) or RGB uint8 (H, W, 3).
        out: `.png` or `.jpg`; written whole or not at all.
        title: first words of the legend, e.g. file name and score; any script that NanumGothic has.

    Raises:
        DataError: the image cannot be decoded.
    """
    picture = page_picture(image, words, found.polygons, title=title)
    with replacing(out) as draft:
        picture.save(draft, quality=88, optimize=True)
    return out


def page_picture(
    image: Path | UInt8,
    words: Sequence[Word],
    marked: Sequence[Float64],
    *,
    title: str = "",
    names: tuple[str, str] = ("true words", "predicted"),
    longest_px: int = LONGEST_SIDE_PX,
) -> Image.Image:
    """The page, shrunk to `longest_px`, with words green and `marked` polygons orange, and a legend above it.

    Args:
        image, title: as for `draw_page`.
        names: what the legend calls words and marked polygons; "" leaves these out of it.
    """
    page = _open(image)
    scale = min(1.0, longest_px / max(page.size))
    if scale < 1.0:
        page = page.resize(
            (max(1, round(page.width * scale)), max(1, round(page.height * scale))), Image.Resampling.BOX
        )
    pen = ImageDraw.Draw(page)
    for word in words:
        _outline(pen, word.polygon_V2 * scale, IGNORED if word.ignore else TRUE)
    for polygon in marked:
        _outline(pen, polygon * scale, FOUND)
    ignored = sum(word.ignore for word in words)
    entries = [
        (None, title),
        (TRUE, f"{names[0]}: {len(words) - ignored}"),
        (FOUND, f"{names[1]}: {len(marked)}" if names[1] else ""),
        (IGNORED, f"don't care: {ignored}" if ignored else ""),
    ]
    return _under_legend(page, [(colour, text) for colour, text in entries if text])


def _open(image: Path | UInt8) -> Image.Image:
    if isinstance(image, np.ndarray):
        return Image.fromarray(image).convert("RGB")
    try:
        with Image.open(image) as stream:
            return ImageOps.exif_transpose(stream).convert("RGB")
    except (OSError, ValueError) as error:
        raise DataError(f"{image}: cannot be decoded as an image ({error}); replace the file") from error


def _outline(pen: ImageDraw.ImageDraw, polygon_V2: Float64, colour: tuple[int, int, int]) -> None:
    points = [(float(x), float(y)) for x, y in polygon_V2]
    pen.line([*points, points[0]], fill=colour, width=LINE_PX, joint="curve")


def _under_legend(page: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    font = _font(TEXT_PX)
    width = max(page.width, 320)
    rows, lines = _flow(entries, font, width)
    height = lines * (TEXT_PX + 12) + 8
    sheet = Image.new("RGB", (width, page.height + height), "white")
    sheet.paste(page, (0, height))
    pen = ImageDraw.Draw(sheet)
    for x, line, colour, text in rows:
        y = 8 + line * (TEXT_PX + 12)
        if colour is not None:
            pen.rectangle((x, y + 2, x + TEXT_PX - 4, y + TEXT_PX - 2), outline=colour, width=3)
            x += TEXT_PX + 4
        pen.text((x, y - 3), text, fill=INK, font=font)
    return sheet


def _flow(entries: Sequence[Entry], font: ImageFont.FreeTypeFont, width: int) -> tuple[list[Placed], int]:
    """Entries from left to right, on a new line where one does not fit; (x, line, colour, text) and lines used."""
    placed: list[Placed] = []
    x, line = 10, 0
    for colour, text in entries:
        need = round(font.getlength(text)) + (TEXT_PX + 4 if colour else 0)
        if x > 10 and x + need > width - 10:
            x, line = 10, line + 1
        placed.append((x, line, colour, text))
        x += need + 24
    return placed, line + 1


@lru_cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    # The package is only located, not imported: importing it loads matplotlib.
    spec = find_spec("koreanize_matplotlib")
    assert spec is not None and spec.origin is not None, "koreanize-matplotlib is a requirement of this package"
    return ImageFont.truetype(str(Path(spec.origin).parent / "fonts" / "NanumGothic.ttf"), size_px)
