"""The closed grammar of values in a plan: ranges, distributions, effects, costs, top(...); nothing is run.

Every parser raises ValueError with the rule and the value; the loader adds file, line and key.

    range         0.15..0.45            0.15..0.45 step 0.05         640..1280 step 32      both ends included
    distribution  uniform(a, b)         loguniform(a, b)
    effect        +0.003..+0.005        +0.0025 (relative)           0.98  0.98..0.981  >= 0.982 (absolute)
    cost          4h   90min   1.5 GPU-h   2                         GPU-hours
    top           top(phase2, 1)        top(phase2.lr, 3)            top(all, 8)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from orchestrator.plan.study import Effect, Stat, Top

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({NUMBER})\s*\.\.\s*({NUMBER})(?:\s+step\s+({NUMBER}))?")
_CALL = re.compile(r"([A-Za-z_]+)\s*\((.*)\)")
_COST = re.compile(r"(\d+\.?\d*|\.\d+)\s*(h|gpu-?h|gpu-hours?|hours?|min|m|minutes?)?", re.IGNORECASE)
_TOP = re.compile(r"top\(\s*([A-Za-z0-9_.-]+)\s*,\s*(\d+)\s*\)")
MAX_RANGE = 10_000  # values of a stepped range; more is a slip of the pen


@dataclass(frozen=True, slots=True)
class Span:
    """`low..high`, both included, `step` None where none is given; whole where all three are written as integers."""

    low: Decimal
    high: Decimal
    step: Decimal | None
    whole: bool

    def values(self, default_step: str = "1") -> tuple[float, ...] | tuple[int, ...]:
        """low, low + step, ... up to high; in decimal arithmetic, so 0.15..0.45 step 0.05 ends with 0.45."""
        step = self.step if self.step is not None else Decimal(default_step)
        count = int((self.high - self.low) / step) + 1
        if count > MAX_RANGE:
            raise ValueError(f"a range may have {MAX_RANGE} values, got {count}; take a larger step")
        numbers = [self.low + index * step for index in range(count)]
        return tuple(int(n) for n in numbers) if self.whole else tuple(float(n) for n in numbers)


def span(text: str) -> Span | None:
    """A range, or None where `text` is something else."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    low, high = Decimal(match[1]), Decimal(match[2])
    step = Decimal(match[3]) if match[3] else None
    if low > high:
        raise ValueError(f"`low <= high` must hold, got low={match[1]}, high={match[2]}; swap them")
    if step is not None and step <= 0:
        raise ValueError(f"`step > 0` must hold, got {match[3]}")
    whole = all(re.fullmatch(r"[-+]?\d+", part) for part in match.groups() if part)
    return Span(low, high, step, whole)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A continuous distribution over [low, high]."""

    kind: Literal["uniform", "loguniform"]
    low: float
    high: float


def distribution(text: str) -> Distribution | None:
    """`uniform(a, b)` or `loguniform(a, b)`, or None where `text` is no call at all."""
    match = _CALL.fullmatch(text.strip())
    if match is None:
        return None
    name, inside = match[1], match[2]
    if name not in ("uniform", "loguniform"):
        raise ValueError(f"`uniform(a, b)` or `loguniform(a, b)` expected, got {text!r}; choices are written [a, b, c]")
    parts = [part.strip() for part in inside.split(",")]
    if len(parts) != 2 or not all(re.fullmatch(NUMBER, part) for part in parts):
        raise ValueError(f"{name} takes two numbers, got {text!r}; write {name}(1e-4, 3e-3)")
    low, high = float(parts[0]), float(parts[1])
    if low >= high:
        raise ValueError(f"`low < high` must hold, got low={parts[0]}, high={parts[1]}; swap them")
    if name == "loguniform":
        if low <= 0:
            raise ValueError(f"`low > 0` must hold for loguniform, got {parts[0]}")
        return Distribution("loguniform", low, high)
    return Distribution("uniform", low, high)


def effect(stat: Stat, text: str) -> Effect:
    """What an author expects: signed values are relative to the baseline, unsigned ones are scores."""
    body = text.strip()
    at_least = body.startswith(">=")
    body = body.removeprefix(">=").strip()
    parts = [part.strip() for part in body.split("..")]
    if len(parts) > 2 or (at_least and len(parts) > 1) or not all(re.fullmatch(NUMBER, part) for part in parts):
        raise ValueError(f"+0.003..+0.005, +0.0025, 0.9800..0.9810 or >= 0.9820 expected, got {text!r}")
    signed = {part[0] in "+-" for part in parts}
    if len(signed) > 1:
        raise ValueError(f"both ends must have a sign (relative to the baseline) or none (a score), got {text!r}")
    low, high, relative = float(parts[0]), float(parts[-1]), signed == {True}
    if low > high:
        raise ValueError(f"`low <= high` must hold, got {text!r}; swap the ends")
    if (not relative and high > 1) or (relative and max(abs(low), abs(high)) >= 1):
        raise ValueError(f"scores lie in 0..1, got {text!r}; write 98.1 % as 0.981")
    return Effect(stat, low, 1.0 if at_least else high, relative)


def cost_gpu_h(value: str | int | float) -> float:
    """GPU-hours from `4h`, `90min`, `1.5 GPU-h` or a plain number of hours."""
    match = _COST.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"GPU-hours such as 4h, 90min or 1.5 expected, got {value!r}")
    unit = (match[2] or "h").lower()
    return float(match[1]) / (60.0 if unit.startswith("m") else 1.0)


def top(text: str) -> Top:
    """`top(SCOPE, COUNT)`; the scope is checked against the plan elsewhere."""
    match = _TOP.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"top(SCOPE, COUNT) expected, such as top(phase2, 1), top(phase2.lr, 3) or top(all, 8); got {text!r}"
        )
    if int(match[2]) < 1:
        raise ValueError(f"top counts from 1, got {text!r}")
    return Top(match[1], int(match[2]))
