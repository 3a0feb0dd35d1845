"""Whether H, P and R can be one set's: means of real images always can, whatever a board rounds them to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evaluation.plausible import Shown, bounds, harmonic, implausible

UNIT = st.floats(0, 1)
IMAGES = st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=12)
DIGITS = st.integers(2, 6)


def shown(value: float, digits: int) -> Shown:
    return Shown.read(f"{value:.{digits}f}")


@given(IMAGES, DIGITS, DIGITS, DIGITS)
def test_means_over_images_are_plausible_however_they_are_rounded(
    images: list[tuple[float, float]], h_digits: int, p_digits: int, r_digits: int
) -> None:
    count = len(images)
    hmean = sum(harmonic(p, r) for p, r in images) / count
    precision, recall = sum(p for p, _ in images) / count, sum(r for _, r in images) / count
    assert implausible(shown(hmean, h_digits), shown(precision, p_digits), shown(recall, r_digits)) == ""
    # ... and so are the scores of all characters together.
    micro = harmonic(precision, recall)
    assert implausible(shown(micro, h_digits), shown(precision, p_digits), shown(recall, r_digits)) == ""


@given(UNIT, UNIT, st.integers(3, 5))
def test_the_bounds_are_reached(precision: float, recall: float, digits: int) -> None:
    p, r = shown(precision, digits), shown(recall, digits)
    low, high = bounds(p, r)
    # Above: all images alike, at the upper ends of what was rounded.
    assert high == harmonic(p.most, r.most)
    # Below: images whose p and r are 1 or 0, in such shares that they make the lower ends.
    both = max(0.0, p.least + r.least - 1.0)  # of the images, p = r = 1, H = 1; the rest has one of the two, or none
    only_p, only_r = p.least - both, r.least - both
    assert min(both, only_p, only_r) >= -1e-12 and both + only_p + only_r <= 1 + 1e-12
    assert low == both
    # A number that is further away than its own rounding is told.
    step = 10.0**-digits
    if high + 2 * step <= 1:
        assert "above 2PR / (P + R)" in implausible(shown(high + 2 * step, digits), p, r)
    if low - 2 * step >= 0:
        assert "below P + R - 1" in implausible(shown(low - 2 * step, digits), p, r)


def test_by_hand() -> None:
    # h(.98335, .96885) = .97605; a board that shows .9760 may have had .97605, but not .9762
    p, r = Shown.read("0.9833"), Shown.read("0.9688")
    assert bounds(p, r) == (pytest.approx(0.9520), pytest.approx(0.976046, abs=1e-6))
    assert [implausible(Shown.read(text), p, r) != "" for text in ("0.9755", "0.9760", "0.9761", "0.9762")] == [
        False,
        False,
        True,
        True,
    ]
    assert implausible(Shown.read(".94"), p, r) == (
        "H 0.94 lies below P + R - 1 = 0.9520, rounding allowed for, which no mean over images does with P 0.9833 and "
        "R 0.9688"
    )
    # Fewer digits leave more room: .98 may be .975.
    assert implausible(Shown.read(".98"), p, r) == ""
    assert implausible(Shown.read("0.9800"), p, r).startswith("H 0.98 lies above 2PR / (P + R) = 0.9760")
    assert harmonic(0.0, 0.0) == 0.0


def test_digits_as_they_were_typed() -> None:
    halves = {"0.98": 5e-3, "0.9800": 5e-5, "98e-2": 5e-3, "1": 0.5, ".5": 0.05}
    assert {text: Shown.read(text).half for text in halves} == pytest.approx(halves)
    assert (Shown.read("0.99999").most, Shown.read("0.00").least) == (pytest.approx(0.999995), 0.0)
    for text in ("", "x", "nan", "inf", "0,98"):
        with pytest.raises(ValueError):
            Shown.read(text)
