"""What was decided on a phase, as plain values with their numbers, and as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from orchestrator.evaluation.statistics import Interval
from orchestrator.plan.study import Effect, Stat

Verdict = Literal["confirmed", "refuted", "undecided"]


@dataclass(frozen=True, slots=True)
class EffectOutcome:
    """One expected effect and what was measured.

    Attributes:
        measured: difference to the baseline (relative effects) or score; None where there is nothing to measure by.
        interval: of `measured`, or None.
        why: what it was held against.
    """

    effect: Effect
    measured: float | None
    interval: Interval | None
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One experiment, held against its author's expectations.

    Attributes:
        candidate: name of the trial or result that stands for it, or None where nothing could be scored.
        scores: its macro means.
        among: how many trials or rules it was chosen from.
        difference: of H to the phase's baseline, or None without a baseline (or for the baseline itself).
        verdict: None where nothing was expected or nothing could be scored.
    """

    experiment: str
    what: str
    kind: str
    candidate: str | None
    scores: Mapping[Stat, float] | None
    among: int
    difference: Interval | None
    effects: tuple[EffectOutcome, ...]
    verdict: Verdict | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class TargetOutcome:
    """A statistic that the phase's best should reach."""

    stat: Stat
    wanted: float
    measured: float | None
    reached: bool


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """Whether the roadmap goes on. `numbers`: the condition with its values filled in."""

    expression: str
    state: Literal["passed", "failed", "undecided"]
    otherwise: Literal["ask", "continue", "stop"]
    numbers: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A phase, decided.

    Attributes:
        baseline: name of the trial that differences are taken to, or None.
        best: the experiment's candidate with the highest H, and its macro means.
    """

    phase: str
    baseline: str | None
    best: str | None
    scores: Mapping[Stat, float] | None
    outcomes: tuple[Outcome, ...]
    targets: tuple[TargetOutcome, ...]
    gate: GateOutcome | None

    @property
    def passed(self) -> bool:
        """Whether the gate passed; a phase without a gate does."""
        return self.gate is None or self.gate.state == "passed"

    @property
    def holds_others(self) -> bool:
        """Whether phases that need this one must wait."""
        return not self.passed and self.gate is not None and self.gate.otherwise != "continue"

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "passed": self.passed}

    def markdown(self) -> str:
        """The decision for people: best, target, gate, and a line for every experiment."""
        lines = [f"### Phase {self.phase}", ""]
        if self.best and self.scores:
            lines.append(f"Best: `{self.best}`, {score_text(self.scores)}; baseline: `{self.baseline or 'none'}`.")
        lines += [f"Target {target_text(target)}." for target in self.targets]
        if self.gate:
            lines.append(f"Gate `{self.gate.expression}`: **{self.gate.state}** ({self.gate.numbers}).")
        lines += [
            "",
            "| experiment | expected | measured H | difference to baseline (95 %) | verdict |",
            "|---|---|---|---|---|",
        ]
        for outcome in self.outcomes:
            cells = outcome_cells(outcome)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(lines) + "\n"


def outcome_cells(outcome: Outcome) -> tuple[str, str, str, str, str]:
    """Experiment, expected, measured, difference, verdict: a row of a table, as plain text."""
    name = f"{outcome.experiment}: {outcome.what}" if outcome.what else outcome.experiment
    expected = "; ".join(effect_text(item.effect) for item in outcome.effects)
    measured = f"{outcome.scores['hmean']:.4f}" if outcome.scores else "-"
    if outcome.note:
        measured += f" ({outcome.note})"
    difference = str(outcome.difference) if outcome.difference else "-"
    others = [
        f"{item.effect.stat} {item.measured:{'+' if item.effect.relative else ''}.4f} {item.why}"
        for item in outcome.effects
        if item.measured is not None and (item.effect.stat != "hmean" or item.interval is None)
    ]
    return name, expected or "-", measured, "; ".join([difference, *others]), outcome.verdict or "-"


def effect_text(effect: Effect) -> str:
    """An expectation as a plan writes it."""
    sign = "+" if effect.relative else ""
    ends = [f"{effect.low:{sign}.4f}"] + ([f"{effect.high:{sign}.4f}"] if effect.high != effect.low else [])
    if not effect.relative and effect.high >= 1:
        ends = [f">= {effect.low:.4f}"]
    return f"{effect.stat} {'..'.join(ends)}"


def target_text(target: TargetOutcome) -> str:
    """A target with what was measured."""
    measured = "nothing measured" if target.measured is None else f"{target.measured:.4f}"
    return f"{target.stat} >= {target.wanted:.4f}: {'reached' if target.reached else 'not reached'} ({measured})"


def score_text(scores: Mapping[Stat, float]) -> str:
    """H, P and R of a set."""
    return f"H {scores['hmean']:.4f}, P {scores['precision']:.4f}, R {scores['recall']:.4f}"
