"""How sure a difference is: bootstrap over images, and what a given number of images can show at all.

Two models scored on the same N images differ by `a_N - b_N`; its mean is what a leaderboard shows, and its scatter over
images says what another draw of images would have shown. Seeds are a second variance that no bootstrap over images
sees (`detectable` has a term for it).

A bootstrap of few images is too sure of itself. Intervals are therefore as wide as Student's t has them, and below
`LEAST_IMAGES` nothing is decided by them at all (`Interval.enough`).

Sources: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 14 (BCa intervals, the acceleration of a
mean in closed form); Hesterberg 2015, "What Teachers Should Know About the Bootstrap", The American Statistician 69
(percentiles widened for small samples); Cohen 1988, "Statistical Power Analysis", chapter 2 (power of a difference).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from detector.types import Float64

RESAMPLES: Final = 10_000  # Efron and Tibshirani 1993, section 14.3: BCa needs thousands
LEVEL: Final = 0.95
# Two equal models, skewed differences (Beta(8, 1.2)), 2.5 % allowed: one looks better in 8 % of the cases on 6 images,
# in 7 % on 8, 5 % on 12, 3 % on 16. Below 6 even a sign test in which all agree shows nothing (2 x .5^5 = .0625).
LEAST_IMAGES: Final = 8
_CHUNK_VALUES: Final = 2_000_000  # resampled values held at once: 16 MB of float64
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it may lie.

    Attributes:
        mean: over the images at hand.
        low, high: ends of the interval; both equal `mean` where the values do not scatter.
        level: its coverage, 0.95 unless told.
        count: images it rests on.
    """

    mean: float
    low: float
    high: float
    level: float = LEVEL
    count: int = 0

    @property
    def enough(self) -> bool:
        """Whether so many images can show anything; with fewer, even all of one mind, chance explains it."""
        return self.count >= LEAST_IMAGES

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above 0, on enough images."""
        return self.enough and self.low > 0

    def as_json(self) -> dict[str, float | int]:
        return {"mean": self.mean, "low": self.low, "high": self.high, "level": self.level, "images": self.count}

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def paired_bootstrap(
    a_N: Float64, b_N: Float64, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """Interval of the mean of `a_N - b_N`, both over the same images in the same order.

    Raises:
        ValueError: the lengths differ, there are no images, or a value is not finite.
    """
    a_N, b_N = np.asarray(a_N, dtype=np.float64), np.asarray(b_N, dtype=np.float64)
    if a_N.shape != b_N.shape:
        raise ValueError(f"both models must be scored on the same images, got {a_N.size} and {b_N.size} scores")
    return bootstrap(a_N - b_N, seed=seed, resamples=resamples, level=level)


def bootstrap(values_N: Float64, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL) -> Interval:
    """BCa interval of the mean of `values_N`: bias-corrected and accelerated, so second-order right for skewed scores;
    widened for small samples.

    Raises:
        ValueError: no values, or one is not finite.
    """
    values_N = np.asarray(values_N, dtype=np.float64)
    if values_N.ndim != 1 or values_N.size == 0 or not np.isfinite(values_N).all():
        raise ValueError(f"`values_N` must be a row of finite numbers, got {values_N!r}")
    mean = float(values_N.mean())
    centred_N = values_N - mean
    # A mean over equal values scatters by rounding alone; that is no evidence of anything.
    if float(np.abs(centred_N).max()) <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean, level, values_N.size)
    means_R = np.sort(resampled_means(values_N, seed=seed, resamples=resamples))
    below = float(np.mean(means_R < mean) + np.mean(means_R == mean) / 2)  # ties count half: small sets have many
    bias = _NORMAL.inv_cdf(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples))
    # Eq. (14.15) for a mean: the jackknife's values are linear in the data.
    acceleration = float((centred_N**3).sum() / (6.0 * (centred_N**2).sum() ** 1.5))
    tail = widened_tail((1 - level) / 2, values_N.size)
    low, high = (
        float(np.quantile(means_R, _corrected(probability, bias, acceleration))) for probability in (tail, 1 - tail)
    )
    return Interval(mean, low, high, level, values_N.size)


def resampled_means(values_N: Float64, *, seed: int, resamples: int) -> Float64:
    """Means of `resamples` draws of N values with replacement, in the order of the draws."""
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK_VALUES // values_N.size)
    means = [
        values_N[random.integers(0, values_N.size, (min(rows, resamples - start), values_N.size))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(means)


def widened_tail(tail: float, count: int) -> float:
    """The percentile whose distance from the middle is Student's, not the normal one (Hesterberg 2015, section 5.3).

    A resampled mean of n values scatters by s / sqrt(n) with s over n, not n - 1, and s itself is uncertain.
    """
    from scipy.special import stdtrit  # where intervals are made: `check` makes none

    return _NORMAL.cdf(math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, tail)))


def difference_se(sd: float, rho: float, images: int, *, seed_sd: float = 0.0, seeds: int = 1) -> float:
    """Standard error of the mean difference of two models.

    Args:
        sd: scatter of one model's score over images.
        rho: correlation of the two models' scores over images.
        seed_sd: scatter of the set's score between equal trainings with other seeds, each model trained `seeds` times.
    """
    return math.sqrt(sd**2 * 2 * (1 - rho) / images + 2 * seed_sd**2 / seeds)


def detectable(
    sd: float,
    rho: float,
    images: int,
    *,
    power: float = 0.8,
    level: float = LEVEL,
    seed_sd: float = 0.0,
    seeds: int = 1,
) -> float:
    """The smallest true difference that is found with probability `power` (two-sided test at 1 - `level`)."""
    z = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
    return z * difference_se(sd, rho, images, seed_sd=seed_sd, seeds=seeds)


def _corrected(probability: float, bias: float, acceleration: float) -> float:
    """Eq. (14.10): the percentile that stands in for `probability`."""
    z = bias + _NORMAL.inv_cdf(min(max(probability, 1e-300), 1 - 1e-16))
    return _NORMAL.cdf(bias + z / max(1e-9, 1 - acceleration * z))
