"""The space of a sweep: which values each setting can have (`points` makes trials of it).

A setting may depend on another of the same space:

    inner_channels: {by: decoder, values: {unet: [128, 256]}}            for `fpn` it keeps the plan's value
    accumulate: {by: batch_size, values: {4: [2, 4], 8: [1]}}
    optimizer.lr: {values: "loguniform(5e-5, 5e-4)", times: batch_size}  what is drawn, times the trial's batch_size
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

from orchestrator.plan.expressions import Distribution, distribution, span
from orchestrator.plan.settings import flat_knobs
from orchestrator.plan.spelling import nearest
from orchestrator.plan.tree import scalar

Values: TypeAlias = tuple[Any, ...] | Distribution
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
            if any(isinstance(values, Distribution) for values in parts(axes[other])):
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


def order(axes: Mapping[str, Axis]) -> list[str]:
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


def plain(found: Axis) -> Any:
    """An axis as plain data, equal however it was written."""
    if isinstance(found, By):
        return {"by": found.setting, "values": [[case, plain(values)] for case, values in found.cases]}
    if isinstance(found, Scaled):
        return {"values": plain(found.values), "times": found.setting}
    return [found.kind, found.low, found.high] if isinstance(found, Distribution) else {"choices": list(found)}


def parts(found: Axis) -> tuple[Values, ...]:
    """The values of an axis, of all its cases."""
    if isinstance(found, By):
        return tuple(values for _, values in found.cases)
    return (found.values,) if isinstance(found, Scaled) else (found,)


def _ends(values: Values) -> tuple[Any, ...]:
    return (values.low, values.high) if isinstance(values, Distribution) else values


def _reach(axes: Mapping[str, Axis], key: str) -> tuple[Any, ...]:
    """The values that a setting can have; the ends of a distribution."""
    found = axes[key]
    own = tuple(value for values in parts(found) for value in _ends(values))
    if isinstance(found, Scaled):
        return tuple(times(value, factor) for value in own for factor in _reach(axes, found.setting))
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
            yield {found.setting: factor, key: times(value, factor)}
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


def times(value: Any, factor: Any) -> Any:
    """A value times what it depends on, if anything, in `DIGITS` digits."""
    if factor is None:
        return value
    made = value * factor
    return made if isinstance(made, int) else float(f"{made:.{DIGITS}g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(values: tuple[Any, ...]) -> str:
    return ", ".join(dict.fromkeys(repr(value) for value in values if not _is_number(value)))
