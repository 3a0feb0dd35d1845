"""Sweeps: a space of settings drawn into trials when the plan is read, from the sweep's own seed.

Draw number i of a key depends on (seed, key, i) alone: more trials keep the first ones, and another key in the space
leaves the draws of the others as they were.

A setting may depend on another of the same space:

    inner_channels: {by: decoder, values: {unet: [128, 256]}}            for `fpn` it keeps the plan's value
    accumulate: {by: batch_size, values: {4: [2, 4], 8: [1]}}
    optimizer.lr: {values: "loguniform(5e-5, 5e-4)", times: batch_size}  what is drawn, times the trial's batch_size
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np

from orchestrator.plan.expressions import Distribution, distribution, span
from orchestrator.plan.settings import flat_knobs
from orchestrator.plan.spelling import nearest
from orchestrator.plan.tree import scalar

Values: TypeAlias = tuple[Any, ...] | Distribution
ATTEMPTS = 1000  # redraws before a space counts as exhausted
DIGITS = 6  # significant digits of a drawn number, so that configs can be read and typed again
FORMS = "{by: SETTING, values: {CASE: ...}} or {values: ..., times: SETTING}"


@dataclass(frozen=True, slots=True)
class By:
    """Values that depend on another setting's; where that has no case, the setting is left as it was."""

    setting: str
    cases: tuple[tuple[Any, Values], ...]

    def at(self, point: Mapping[str, Any]) -> Values | None:
        """The values at a point that holds what this depends on."""
        for case, values in self.cases:
            if self.setting in point and point[self.setting] == case:
                return values
        return None


@dataclass(frozen=True, slots=True)
class Scaled:
    """Values times another setting's."""

    values: Values
    setting: str


Axis: TypeAlias = Values | By | Scaled


def axes_of(space: Mapping[str, Any]) -> dict[str, Axis]:
    """The axis of every setting of a `space`, nested or dotted. Raises ValueError with the rule."""
    return {key: axis(value) for key, value in flat_knobs(space).items()}


def axis(value: Any) -> Axis:
    """The values of one setting. Raises ValueError with the rule."""
    if not isinstance(value, Mapping):
        return _values(value)
    cases, names = value.get("values"), set(value)
    if names == {"by", "values"} and isinstance(cases, Mapping) and cases and isinstance(value["by"], str):
        return By(value["by"], tuple((scalar(str(case)), _values(inner)) for case, inner in cases.items()))
    if names == {"values", "times"} and isinstance(value["times"], str) and not isinstance(cases, Mapping):
        return Scaled(_values(cases), value["times"])
    raise ValueError(f"{FORMS} expected, got a mapping of {', '.join(f'`{name}`' for name in value) or 'nothing'}")


def _values(value: Any) -> Values:
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


# --- what depends on what --------------------------------------------------------------------------------------------


def relations(axes: Mapping[str, Axis]) -> Iterator[tuple[str, str]]:
    """(setting, what is wrong with what it depends on)."""
    for key, found in axes.items():
        if not isinstance(found, By | Scaled):
            continue
        other = found.setting
        if other not in axes:
            word = "by" if isinstance(found, By) else "times"
            yield key, f"`{word}` must name a setting of this space, got `{other}`{nearest(other, set(axes) - {key})}"
            continue
        trail = _circle(key, axes)
        if trail:
            yield key, f"settings must not depend on each other in a circle, got {trail}"
            continue
        listed = _reach(axes, other)
        if isinstance(found, By):
            if any(isinstance(values, Distribution) for values in _parts(axes[other])):
                yield key, f"`by` needs listed values, and `{other}` is drawn from a distribution; use `times`"
                continue
            for case, _ in found.cases:
                if case not in listed:
                    hint = nearest(str(case), map(str, listed))
                    yield key, f"`{case}` is not among the values of `{other}`{hint}"
        elif not all(_is_number(value) for value in (*_reach(axes, other), *_ends(found.values))):
            yield key, f"`times` needs numbers, got {_texts((*_reach(axes, other), *_ends(found.values)))}"


def _circle(start: str, axes: Mapping[str, Axis]) -> str:
    trail = [start]
    while isinstance(found := axes.get(trail[-1]), By | Scaled):
        trail.append(found.setting)
        if found.setting == start:
            return " -> ".join(trail)
        if found.setting in trail[:-1]:
            return ""  # a circle that others are in, and report
    return ""


def _order(axes: Mapping[str, Axis]) -> list[str]:
    """What is depended on first; otherwise as written."""
    ordered: dict[str, None] = {}

    def visit(key: str) -> None:
        found = axes[key]
        if isinstance(found, By | Scaled) and found.setting not in ordered:
            visit(found.setting)
        ordered.setdefault(key)

    for key in axes:
        visit(key)
    return list(ordered)


def _parts(found: Axis) -> tuple[Values, ...]:
    if isinstance(found, By):
        return tuple(values for _, values in found.cases)
    return (found.values,) if isinstance(found, Scaled) else (found,)


def _ends(values: Values) -> tuple[Any, ...]:
    return (values.low, values.high) if isinstance(values, Distribution) else values


def _reach(axes: Mapping[str, Axis], key: str) -> tuple[Any, ...]:
    """The values that a setting can have; the ends of a distribution."""
    found = axes[key]
    own = tuple(value for values in _parts(found) for value in _ends(values))
    if isinstance(found, Scaled):
        return tuple(_times(value, factor) for value in own for factor in _reach(axes, found.setting))
    return own


def probes(axes: Mapping[str, Axis], key: str) -> Iterator[dict[str, Any]]:
    """Settings that show whether all values of a key fit: each listed value, the ends of a distribution, with what it
    depends on."""
    found = axes[key]
    if isinstance(found, By):
        for case, values in found.cases:
            yield from ({found.setting: case, key: value} for value in _ends(values))
    elif isinstance(found, Scaled):
        for factor, value in product(_reach(axes, found.setting), _ends(found.values)):
            yield {found.setting: factor, key: _times(value, factor)}
    else:
        yield from ({key: value} for value in _ends(found))


def covers(axes: Mapping[str, Axis], key: str, value: float) -> bool:
    """Whether a number lies within what a key can have; also where that is a single value, or no number."""
    reach = set(_reach(axes, key)) if all(map(_is_number, _reach(axes, key))) else set()
    return len(reach) < 2 or min(reach) <= value <= max(reach)


def extent(axes: Mapping[str, Axis], key: str) -> tuple[float, float]:
    """The least and the greatest number that a key can have."""
    reach = _reach(axes, key)
    return min(reach), max(reach)


# --- points ----------------------------------------------------------------------------------------------------------


def size(axes: Mapping[str, Axis]) -> int | None:
    """Points of a finite space; None where a distribution is continuous."""
    if any(isinstance(values, Distribution) for found in axes.values() for values in _parts(found)):
        return None
    tied = {key for key, found in axes.items() if isinstance(found, By | Scaled)}
    tied |= {found.setting for found in axes.values() if isinstance(found, By | Scaled)}
    free = [len(found) for key, found in axes.items() if key not in tied and isinstance(found, tuple)]
    return math.prod(free) * len(grid({key: found for key, found in axes.items() if key in tied}))


def grid(axes: Mapping[str, Axis]) -> list[dict[str, Any]]:
    """Every point of a finite space, the last key running fastest."""
    points: list[dict[str, Any]] = [{}]
    for key in _order(axes):
        points = [made for point in points for made in _grown(point, key, axes[key])]
    return [_as_written(point, axes) for point in points]


def _grown(point: dict[str, Any], key: str, found: Axis) -> list[dict[str, Any]]:
    values, factor = _here(found, point)
    if values is None:
        return [point]
    return [point | {key: _times(value, factor)} for value in (values if isinstance(values, tuple) else ())]


def _here(found: Axis, point: Mapping[str, Any]) -> tuple[Values | None, Any]:
    """The values of an axis at a point, and what they are multiplied by; None where the setting is left as it was."""
    if isinstance(found, By):
        return found.at(point), None
    if isinstance(found, Scaled):
        return (found.values, point[found.setting]) if found.setting in point else (None, None)
    return found, None


def draw(axes: Mapping[str, Axis], trials: int, seed: int) -> list[dict[str, Any]]:
    """`trials` different points, bounds included.

    Raises:
        ValueError: the space has fewer points.
    """
    points: dict[str, dict[str, Any]] = {}
    order = _order(axes)
    for index in range(trials):
        for attempt in range(ATTEMPTS):
            point: dict[str, Any] = {}
            for key in order:
                values, factor = _here(axes[key], point)
                if values is not None:
                    point[key] = _times(_one(values, _generator(seed, key, index, attempt)), factor)
            name = json.dumps(point, sort_keys=True)
            if name not in points:
                points[name] = _as_written(point, axes)
                break
        else:
            raise ValueError(f"the space has too few points for {trials} different trials; got {len(points)}")
    return list(points.values())


def _as_written(point: Mapping[str, Any], axes: Mapping[str, Axis]) -> dict[str, Any]:
    return {key: point[key] for key in axes if key in point}


def _times(value: Any, factor: Any) -> Any:
    if factor is None:
        return value
    made = value * factor
    return made if isinstance(made, int) else float(f"{made:.{DIGITS}g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(values: tuple[Any, ...]) -> str:
    return ", ".join(dict.fromkeys(repr(value) for value in values if not _is_number(value)))


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
    return min(max(float(f"{number:.{DIGITS}g}"), values.low), values.high)
