"""How much each knob of the post-processing matters on some images, and where it does nothing at all.

For each value of a knob: the best mean H that any setting of the others reaches with it, and the mean H with the others
as they were chosen. A stretch of values is *still* if no rule scores otherwise on any image when the knob moves along
it: there is nothing to be tuned there, and a lead that another search finds on it is an accident of ties.

Shapes: R rules, N images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from detector.config import Postprocess
from orchestrator.evaluation.statistics import Interval, paired_bootstrap
from orchestrator.evaluation.thresholds import Table

Value = float | str


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a knob: the best mean H with it, and that with all else as chosen (None where it was not tried)."""

    value: Value
    best: float
    chosen: float | None


@dataclass(frozen=True, slots=True)
class Knob:
    """What one knob does.

    Attributes:
        name: as plans write it.
        chosen: its value in the rule that ships; None where that rule does not use it.
        points: in the order of the values.
        still: first and last value of each stretch along which nothing changes on any image.
        loss: of the mean H from the best to the worst value, all else as chosen; None where fewer than two were tried.
    """

    name: str
    chosen: Value | None
    points: tuple[Point, ...]
    still: tuple[tuple[Value, Value], ...]
    loss: Interval | None

    @property
    def does_nothing(self) -> bool:
        """Whether no value of it changes anything."""
        return self.still == ((self.points[0].value, self.points[-1].value),)

    @property
    def curve(self) -> list[dict[str, float]]:
        """Rows of its values with the best mean H; none for a knob without numbers."""
        return [{self.name: p.value, "hmean": p.best} for p in self.points if not isinstance(p.value, str)]

    def __str__(self) -> str:
        if self.does_nothing:
            return f"{self.name}: no effect from {_shown(self.points[0].value)} to {_shown(self.points[-1].value)}"
        worst = min(self.points, key=lambda point: point.best)
        told = [f"{self.name}: {_shown(worst.value)} costs {max(p.best for p in self.points) - worst.best:.4f} at best"]
        if self.loss is not None:
            sure = "" if self.loss.above_zero else ", not surely anything"
            told.append(f"alone it moves H by {self.loss.mean:.4f} [{self.loss.low:.4f}, {self.loss.high:.4f}]{sure}")
        told += [f"no effect from {_shown(low)} to {_shown(high)}" for low, high in self.still]
        return "; ".join(told)


def sensitivity(table: Table, rule: Postprocess) -> tuple[Knob, ...]:
    """Every knob that the search gave two values or more.

    Args:
        rule: the one that was chosen.
    """
    mean_R = table.hmean_RN.mean(axis=1)
    found = []
    for name, (of, applies) in _KNOBS.items():
        at: dict[Value, list[int]] = {}
        for index, candidate in enumerate(table.rules):
            if applies(candidate):
                at.setdefault(of(candidate), []).append(index)
        if len(at) < 2:
            continue
        values = sorted(at, key=lambda value: (isinstance(value, str), value))
        chosen = of(rule) if applies(rule) else None
        alone = {of(table.rules[i]): i for i in _beside(table.rules, rule, name)} if chosen is not None else {}
        points = tuple(
            Point(value, float(mean_R[at[value]].max()), float(mean_R[alone[value]]) if value in alone else None)
            for value in values
        )
        found.append(Knob(name, chosen, points, tuple(_still(table, name, values, at)), _loss(table, alone.values())))
    return tuple(found)


_Access = tuple[Callable[[Postprocess], Value], Callable[[Postprocess], bool]]
_KNOBS: Final[Mapping[str, _Access]] = {
    "thresh": (lambda rule: rule.thresh, lambda rule: True),
    "box_thresh": (lambda rule: rule.box_thresh, lambda rule: True),
    "unclip_ratio": (lambda rule: rule.unclip_ratio, lambda rule: rule.unclip == "ratio"),
    "shrink_ratio": (lambda rule: rule.shrink_ratio, lambda rule: rule.unclip == "inverse"),
    "shape": (lambda rule: rule.shape, lambda rule: True),
}


def _rest(rule: Postprocess, name: str) -> tuple[Any, ...]:
    """All of a rule that counts beside one knob."""
    unused = "shrink_ratio" if rule.unclip == "ratio" else "unclip_ratio"
    return tuple(value for key, value in rule if key not in (name, unused))


def _beside(rules: Sequence[Postprocess], rule: Postprocess, name: str) -> Iterator[int]:
    """Indices of the rules that differ from one in one knob at most."""
    wanted = _rest(rule, name)
    return (index for index, other in enumerate(rules) if _rest(other, name) == wanted)


def _still(
    table: Table, name: str, values: Sequence[Value], at: Mapping[Value, Sequence[int]]
) -> list[tuple[Value, Value]]:
    rows = {value: {_rest(table.rules[index], name): index for index in at[value]} for value in values}
    stretches: list[tuple[Value, Value]] = []
    for before, after in pairwise(values):
        pairs = [(index, rows[after].get(rest)) for rest, index in rows[before].items()]
        if any(other is None or (table.counts_RNF[index] != table.counts_RNF[other]).any() for index, other in pairs):
            continue
        if stretches and stretches[-1][1] == before:
            stretches[-1] = (stretches[-1][0], after)
        else:
            stretches.append((before, after))
    return stretches


def _loss(table: Table, indices: Any) -> Interval | None:
    hmean_VN = table.hmean_RN[list(indices)]
    if len(hmean_VN) < 2:
        return None
    mean_V = hmean_VN.mean(axis=1)
    return paired_bootstrap(hmean_VN[int(mean_V.argmax())], hmean_VN[int(mean_V.argmin())])


def _shown(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
