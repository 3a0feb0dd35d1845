"""The words of an image as CLEval counts them: characters, centres and regions, in both variants' rules.

Where the variants differ stands in `VARIANTS` and in `characters.py`. Shapes: G words, N pieces of their regions, C
centres of all words, V vertices of one polygon. Coordinates in px of the image frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from detector.metrics.characters import COMPETITION, OFFICIAL, Rule
from detector.metrics.shapes import Packed, pack, region
from detector.types import Float64, Word

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Variant = Literal["competition", "official"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a variant reads its input.

    Attributes:
        rule: lengths and centres of one polygon.
        least_vertices: polygons with fewer are skipped.
        most_detections: detections after so many of the list are ignored.
        has_text: transcriptions and don't-care words are known to the variant.
    """

    rule: Rule
    least_vertices: int
    most_detections: int | None
    has_text: bool


VARIANTS: dict[Variant, Rules] = {
    "official": Rules(OFFICIAL, least_vertices=3, most_detections=None, has_text=True),
    "competition": Rules(COMPETITION, least_vertices=4, most_detections=500, has_text=False),
}


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The words of one image, prepared once for any number of scorings (`ground_truth`).

    Attributes:
        variant: whose rules prepared them.
        polygons: vertices truncated to integers, G of them.
        pieces, owner_N: disjoint parts of the words' regions and whose they are; one part a word, save for don't-care
            words, of which the words over them are taken away.
        length_G: characters of each word.
        care_G: False for don't-care words; ignored_K: their indices, in the order in which `cleval` meets them.
        centres_C2, starts_M, centre_box_G4: pseudo-character centres, where each word's begin, the box around them.
        box_G4: around a word's pieces and centres: a detection that does not meet it has nothing to do with the word.
    """

    variant: Variant
    polygons: Packed
    pieces: Packed
    owner_N: NDArray[np.int64]
    length_G: NDArray[np.int64]
    care_G: NDArray[np.bool_]
    ignored_K: NDArray[np.int64]
    centres_C2: Float64
    starts_M: NDArray[np.int64]
    centre_box_G4: Float64
    box_G4: Float64
    _regions: dict[int, BaseGeometry] = field(default_factory=dict)

    @cached_property
    def chars(self) -> int:
        """Characters of the words that count."""
        return int(self.length_G[self.care_G].sum())

    def region(self, index: int) -> BaseGeometry:
        """A word's region as a shapely geometry, made when first asked for."""
        if index not in self._regions:
            self._regions[index] = region(self.polygons.polygon(index))
        return self._regions[index]


def ground_truth(words: Sequence[Word], variant: Variant = "competition") -> GroundTruth:
    """Prepares the words of one image; `cleval` does so itself when it is given words.

    `official`: a word's length is that of its transcription (an empty one has no characters, as in `cleval` 0.1.1),
    without one the pseudo-length; `ignore` marks don't-care words. A triangle gets the fourth vertex (x0, y2) that
    `cleval` gives it. Other polygons, which `CLEvalMetric` refuses and its command line cannot score, keep the official
    lengths and truncated areas; their ratio is that of the smallest rectangle, their centres are those below.
    `competition`: words are polygons alone, so those marked `ignore` count like any other.
    """
    rules = VARIANTS[variant]
    kept = [word for word in words if len(word.polygon_V2) >= rules.least_vertices]
    shapes = [vertices(word.polygon_V2) for word in kept]
    ratios = [rules.rule.aspect_ratio(shape) for shape in shapes]
    lengths = [
        len(word.transcription)
        if rules.has_text and word.transcription is not None and not word.ignore
        else rules.rule.length(ratio)
        for word, ratio in zip(kept, ratios, strict=True)
    ]
    care_G = np.array([not (rules.has_text and word.ignore) for word in kept], dtype=np.bool_)
    centres = [rules.rule.centres(*item) for item in zip(shapes, ratios, lengths, strict=True)]
    starts_M = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(lengths, out=starts_M[1:])
    polygons = pack(shapes, truncate=True)
    pieces, owner_N = polygons, np.arange(len(kept))
    regions: dict[int, BaseGeometry] = {}
    if not care_G.all():
        from detector.metrics.ignored import cut_words

        pieces, owner_N, regions = cut_words(polygons, care_G)
    centre_box_G4 = np.array([_box(centre_n2) for centre_n2 in centres]).reshape(-1, 4)
    return GroundTruth(
        variant,
        polygons,
        pieces,
        owner_N,
        np.array(lengths, np.int64),
        care_G,
        # cleval sums float32 areas in the order of a Python set, which decides the last bit
        np.array(list(set(np.flatnonzero(~care_G).tolist())), np.int64),
        np.concatenate(centres) if centres else np.zeros((0, 2)),
        starts_M,
        centre_box_G4,
        _around(centre_box_G4, pieces, owner_N),
        regions,
    )


def _around(centre_box_G4: Float64, pieces: Packed, owner_N: NDArray[np.int64]) -> Float64:
    """The box around a word's centres and its pieces."""
    box_G4 = centre_box_G4.copy()
    for corner, join in ((slice(0, 2), np.minimum), (slice(2, 4), np.maximum)):
        join.at(box_G4[:, corner], owner_N, pieces.box_N4[:, corner])
    return box_G4


def vertices(polygon_V2: Float64) -> Float64:
    """At least four vertices, float64."""
    if len(polygon_V2) > 3 and isinstance(polygon_V2, np.ndarray) and polygon_V2.dtype == np.float64:
        return polygon_V2
    vertices = np.asarray(polygon_V2, dtype=np.float64).reshape(-1, 2)
    if len(vertices) == 3:  # only `official` lets triangles through; cleval.box_types.POLY adds this vertex
        vertices = np.append(vertices, [[vertices[0, 0], vertices[2, 1]]], axis=0)
    return vertices


def _box(points_n2: Float64) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1; a box that meets nothing for no points."""
    if not len(points_n2):
        return (np.inf, np.inf, -np.inf, -np.inf)
    (x0, y0), (x1, y1) = points_n2.min(axis=0).tolist(), points_n2.max(axis=0).tolist()
    return (x0, y0, x1, y1)
