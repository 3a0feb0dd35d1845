"""Views of a page for test-time augmentation, each with its exact inverse on maps.

Shapes: H, W height and width in px of the page's content, without padding. Flips and quarter turns move whole pixels,
so their inverse is exact to the bit; a scale changes the size at which the page is seen, and its map is brought back to
the common size by linear interpolation; brightness moves nothing, so there is nothing to undo.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError
from detector.types import UInt8

IDENTITY = "identity"
SCALES = (0.25, 4.0)  # a view beyond sees no text, or needs 16 times the memory
BRIGHTNESS = (0.25, 4.0)  # a view beyond is nearly black or white all over


@dataclass(frozen=True, slots=True)
class View:
    """A way of looking at a page: scaled, then made brighter or darker, then mirrored, then turned.

    Attributes:
        name: as plans write it.
        scale: size of the page relative to the model's own.
        mirror: axis that is reversed: 1 left and right, 0 top and bottom, None neither.
        turns: quarter turns, counter-clockwise as seen.
        brightness: what all values are multiplied by; those beyond 255 become 255.
    """

    name: str
    scale: float = 1.0
    mirror: int | None = None
    turns: int = 0
    brightness: float = 1.0

    def light(self, image_HWC: UInt8) -> UInt8:
        """The page in the view's light, each value rounded."""
        if self.brightness == 1.0:
            return image_HWC
        table: UInt8 = np.minimum(np.rint(np.arange(256) * self.brightness), 255).astype(np.uint8)
        return table[image_HWC]

    def turn(self, image_HWC: NDArray[Any]) -> NDArray[Any]:
        """The page as the model is to see it; (W, H, C) after an odd number of quarter turns."""
        seen = image_HWC if self.mirror is None else np.flip(image_HWC, self.mirror)
        return np.rot90(seen, self.turns)

    def back(self, map_HW: NDArray[Any]) -> NDArray[Any]:
        """The map of the turned page in the page's own orientation: the inverse of `turn`."""
        upright = np.rot90(map_HW, -self.turns)
        return upright if self.mirror is None else np.flip(upright, self.mirror)


_FIXED = (
    View(IDENTITY),
    View("hflip", mirror=1),
    View("vflip", mirror=0),
    View("rot90", turns=1),
    View("rot180", turns=2),
    View("rot270", turns=3),
)
_BY_NAME = {view.name: view for view in _FIXED}


def view(name: str) -> View:
    """The view of a name: identity, hflip, vflip, rot90, rot180, rot270, `scale S` or `brightness B`, with numbers such
    as 0.8.

    Raises:
        InputError: another name, or a number out of SCALES or BRIGHTNESS.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    found = re.fullmatch(r"(scale|brightness) (\d+(?:\.\d+)?|\.\d+)", name)
    if found is None:
        known = [*_BY_NAME, "scale 0.8", "brightness 0.8"]
        close = difflib.get_close_matches(name, known, n=1)
        raise InputError(
            f"view `{name}`: unknown; "
            + (f"did you mean `{close[0]}`?" if close else f"write one of {', '.join(known)}")
        )
    kind, factor = found[1], float(found[2])
    low, high = SCALES if kind == "scale" else BRIGHTNESS
    if not low <= factor <= high:
        raise InputError(f"view `{name}`: `{low} <= {kind} <= {high}` must hold, got {factor}; choose another {kind}")
    return View(name, scale=factor) if kind == "scale" else View(name, brightness=factor)
