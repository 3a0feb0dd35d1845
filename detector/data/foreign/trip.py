"""What all converters share: a page on its way, the options, and the book of faults and losses.

Shapes: V vertices. Coordinates: (x, y) in px, float64. Between reading and writing all pages are in the EXIF-corrected
image frame; which frame the foreign file has is the user's word (`Options.frame`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np

from detector.data.formats_csv import round_half_away
from detector.data.images import SUFFIXES, natural
from detector.data.words_json import DROPPED, why_dropped
from detector.errors import DataError
from detector.types import Float64, Word

DONT_CARE: Final = "###"  # what ICDAR's files write for a word that counts neither way
LINE_END: Final = re.compile(r"\r\n|\n|\r")  # not str.splitlines(): it also ends lines at U+2028, which texts hold
SHOWN: Final = 20  # faults in one message
Number = int | float


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """One page on its way; `wh` is the size that the source names, if it does (it may be stale)."""

    name: str
    words: tuple[Word, ...]
    wh: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose.

    Attributes:
        images: folder of the image files; they give names, sizes and orientations.
        encoding: of text files that are read.
        subset: of COCO-Text's `set`; None takes all of them, and writes `train`.
        frame: of the foreign file's coordinates: as a person sees the image, or as its pixels are stored (before EXIF).
        whole: write coordinates as integers, rounded once, halves away from zero.
        lossy: go on where words would be changed or left out.
    """

    images: Path | None = None
    encoding: str = "utf-8"
    subset: str | None = None
    frame: Literal["upright", "stored"] = "upright"
    whole: bool = False
    lossy: bool = False


@dataclass(slots=True)
class Trip:
    """One conversion: its options, and what was found and lost on the way.

    Attributes:
        target: where files will be written; labelme's name their image from there.
        faults: one line each; `check` raises all of them.
        refused: what would change words -> (times, first place); faults as well.
        losses: what the target does not hold -> (times, first place).
    """

    options: Options
    target: Path = Path()
    faults: list[str] = field(default_factory=list)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    losses: dict[str, tuple[int, str]] = field(default_factory=dict)

    def fault(self, message: str) -> None:
        """Note what makes the conversion impossible; reading goes on, so that all faults are told at once."""
        self.faults.append(message)

    def lose(self, what: str, where: str) -> None:
        """Count something that is not in the result."""
        count, first = self.losses.get(what, (0, where))
        self.losses[what] = count + 1, first

    def change(self, what: str, where: str, instead: str) -> bool:
        """Whether a word may be changed as `instead` says: with `lossy` it is counted, without it is a fault."""
        if self.options.lossy:
            self.lose(f"{what}; {instead}", where)
        else:
            rule = f"{what}; mend it, or give --lossy and {instead}"
            count, first = self.refused.get(rule, (0, where))
            self.refused[rule] = count + 1, first
        return self.options.lossy

    def check(self) -> None:
        """Raise all faults so far as one DataError."""
        faults = list(self.faults)
        for rule, (count, first) in self.refused.items():
            faults.append(f"{first}{f' ({count - 1} more)' if count > 1 else ''}: {rule}")
        if faults:
            more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
            raise DataError("\n".join([*faults[:SHOWN], *more]))

    def notes(self) -> tuple[str, ...]:
        """One line for everything that was lost."""
        return tuple(f"{what}: {count} (first: {first})" for what, (count, first) in self.losses.items())

    # --- reading -----------------------------------------------------------------------------------------------------

    def word(self, where: str, index: int, polygon_V2: Float64, text: str | None, ignore: bool) -> Word | None:
        """The word at place `index` of its page, counted from 1; None, counted, if it has no area."""
        dropped = why_dropped(polygon_V2)
        if dropped is not None:
            self.lose(f"word {DROPPED[dropped]}", where)
            return None
        return Word(word_id(index), polygon_V2, text, ignore)

    # --- writing -----------------------------------------------------------------------------------------------------

    def points(self, where: str, polygon_V2: Float64) -> list[list[Number]]:
        """The vertices as plain numbers, whole ones as integers: 447, not 447.0."""
        values = round_half_away(polygon_V2) if self.options.whole else polygon_V2
        if not np.array_equal(values, polygon_V2):
            self.lose("word with decimals in its coordinates; rounded to integers", where)
        return [[int(value) if value.is_integer() else value for value in point] for point in values.tolist()]

    def quad(self, where: str, polygon_V2: Float64) -> Float64 | None:
        """Four vertices: as they are, or with `lossy` the smallest rectangle around; None is a fault."""
        if len(polygon_V2) == 4:
            return polygon_V2
        what = f"word with {'3' if len(polygon_V2) == 3 else 'more than 4'} vertices, the format holds quads"
        if not self.change(what, where, "the smallest rectangle around it is written"):
            return None
        return np.asarray(cv2.boxPoints(cv2.minAreaRect(polygon_V2.astype(np.float32))), dtype=np.float64)

    def one_line(self, where: str, text: str) -> str:
        """The text without line ends, which a format of lines cannot hold."""
        joined = LINE_END.sub(" ", text)
        if joined != text:
            self.change("line end in a transcription", f"{where}, {text[:40]!r}", "a blank takes its place")
        return joined

    def marked(self, where: str, word: Word, marks: tuple[str, ...] = (DONT_CARE,)) -> str | None:
        """The transcription where don't-care words are marked by it: `###`; None where there is no text."""
        if word.ignore:
            if word.transcription not in ("", DONT_CARE):
                self.lose("text of a don't-care word is not held", where)
            return DONT_CARE
        if word.transcription in marks:
            self.change(f"text {word.transcription!r} means don't care in this format", where, "it becomes don't-care")
        return word.transcription

    def spare(self, where: str, index: int, word: Word, *, language: bool = False) -> None:
        """Count what only the competition's format holds: ids, orientation, and language unless it is held."""
        if word.id != word_id(index):
            self.lose("word id is not held; words are numbered anew", where)
        if word.orientation is not None:
            self.lose("word orientation is not held", where)
        if word.language is not None and not language:
            self.lose("word language is not held", where)


def word_id(index: int) -> str:
    """The id of a page's word at place `index`, counted from 1, where the source has none that is unique."""
    return f"{index:04d}"


def read_mark(text: str | None, marks: tuple[str, ...] = (DONT_CARE,)) -> tuple[str | None, bool]:
    """(transcription, don't care) of a text in which a mark means don't care: it tells nothing of what is written."""
    return ("", True) if text in marks else (text, False)


def stem(name: str) -> str:
    """A file name without the suffix of an image; other dots stay, as in `receipt 1.5`."""
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name


def stems(trip: Trip, sheets: tuple[Sheet, ...]) -> dict[str, Sheet]:
    """Pages by file name without suffix, for formats of one file an image; two of one stem are a fault.

    Such files are read in the order of their names: pages in another order are counted.
    """
    found: dict[str, Sheet] = {}
    for sheet in sheets:
        key = stem(sheet.name)
        if key in found:
            trip.fault(f"image {sheet.name}: {found[key].name} has the same name but for its suffix; rename one")
        found[key] = sheet
    names = [sheet.name for sheet in sheets]
    for name, other in zip(names, sorted(names, key=natural), strict=True):
        if name != other:
            trip.lose("place in the order of images is not held; read by name", f"image {name}")
    return found
