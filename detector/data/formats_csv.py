"""The competition's submission: CSV, `filename,polygons`, polygons joined by `|`, coordinates by blanks.

    filename,polygons
    a_000001.jpg,12 30 90 30 90 52 12 52|14 60 80 60 80 81 14 81
    a_000002.jpg,

Written with integers, each coordinate rounded once, halves away from zero, `\\n` line ends, UTF-8. Shapes: V vertices.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from detector.errors import DataError
from detector.files import replacing
from detector.types import Float64

HEADER = ("filename", "polygons")
NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def write_submission(
    path: Path, polygons: Mapping[str, Sequence[Float64]] | Iterable[tuple[str, Sequence[Float64]]]
) -> None:
    """Write one row for every file name, in the order given, atomically.

    Args:
        polygons: by file name, or pairs of both, of which one at a time is held: a stream of any length.

    Raises:
        ValueError: a polygon has fewer than 3 vertices, or a coordinate is NaN or infinite.
    """
    pairs = polygons.items() if isinstance(polygons, Mapping) else polygons
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as text:
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(HEADER)
        for name, page in pairs:
            rows.writerow((name, "|".join(_polygon_text(name, polygon) for polygon in page)))


def round_half_away(values: Float64) -> Float64:
    """Whole numbers, halves away from zero; exact also where adding .5 would round (0.49999999999999994)."""
    whole, size = np.floor(np.abs(values)), np.abs(values)
    rounded: Float64 = np.copysign(whole + (size - whole >= 0.5), values)
    return rounded


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One line of a submission: an image and its polygons, each as text and as (V, 2) array; `line` counts from 1."""

    line: int
    name: str
    texts: tuple[str, ...]
    polygons: tuple[Float64, ...]


def read_submission(path: Path) -> dict[str, tuple[Float64, ...]]:
    """Polygons by file name, (V, 2) each, in the file's order; raises what `read_rows` does."""
    return {row.name: row.polygons for row in read_rows(path)}


def read_rows(path: Path) -> Iterator[Row]:
    """The lines of a submission, one by one.

    Decimal coordinates are read as they are: other people's files have them.

    Raises:
        DataError: with line number: no header, not two fields, a file twice, a coordinate that is no number, an odd
            count of coordinates, or fewer than three vertices.
    """
    csv.field_size_limit(2**31 - 1)  # the module's own 131,072 characters are 200 outlines of 80 vertices
    with _opened(path) as text:
        yield from _rows(path, csv.reader(text, strict=True))


def _rows(path: Path, rows: Any) -> Iterator[Row]:
    found: set[str] = set()
    try:
        header = next(rows, None)
        if header is None or tuple(header) != HEADER:
            raise DataError(f"{path}:1: the first line must be `{','.join(HEADER)}`, got {header}; add the header")
        end = rows.line_num
        for row in rows:
            line, end = end + 1, rows.line_num  # a quoted name may hold line ends: a row is named by its first line
            if not row:
                continue
            if len(row) != 2:
                raise DataError(f"{path}:{line}: must have 2 fields, got {len(row)}; mend the line")
            name, field = row
            if not name or name in found:
                fault = "is there twice" if name else "is empty"
                raise DataError(f"{path}:{line}: file name {name!r} {fault}; one row for every image")
            found.add(name)
            texts = tuple(text for text in field.split("|") if field.strip())
            yield Row(line, name, texts, tuple(_polygon(path, line, name, text) for text in texts))
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: is not CSV ({error}); mend the line") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 at byte {_broken_at(path)}; save it as UTF-8") from error


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", newline="")  # spreadsheets put a byte order mark in front
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _broken_at(path: Path) -> int:
    """The first byte that is not UTF-8: a stream's error counts from its own block."""
    try:
        path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _polygon(path: Path, line: int, name: str, text: str) -> Float64:
    where = f"{path}:{line}: file {name}"
    values = []
    for word in text.split():
        if NUMBER.fullmatch(word) is None or not math.isfinite(float(word)):
            raise DataError(f"{where}: coordinates must be finite numbers, got {word[:40]!r}; mend the line")
        values.append(float(word))
    if len(values) % 2 or len(values) < 6:
        rule = "an even count of coordinates" if len(values) % 2 else "at least 3 vertices"
        raise DataError(
            f"{where}: a polygon must have {rule}, got {len(values)} numbers in {text[:40]!r}; mend the line"
        )
    return np.array(values, dtype=np.float64).reshape(-1, 2)


def _polygon_text(name: str, polygon: Float64) -> str:
    points = np.asarray(polygon, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f"{name}: a polygon has shape (V >= 3, 2), got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"{name}: a coordinate is not finite")
    return " ".join(str(int(value)) for value in round_half_away(points).ravel())
