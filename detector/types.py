"""The nouns of the detector and the legend of its shapes.

Shapes: N words or detections of one page; V vertices of a polygon; H, W height and width in px; B batch; C channels.
A trailing group in a name gives its shape: `polygon_V2` is a (V, 2) array, `prob_HW` a map.

Coordinates are (x, y) in px, float64, x to the right and y down, origin at the top left corner of the top left pixel.
The *image frame* is the picture as a person sees it (EXIF orientation applied); the *canvas frame* is what a network is
fed with. `detector.geometry.Frame` is the only bridge between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Word:
    """One annotated word of a page.

    Attributes:
        id: its key in the annotation file, unique within the page.
        polygon_V2: vertices in the image frame, V >= 3; they may lie outside the image.
        transcription: its text, if the annotation has one.
        ignore: a don't-care word (`illegibility` in the competition's format): masked in targets and metrics.
        orientation: as annotated, kept for writing back.
        language: as annotated, kept for writing back.
    """

    id: str
    polygon_V2: Float64
    transcription: str | None = None
    ignore: bool = False
    orientation: str | None = None
    language: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One image file with its words.

    Attributes:
        name: the file's name as the annotations key it, e.g. `a_000001.jpg`; unique within a set.
        path: where the file lies.
        words: in annotation order; empty for a page without text or without annotations.
    """

    name: str
    path: Path
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector found on one page, best score first.

    Attributes:
        polygons: N arrays (V, 2), float64.
        scores_N: mean probability inside each contour, in [0, 1], descending.
    """

    polygons: tuple[Float64, ...]
    scores_N: Float64
