"""Whether a leaderboard's H, P and R can belong together: what rounding cannot explain was mistyped.

An image's H is the harmonic mean h(p, r) = 2 p r / (p + r) of its precision and recall. A board shows means over images
(macro), or the P and R of all characters together with H = h(P, R) (micro). h is concave and rises with both, so

    H <= h(P, R)       by Jensen's inequality, with equality where all images are alike, and for micro scores
    H >= P + R - 1     since h(p, r) - (p + r - 1) is concave, too, and not below 0 at the corners of the unit square,
                       with equality where every image has p and r in {0, 1}, not both 0

and no closer bounds hold. A number with d decimals may have been half a unit of the last one more or less before it was
rounded, so the bounds are taken where that leaves most room.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

SLACK = 1e-9  # of float64


@dataclass(frozen=True, slots=True)
class Shown:
    """A score in 0..1 as a board shows it; `half` is half a unit of its last digit."""

    value: float
    half: float

    @classmethod
    def read(cls, text: str) -> Shown:
        """From what a person typed; ValueError where it is no number."""
        try:
            number = Decimal(text)
            exponent = number.as_tuple().exponent
        except InvalidOperation as error:
            raise ValueError(text) from error
        if not isinstance(exponent, int):  # NaN, infinities
            raise ValueError(text)
        return cls(float(number), 0.5 * 10.0 ** min(exponent, 0))

    @property
    def most(self) -> float:
        return min(1.0, self.value + self.half)

    @property
    def least(self) -> float:
        return max(0.0, self.value - self.half)


def harmonic(precision: float, recall: float) -> float:
    """h(p, r); 0 where both are."""
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def bounds(precision: Shown, recall: Shown) -> tuple[float, float]:
    """The least and the greatest H that can stand beside these."""
    return max(0.0, precision.least + recall.least - 1.0), harmonic(precision.most, recall.most)


def implausible(hmean: Shown, precision: Shown, recall: Shown) -> str:
    """Why the three cannot be one set's; empty where they can."""
    low, high = bounds(precision, recall)
    if low - SLACK <= hmean.most and hmean.least <= high + SLACK:
        return ""
    rule = f"above 2PR / (P + R) = {high:.4f}" if hmean.least > high else f"below P + R - 1 = {low:.4f}"
    return (
        f"H {hmean.value:g} lies {rule}, rounding allowed for, which no mean over images does with P "
        f"{precision.value:g} and R {recall.value:g}"
    )
