"""Synthetic receipts: photographs of rendered text whose word polygons are known exactly.

A page is a function of (seed, index): a count can grow without changing the pages that are there. Bytes are the same on
one machine with one set of packages; fonts and JPEG coders differ from release to release.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from detector.data.formats import Reading, read_annotations, write_annotations
from detector.data.synthetic_paper import clouds, lay_down, paper_light, photograph, printed, room_light, table
from detector.data.synthetic_text import SUPERSAMPLE, Line, SetWord, set_lines, write_lines
from detector.errors import InputError
from detector.files import write_bytes
from detector.geometry import to_centres, transform
from detector.types import Float32, Float64, Page, UInt8, Word

# Share of the pages on which a few words are smeared beyond reading (and so don't-care).
SMEARED_PAGES = 0.2


def make_pages(
    folder: Path, count: int, seed: int, size: int = 640, prefix: str = "page", words: tuple[int, int] = (20, 60)
) -> Reading:
    """Write `count` receipts to folder/images/*.jpg and their words to folder/annotations.json; return what they hold.

    Args:
        folder: is made; pages of the same names are replaced, the annotations come last.
        count: number of pages.
        seed: of everything.
        size: longest side of a picture in px; at 640, words are about 14 to 26 px high.
        prefix: names are prefix_00000.jpg and so on.
        words: about the fewest and the most words wanted on a page; what a page has no room for is left out.

    Raises:
        InputError: a number is out of range, or a font is missing.
    """
    if count < 1 or size < 128 or not 1 <= words[0] <= words[1] or seed < 0:
        raise InputError(
            f"synthetic pages: `count >= 1`, `size >= 128`, `seed >= 0` and `1 <= words[0] <= words[1]` must hold, "
            f"got count={count}, size={size}, seed={seed}, words={words}; mend the number"
        )
    images, pages = folder / "images", []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        picture, page_words = draw_page(rng, size, words)
        jpeg = io.BytesIO()
        Image.fromarray(picture).save(jpeg, "JPEG", quality=int(rng.integers(60, 93)))
        path = images / f"{prefix}_{index:05d}.jpg"
        write_bytes(path, jpeg.getvalue())
        pages.append(Page(path.name, path, page_words))
    write_annotations(folder / "annotations.json", pages)
    return read_annotations(folder / "annotations.json", images)


def draw_page(rng: np.random.Generator, size: int, words: tuple[int, int]) -> tuple[UInt8, tuple[Word, ...]]:
    """One receipt: the picture, (size, W, 3) with W < size, and its words in reading order."""
    hw = size, round(size * float(rng.uniform(0.6, 0.8)))
    em = SUPERSAMPLE * size * float(rng.uniform(0.027, 0.034))
    margin = em * float(rng.uniform(0.8, 1.6))
    width = SUPERSAMPLE * hw[1] * float(rng.uniform(0.86, 0.95))
    pitch = em * float(rng.uniform(1.25, 1.5))
    room = (SUPERSAMPLE * 0.96 * size - 2.0 * margin) / pitch
    lines = write_lines(rng, int(rng.integers(words[0], words[1] + 1)), room)
    placed, others, height = set_lines(rng, lines, width - 2.0 * margin, em, pitch)
    sheet_hw = round(height + 2.0 * margin), round(width)
    ink, smeared = _print(rng, placed, others, sheet_hw, margin, em)
    matrix = _lie(rng, sheet_hw, hw)
    seen, light, cover = (
        cv2.warpPerspective(layer, to_centres(matrix), hw[::-1], borderMode=border)
        for layer, border in (
            (ink, cv2.BORDER_CONSTANT),
            (paper_light(rng, sheet_hw), cv2.BORDER_REPLICATE),  # edges must not darken: the cover fades them out
            (np.ones(sheet_hw, np.float32), cv2.BORDER_CONSTANT),
        )
    )
    scene = lay_down(rng, printed(rng, seen, light), cover, table(rng, hw))
    picture = photograph(rng, scene * room_light(rng, hw)[..., None])
    return picture, tuple(_word(index, word, margin, matrix, index in smeared) for index, word in enumerate(placed))


def _word(index: int, word: SetWord, margin: float, matrix: Float64, ignore: bool) -> Word:
    left, top, right, bottom = word.box
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) + margin
    polygon = np.round(transform(corners, matrix), 2)
    return Word(f"{index + 1:04d}", polygon, None if ignore else word.text, ignore)


def _print(
    rng: np.random.Generator,
    placed: list[SetWord],
    others: list[tuple[Line, float]],
    hw: tuple[int, int],
    margin: float,
    em: float,
) -> tuple[Float32, set[int]]:
    """The ink of a sheet, (H, W), 0 to 1, and which words are smeared."""
    canvas = Image.new("L", hw[::-1], 0)
    pen = ImageDraw.Draw(canvas)
    for word in placed:
        pen.text((word.origin[0] + margin, word.origin[1] + margin), word.text, fill=255, font=word.font, anchor="ls")
    for line, top in others:
        _draw_other(rng, pen, line, top + margin, (margin, hw[1] - margin), em)
    ink = np.asarray(canvas, dtype=np.float32) / np.float32(255.0)
    ink *= np.clip(float(rng.uniform(0.75, 1.0)) + clouds(rng, hw, 5, 0.06), 0.45, 1.0)  # a worn print head
    smeared: set[int] = set()
    if rng.random() < SMEARED_PAGES:
        smeared = {int(index) for index in rng.choice(len(placed), size=min(3, len(placed)), replace=False)}
    for index in sorted(smeared):
        left, top, right, bottom = (round(value + margin) for value in placed[index].box)
        part = ink[max(0, top) : bottom, max(0, left) : right]
        part[:] = 0.7 * cv2.GaussianBlur(part, (0, 0), 0.3 * em)
    return ink, smeared


def _draw_other(
    rng: np.random.Generator, pen: ImageDraw.ImageDraw, line: Line, top: float, span: tuple[float, float], em: float
) -> None:
    """A dashed or plain rule, a bar code, or a logo: ink that is no word."""
    left, right = span
    if line.kind == "rule":
        y, dash = top + 0.3 * em, em * float(rng.choice((0.3, 0.5, 100.0)))
        for x in np.arange(left, right, 1.6 * dash):
            pen.line((x, y, min(x + dash, right), y), fill=200, width=max(1, round(0.05 * em)))
    elif line.kind == "bars":
        x, end = left + 0.15 * (right - left), right - 0.15 * (right - left)
        while x < end:
            bar = em * float(rng.choice((0.06, 0.12, 0.18)))
            pen.rectangle((x, top, x + bar, top + 1.9 * em), fill=255)
            x += bar + em * float(rng.choice((0.08, 0.14, 0.2)))
    elif line.kind == "logo":
        x, y, radius = (left + right) / 2.0, top + 1.1 * em, 1.0 * em
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=255, width=max(2, round(0.15 * em)))
        pen.polygon(
            [(x, y - 0.6 * radius), (x + 0.5 * radius, y + 0.4 * radius), (x - 0.5 * radius, y + 0.4 * radius)], 255
        )


def _lie(rng: np.random.Generator, sheet_hw: tuple[int, int], hw: tuple[int, int]) -> Float64:
    """How the sheet lies in the picture: turned, seen a little askew, wholly inside."""
    height, width = sheet_hw
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    angle = np.radians(np.clip(rng.normal(0.0, 2.5), -8.0, 8.0))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (corners - (width / 2.0, height / 2.0)) @ turn.T
    moved += rng.uniform(-0.02, 0.02, size=(4, 2)) * (width, height)
    span = np.ptp(moved, axis=0)
    scale = min(1.0 / SUPERSAMPLE, *(np.array(hw[::-1]) * 0.99 / span))
    room = np.array(hw[::-1]) - scale * span
    moved = (moved - moved.min(axis=0)) * scale + room * rng.uniform(0.2, 0.8, size=2)
    matrix: Float64 = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    return matrix.astype(np.float64)
