"""How experiments, effects and settings read in one line, and tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detector.config import Postprocess
from orchestrator.plan.settings import flat
from orchestrator.plan.study import Effect, Experiment, Top

DIGITS = 4  # of a score


def work(experiment: Experiment) -> str:
    """What an experiment without trials of its own will do, in one line; empty for one with trials."""
    if experiment.derive is not None:
        rule = experiment.derive
        count = rule.source.count * len(rule.repeats)
        times = [f" x {len(rule.folds)} folds"] if rule.folds else []
        times += [f" x {len(rule.seeds)} seeds"] if rule.seeds else []
        changes = "".join(f" {key}={setting_text(value)}" for key, value in flat(rule.changes).items())
        return f"{count} trial{'s' if count > 1 else ''}: {_top(rule.source)}{''.join(times)}{changes}"
    if experiment.thresholds is not None:
        of = experiment.thresholds.of
        return f"{_rules(experiment.thresholds.rules)} on {_top(of) if isinstance(of, Top) else of}"
    if experiment.ensemble is not None:
        spec = experiment.ensemble
        pool = _top(spec.pool) if isinstance(spec.pool, Top) else ", ".join(spec.pool)
        ways = [f"{spec.weights} weights"] if spec.weights != "equal" else []
        ways += [f"{spec.fusion} fusion"] if spec.fusion != "mean" else []
        ways += [f"soups {spec.soups}"] if spec.soups != "none" else []
        single = isinstance(spec.pool, Top) and spec.pool.count == 1 and spec.soups != "beside"
        one = spec.max_members == 1 or single
        members = f"the best of {pool} alone" if one else f"up to {spec.max_members} members of {pool}"
        parts = [members, f"views {', '.join(spec.views)}", *ways]
        return "; ".join([*parts, _rules(spec.rules)])
    return ""


def search_text(experiment: Experiment) -> str:
    """How many trials of a sweep that proposes are known, and how many are to come; empty for others."""
    if experiment.proposals is None:
        return ""
    return f"{len(experiment.trials)} trials known, {len(experiment.unproposed)} to be proposed by TPE"


def _rules(rules: Sequence[Postprocess]) -> str:
    return f"{len(rules)} rules" if len(rules) > 1 else "1 rule"


def effect_text(effect: Effect) -> str:
    """`hmean +0.0030..+0.0050`."""
    sign = "+" if effect.relative else ""
    low, high = (f"{value:{sign}.{DIGITS}f}" for value in (effect.low, effect.high))
    if effect.low == effect.high:
        return f"{effect.stat} {low}"
    return f"{effect.stat} >= {low}" if effect.high == 1.0 else f"{effect.stat} {low}..{high}"


def aligned(cells: Sequence[tuple[str, ...]], indent: str = "") -> list[str]:
    """Rows of cells as lines, columns one below the other; columns that are empty throughout are left out."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))] if cells else []
    return [indent + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True) if w).rstrip() for row in cells]


def _top(top: Top) -> str:
    return f"top({top.scope}, {top.count})"


def setting_text(value: Any) -> str:
    """A setting's value in a table."""
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
