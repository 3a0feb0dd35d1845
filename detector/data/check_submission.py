"""A submission looked at before it costs one: images, coordinates, numbers of boxes.

    rule       fault or notice
    missing    fault    an image has no row: scorers refuse such a file, or give the image 0
    unknown    fault    a row is of no image of the set
    integers   fault    a coordinate is not written as an integer
    inside     fault    a vertex lies outside the image; x = width and y = height are its border
    vertices   fault    fewer than 4: the scorer skips the polygon
    limit      fault    more boxes than the scorer looks at
    count      fault    boxes an image, over the whole set, beyond `expected` of the training set's words
    empty      notice   no box on an image, although every training page had words: it scores 0
    flat       notice   a polygon without an area: a false alarm
    twice      notice   a polygon stands twice on one image: a false alarm

Coordinates in px of the image frame. Shapes: V vertices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from detector.data.formats_csv import Row, read_rows
from detector.data.images import image_size
from detector.data.word_counts import WordCounts
from detector.geometry import area
from detector.metrics.truth import VARIANTS
from detector.types import Float64, Page

MOST: Final = VARIANTS["competition"].most_detections or math.inf
LEAST_VERTICES: Final = VARIANTS["competition"].least_vertices
# Boxes doubled or halved are beyond it, whatever the set: doubling costs .40 of H, one box of two .5 of recall. Sets of
# one source differ by less: train and val of sroie by a factor of 1.02, of sroie_mini by 1.05.
FACTOR: Final = 1.5
ERRORS: Final = 3.0  # standard errors of a mean over so few images that they need not be like the training set

Rule = Literal[
    "missing", "unknown", "integers", "inside", "vertices", "limit", "count", "empty", "flat", "twice", "training"
]
NOTICES: Final[frozenset[Rule]] = frozenset({"empty", "flat", "twice", "training"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or odd.

    Attributes:
        line: of the file, from 1; 0 where it is of none.
        image: its name; empty where it is of the whole set.
        text: rule, value and remedy.
    """

    rule: Rule
    line: int
    image: str
    text: str

    @property
    def is_fault(self) -> bool:
        return self.rule not in NOTICES


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file holds, and what is wrong with it.

    Attributes:
        images: of the set.
        rows, boxes: of the file.
    """

    path: Path
    images: int
    rows: int
    boxes: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """No faults; there may be notices."""
        return not any(finding.is_fault for finding in self.findings)

    def lines(self, most: int = 5) -> list[str]:
        """A line for each finding, faults first; `most` of a rule, the others counted."""
        told: list[str] = []
        for is_fault in (True, False):
            for rule in dict.fromkeys(finding.rule for finding in self.findings if finding.is_fault is is_fault):
                alike = [finding for finding in self.findings if finding.rule == rule]
                told += [self._line(finding) for finding in alike[:most]]
                if len(alike) > most:
                    told.append(f"{self.path}: {rule}: {len(alike) - most} more images")
        return told

    def _line(self, finding: Finding) -> str:
        place = f"{self.path}:{finding.line}" if finding.line else str(self.path)
        image = f" image {finding.image}:" if finding.image else ""
        return f"{place}:{image} {finding.text}" if finding.is_fault else f"{place}:{image} notice: {finding.text}"


def check_submission(path: Path, pages: Sequence[Page], training: WordCounts | None = None) -> Checked:
    """Hold a submission against the images that it is for.

    Args:
        pages: names and files; their words are not looked at.
        training: of the pages that its model learned from, where they are known.

    Raises:
        DataError: the file breaks the format, or an image cannot be read.
    """
    files = {page.name: page.path for page in pages}
    findings: list[Finding] = []
    rows = boxes = 0
    for row in read_rows(path):
        rows, boxes = rows + 1, boxes + len(row.polygons)
        file = files.pop(row.name, None)
        if file is None:
            findings.append(Finding("unknown", row.line, row.name, "is no image of the set; remove the line"))
            continue
        findings += _row(row, image_size(file), training)
    findings += [Finding("missing", 0, name, _MISSING) for name in files]
    findings += _counts(rows, boxes, training)
    return Checked(path, len(pages), rows, boxes, tuple(findings))


def expected(training: WordCounts, images: int) -> tuple[float, float]:
    """Between what the mean number of boxes of so many images is sane."""
    slack = ERRORS * training.sd / math.sqrt(images)
    return max(0.0, training.mean / FACTOR - slack), training.mean * FACTOR + slack


_MISSING: Final = "every image must have a line, one without words an empty one (`NAME,`); add it"


def _row(row: Row, wh: tuple[int, int], training: WordCounts | None) -> list[Finding]:
    """What is wrong on one image: the first polygon of a rule, and how many more."""
    found: dict[Rule, list[str]] = {}
    for number, (text, polygon) in enumerate(zip(row.texts, row.polygons, strict=True), start=1):
        for rule, fault in _polygon(text, polygon, wh):
            found.setdefault(rule, []).append(f"polygon {number}: {fault}")
    seen: dict[bytes, int] = {}
    for number, polygon in enumerate(row.polygons, start=1):
        first = seen.setdefault(polygon.tobytes(), number)
        if first != number:
            found.setdefault("twice", []).append(f"polygon {number}: is polygon {first} again; keep one")
    if len(row.polygons) > MOST:
        limit = f"{MOST} boxes at most, the scorer ignores all after them, got {len(row.polygons)}"
        found["limit"] = [f"{limit}; lower `postprocess.max_candidates`, or raise `box_thresh`"]
    if not row.polygons and training is not None and training.least > 0:
        found["empty"] = [f"no box, and no training page had fewer than {training.least} words; it will score 0"]
    return [Finding(rule, row.line, row.name, _with_more(texts)) for rule, texts in found.items()]


def _polygon(text: str, polygon: Float64, wh: tuple[int, int]) -> list[tuple[Rule, str]]:
    found: list[tuple[Rule, str]] = []
    decimal = next((word for word in text.split() if not word.lstrip("+-").isdecimal()), None)
    if decimal is not None:
        found.append(("integers", f"coordinates must be integers, got {decimal}; round each once"))
    outside = (polygon < 0).any(axis=1) | (polygon > np.array(wh)).any(axis=1)
    if outside.any():
        x, y = polygon[int(outside.argmax())]
        width, height = wh
        found.append(
            ("inside", f"0 <= x <= {width} and 0 <= y <= {height} must hold, got {x:g} {y:g}; clip it to the image")
        )
    if len(polygon) < LEAST_VERTICES:
        found.append(
            ("vertices", f"{LEAST_VERTICES} vertices at least, the scorer skips others, got {len(polygon)}; add one")
        )
    if area(polygon) == 0.0:
        found.append(("flat", f"has no area ({' '.join(text.split()[:8])}); leave it out"))
    return found


def _with_more(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{texts[0]} ({len(texts) - 1} more on this image)"


def _counts(rows: int, boxes: int, training: WordCounts | None) -> list[Finding]:
    if training is None:
        text = "nothing is known of the training set's words: the number of boxes was held against the limit alone"
        return [Finding("training", 0, "", f"{text}; `submissions check` with --plan PLAN knows them")]
    if not rows:
        return []
    low, high = expected(training, rows)
    mean = boxes / rows
    if low <= mean <= high:
        return []
    rule = f"{low:.1f} to {high:.1f} boxes an image are sane after training on {training.mean:.1f} words a page"
    remedy = "look at the thresholds, at the size that the model ran at, at boxes written twice"
    return [Finding("count", 0, "", f"{rule}, got {mean:.1f} on {rows} images; {remedy}")]
