"""Points of a sweep's space: the whole grid, random draws, or made setting by setting by whoever picks.

Draw number i of a key depends on (seed, key, i) alone: more trials keep the first ones, and another key in the space
leaves the draws of the others as they were.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from orchestrator.plan.expressions import Distribution
from orchestrator.plan.space import DIGITS, Axis, By, Scaled, Values, order, parts, times

ATTEMPTS = 1000  # redraws before the points that are left are listed, or the space counts as exhausted
LISTED = 100_000  # points of a space that is listed for that


@dataclass(frozen=True, slots=True)
class Drawn:
    """A point, and what was picked for it: the same but for settings that multiply what was picked.

    Attributes:
        point: setting -> value, in the order of the space.
        picks: setting -> value before it was multiplied.
    """

    point: Mapping[str, Any]
    picks: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Equal for equal points."""
        return json.dumps(self.point, sort_keys=True)


def walk(axes: Mapping[str, Axis], pick: Callable[[str, str, Values], Any]) -> Drawn:
    """A point made setting by setting, what others depend on first.

    Args:
        pick: (setting, name, values) -> one of the values. The name is the setting's, with the case of a `by`: the
            same name stands for the same values wherever it comes.
    """
    point: dict[str, Any] = {}
    picks: dict[str, Any] = {}
    for key in order(axes):
        name, values, factor = _here(key, axes[key], point)
        if values is not None:
            picks[key] = pick(key, name, values)
            point[key] = times(picks[key], factor)
    return _as_written(point, picks, axes)


def size(axes: Mapping[str, Axis]) -> int | None:
    """Points of a finite space; None where a distribution is continuous."""
    if any(isinstance(values, Distribution) for found in axes.values() for values in parts(found)):
        return None
    tied = {key for key, found in axes.items() if isinstance(found, By | Scaled)}
    tied |= {found.setting for found in axes.values() if isinstance(found, By | Scaled)}
    free = [len(found) for key, found in axes.items() if key not in tied and isinstance(found, tuple)]
    return math.prod(free) * len(grid({key: found for key, found in axes.items() if key in tied}))


def grid(axes: Mapping[str, Axis]) -> list[Drawn]:
    """Every point of a finite space, the last key running fastest."""
    points = [Drawn({}, {})]
    for key in order(axes):
        points = [made for drawn in points for made in _grown(drawn, key, axes[key])]
    return [_as_written(drawn.point, drawn.picks, axes) for drawn in points]


def _grown(drawn: Drawn, key: str, found: Axis) -> list[Drawn]:
    _, values, factor = _here(key, found, drawn.point)
    if values is None:
        return [drawn]
    return [
        Drawn({**drawn.point, key: times(value, factor)}, {**drawn.picks, key: value})
        for value in (values if isinstance(values, tuple) else ())
    ]


def _here(key: str, found: Axis, point: Mapping[str, Any]) -> tuple[str, Values | None, Any]:
    """The name and values of an axis at a point, and what they are multiplied by; None for a setting left as it was."""
    if isinstance(found, By):
        return f"{key} at {found.setting}={point.get(found.setting)}", found.at(point), None
    if isinstance(found, Scaled):
        return (key, found.values, point[found.setting]) if found.setting in point else (key, None, None)
    return key, found, None


def _as_written(point: Mapping[str, Any], picks: Mapping[str, Any], axes: Mapping[str, Axis]) -> Drawn:
    return Drawn(*({key: values[key] for key in axes if key in values} for values in (point, picks)))


# --- at random -------------------------------------------------------------------------------------------------------


def draw(axes: Mapping[str, Axis], trials: int, seed: int) -> list[Drawn]:
    """`trials` different points, bounds included.

    Raises:
        ValueError: the space has fewer points.
    """
    points: dict[str, Drawn] = {}
    for index in range(trials):
        found = draw_one(axes, seed, index, lambda drawn: drawn.name in points)
        if found is None:
            raise ValueError(f"the space has too few points for {trials} different trials; got {len(points)}")
        points[found.name] = found
    return list(points.values())


def draw_one(axes: Mapping[str, Axis], seed: int, index: int, refused: Callable[[Drawn], bool]) -> Drawn | None:
    """Random point number `index`, redrawn while it is refused; None where nothing is left."""
    for attempt in range(ATTEMPTS):
        drawn = walk(axes, _drawing(seed, index, attempt))
        if not refused(drawn):
            return drawn
    if (size(axes) or math.inf) > LISTED:
        return None
    rest = [drawn for drawn in grid(axes) if not refused(drawn)]
    return rest[int(_generator(seed, "", index, ATTEMPTS).integers(len(rest)))] if rest else None


def _drawing(seed: int, index: int, attempt: int) -> Callable[[str, str, Values], Any]:
    return lambda key, _, values: _one(values, _generator(seed, key, index, attempt))


def _generator(seed: int, key: str, index: int, attempt: int) -> np.random.Generator:
    return np.random.default_rng((seed, crc32(key.encode()), index, attempt))


def _one(values: Values, generator: np.random.Generator) -> Any:
    if isinstance(values, tuple):
        return values[int(generator.integers(len(values)))]
    if values.kind == "uniform":
        number = values.low + (values.high - values.low) * float(generator.random())
    else:
        low, high = math.log(values.low), math.log(values.high)
        number = math.exp(low + (high - low) * float(generator.random()))
    return rounded(number, values)


def rounded(number: float, values: Distribution) -> float:
    """A drawn number in `DIGITS` digits, within its bounds."""
    return min(max(float(f"{number:.{DIGITS}g}"), values.low), values.high)
