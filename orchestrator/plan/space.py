"""Sweeps: a space of settings drawn into trials when the plan is read, from the sweep's own seed.

Draw number i of a key depends on (seed, key, i) alone: more trials keep the first ones, and another key in the space
leaves the draws of the others as they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np

from orchestrator.plan.expressions import Distribution, distribution, span

Axis: TypeAlias = tuple[Any, ...] | Distribution
ATTEMPTS = 1000  # redraws before a space counts as exhausted
DIGITS = 6  # significant digits of a drawn number, so that configs can be read and typed again


def axis(value: Any) -> Axis:
    """The values of one setting. Raises ValueError with the rule."""
    if isinstance(value, list):
        if not value:
            raise ValueError("a list of choices must not be empty")
        repeated = [item for index, item in enumerate(value) if item in value[:index]]
        if repeated:
            raise ValueError(f"each choice may be listed once, got {repeated[0]!r} twice")
        return tuple(value)
    if isinstance(value, str):
        found = span(value)
        if found is not None:
            if not found.whole and found.step is None:
                raise ValueError(f"a range of fractions needs a step, got {value!r}; or write uniform(a, b)")
            return found.values()
        drawn = distribution(value)
        if drawn is not None:
            return drawn
    raise ValueError(f"uniform(a, b), loguniform(a, b), a..b or a list of choices expected, got {value!r}")


def size(axes: Mapping[str, Axis]) -> int | None:
    """Points of a finite space; None where a distribution is continuous."""
    counts = [len(values) for values in axes.values() if isinstance(values, tuple)]
    return math.prod(counts) if len(counts) == len(axes) else None


def grid(axes: Mapping[str, Axis]) -> list[dict[str, Any]]:
    """Every point of a finite space, the last key running fastest."""
    columns = [values if isinstance(values, tuple) else () for values in axes.values()]
    return [dict(zip(axes, point, strict=True)) for point in product(*columns)]


def draw(axes: Mapping[str, Axis], trials: int, seed: int) -> list[dict[str, Any]]:
    """`trials` different points, bounds included.

    Raises:
        ValueError: the space has fewer points.
    """
    points: list[dict[str, Any]] = []
    for index in range(trials):
        for attempt in range(ATTEMPTS):
            point = {key: _one(values, _generator(seed, key, index, attempt)) for key, values in axes.items()}
            if point not in points:
                points.append(point)
                break
        else:
            raise ValueError(f"the space has too few points for {trials} different trials; got {len(points)}")
    return points


def _generator(seed: int, key: str, index: int, attempt: int) -> np.random.Generator:
    return np.random.default_rng((seed, crc32(key.encode()), index, attempt))


def _one(values: Axis, generator: np.random.Generator) -> Any:
    if isinstance(values, tuple):
        return values[int(generator.integers(len(values)))]
    if values.kind == "uniform":
        number = values.low + (values.high - values.low) * float(generator.random())
    else:
        low, high = math.log(values.low), math.log(values.high)
        number = math.exp(low + (high - low) * float(generator.random()))
    return min(max(float(f"{number:.{DIGITS}g}"), values.low), values.high)
