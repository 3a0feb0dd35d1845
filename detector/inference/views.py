"""Views of a page for test-time augmentation, each with its exact inverse on maps.

Shapes: H, W height and width in px of the page's content, without padding. Flips and quarter turns move whole pixels,
so their inverse is exact to the bit; a scale changes the size at which the page is seen, and its map is brought back to
the common size by linear interpolation.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError

IDENTITY = "identity"
SCALES = (0.25, 4.0)  # a view beyond sees no text, or needs 16 times the memory


@dataclass(frozen=True, slots=True)
class View:
    """A way of looking at a page: scaled, then mirrored, then turned.

    Attributes:
        name: as plans write it.
        scale: size of the page relative to the model's own.
        mirror: axis that is reversed: 1 left and right, 0 top and bottom, None neither.
        turns: quarter turns, counter-clockwise as seen.
    """

    name: str
    scale: float = 1.0
    mirror: int | None = None
    turns: int = 0

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
    """The view of a name: identity, hflip, vflip, rot90, rot180, rot270 or `scale S`, S a number such as 0.8.

    Raises:
        InputError: another name, or a scale out of SCALES.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    scaled = re.fullmatch(r"scale (\d+(?:\.\d+)?|\.\d+)", name)
    if scaled is None:
        close = difflib.get_close_matches(name, [*_BY_NAME, "scale 0.8"], n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"write one of {', '.join(_BY_NAME)}, scale 0.8"
        raise InputError(f"view `{name}`: unknown; {hint}")
    factor = float(scaled[1])
    low, high = SCALES
    if not low <= factor <= high:
        raise InputError(f"view `{name}`: `{low} <= scale <= {high}` must hold, got {factor}; choose another scale")
    return View(name, scale=factor)
