"""The value of a gate's condition: its tree is walked, nothing is evaluated as code.

A term is a number, or a value on each of N images. Where a quantity does not exist, or an interval is asked of what has
no values on images, the comparison is neither true nor false; `and` and `or` then follow Kleene's three values.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from detector.types import Float64
from orchestrator.evaluation.statistics import LEAST_IMAGES, bootstrap
from orchestrator.plan.conditions import Condition, Joined, Name, Number, Sum, Term
from orchestrator.plan.study import Stat

_SIGNS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_STATS: Mapping[str, Stat] = {"hmean": "hmean", "precision": "precision", "recall": "recall"}


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Something that was scored on the common images.

    Attributes:
        stats: for each statistic its value on every image.
        among: how many it was chosen from.
    """

    name: str
    stats: Mapping[Stat, Float64]
    among: int = 1

    def mean(self, stat: Stat) -> float:
        """The macro mean."""
        return float(self.stats[stat].mean())


Named = Mapping[str, Candidate | Mapping[Stat, float]]


class _Missing(Exception):
    """A quantity that does not exist; the text says which."""


def holds(condition: Condition, named: Named) -> tuple[bool | None, str]:
    """Whether a condition holds (None: cannot be told), and its numbers as text.

    Args:
        named: quantities by name; a mapping of statistics is one without values on images (a target, a paper's figure).
    """
    if isinstance(condition, Joined):
        left, left_text = holds(condition.left, named)
        right, right_text = holds(condition.right, named)
        strong = condition.word == "or"  # one True settles `or`, one False settles `and`
        text = f"{left_text} {condition.word} {right_text}"
        if strong in (left, right):
            return strong, text
        return (None if None in (left, right) else not strong), text
    try:
        left_value, right_value = (_mean(_value(term, named, "hmean")) for term in (condition.left, condition.right))
    except _Missing as missing:
        return None, str(missing)
    text = f"{left_value:.4f} {condition.sign} {right_value:.4f}"
    return bool(_SIGNS[condition.sign](left_value, right_value)), text


def _value(term: Term, named: Named, stat: Stat) -> float | Float64:
    if isinstance(term, Number):
        return term.value
    if isinstance(term, Sum):
        left, right = _value(term.left, named, stat), _value(term.right, named, stat)
        return left + right if term.sign == "+" else left - right
    if isinstance(term, Name):
        return _quantity(term.id, named, stat)
    if term.function in _STATS:
        return _value(term.argument, named, _STATS[term.function])
    inner = _value(term.argument, named, stat)
    if term.function == "mean":
        return _mean(inner)
    if not isinstance(inner, np.ndarray):
        raise _Missing(f"{term.function}: no interval without values on images")
    if inner.size < LEAST_IMAGES:
        raise _Missing(f"{term.function}: {too_few(inner.size)}")
    interval = bootstrap(inner)
    return interval.low if term.function == "ci_low" else interval.high


def too_few(images: int) -> str:
    """Why so few images decide nothing."""
    return f"{images} image{'s' * (images != 1)} cannot show a difference; at least {LEAST_IMAGES} are needed"


def _quantity(name: str, named: Named, stat: Stat) -> float | Float64:
    found = named.get(name)
    if found is None:
        raise _Missing(f"there is no `{name}`")
    if isinstance(found, Candidate):
        return found.stats[stat]
    if stat not in found:
        raise _Missing(f"`{name}` says nothing of {stat}")
    return found[stat]


def _mean(value: float | Float64) -> float:
    return float(value.mean()) if isinstance(value, np.ndarray) else float(value)
