"""What was decided on a phase, as plain values with their numbers, and as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Literal

from orchestrator.evaluation.answers import Answer
from orchestrator.evaluation.statistics import Interval
from orchestrator.plan.study import Effect, Stat

Verdict = Literal["confirmed", "refuted", "undecided"]
State = Literal["passed", "failed", "undecided"]


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
    """A statistic that the phase's best should reach.

    Attributes:
        interval: of what was measured; `passed` if it begins at `wanted` or above, `failed` if it ends below.
    """

    stat: Stat
    wanted: float
    measured: float | None
    interval: Interval | None
    state: State


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """Whether the roadmap goes on.

    Attributes:
        numbers: the condition with its values filled in.
        answer: a person's, given on these very numbers; None where nobody was asked or nobody answered.
    """

    expression: str
    state: State
    otherwise: Literal["ask", "continue", "stop"]
    numbers: str
    answer: Answer | None = None

    @property
    def passed(self) -> bool:
        """Whether the condition holds."""
        return self.state == "passed"

    @property
    def settled(self) -> bool:
        """Whether it passed, or a person who saw the numbers said `go-on`."""
        return self.passed or (self.answer is not None and self.answer.word == "go-on")

    @property
    def holds(self) -> bool:
        """Whether phases that need this one must wait."""
        return not self.settled and self.otherwise != "continue"

    @property
    def asks(self) -> bool:
        """Whether a person's answer is wanted."""
        return not self.passed and self.otherwise == "ask" and self.answer is None

    def __str__(self) -> str:
        told = f"gate {self.expression}: {self.state} ({self.numbers})"
        return told if self.answer is None else f"{told}; {self.answer}"


@dataclass(frozen=True, slots=True)
class Decision:
    """A phase, decided.

    Attributes:
        baseline: name of the trial that differences are taken to, or None.
        best: the experiment's candidate with the highest H, and its macro means.
        left_out: trials that the budget or the deadline left out, each with its numbers.
    """

    phase: str
    baseline: str | None
    best: str | None
    scores: Mapping[Stat, float] | None
    outcomes: tuple[Outcome, ...]
    targets: tuple[TargetOutcome, ...]
    gate: GateOutcome | None
    left_out: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the gate passed; a phase without a gate does."""
        return self.gate is None or self.gate.passed

    @property
    def holds_others(self) -> bool:
        """Whether phases that need this one must wait."""
        return self.gate is not None and self.gate.holds

    @property
    def state(self) -> State:
        """Of target and gate together: failed if one is, passed if all are."""
        return joint([*(target.state for target in self.targets), *([self.gate.state] if self.gate else [])])

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "passed": self.passed, "state": self.state}

    def markdown(self) -> str:
        """The decision for people: best, target, gate, and a line for every experiment."""
        lines = [f"### Phase {self.phase}", ""]
        if self.best and self.scores:
            lines.append(f"Best: `{self.best}`, {score_text(self.scores)}; baseline: `{self.baseline or 'none'}`.")
        lines += [f"Target {target_text(target)}." for target in self.targets]
        if self.gate:
            lines.append(f"Gate `{self.gate.expression}`: **{self.gate.state}** ({self.gate.numbers}).")
            lines += [one_line(f"{self.gate.answer}.")] if self.gate.answer else []
        lines += [one_line(f"Left out: {one}.") for one in self.left_out]
        lines += [
            "",
            "| experiment | expected | measured H | difference to baseline (95 %) | verdict |",
            "|---|---|---|---|---|",
        ]
        for outcome in self.outcomes:
            cells = outcome_cells(outcome)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(lines) + "\n"


def joint(states: Sequence[State]) -> State:
    """Failed if one is, passed if all are (or there are none), else undecided."""
    if "failed" in states:
        return "failed"
    return "undecided" if "undecided" in states else "passed"


def one_line(text: str) -> str:
    """Text of a person as one line of Markdown that holds no HTML."""
    return escape(" ".join(text.split()), quote=False)


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
        if item.measured is not None
        and (item.effect.stat != "hmean" or item.interval is None or not item.interval.enough)
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
    interval = target.interval
    ends = f" [{interval.low:.4f}, {interval.high:.4f}] on {interval.count} images" if interval is not None else ""
    return f"{target.stat} >= {target.wanted:.4f}: {target.state} ({measured}{ends})"


def score_text(scores: Mapping[Stat, float]) -> str:
    """H, P and R of a set."""
    return f"H {scores['hmean']:.4f}, P {scores['precision']:.4f}, R {scores['recall']:.4f}"
