"""The outcomes of a plan, written back into the tables of the roadmap that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detector.errors import InputError
from detector.files import write_text
from orchestrator.evaluation.decisions import Decision, Outcome
from orchestrator.plan.markdown import with_outcomes


def write_outcomes(path: Path, decisions: Sequence[Decision]) -> int:
    """Fill in the columns `measured` and `verdict` of every row that a decision speaks of; how many these were.

    Raises:
        InputError: the roadmap cannot be read, or no row of it is an experiment of these decisions.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--roadmap {path}: cannot be read as text ({error}); check the path") from error
    outcomes = {
        decision.phase: {outcome.experiment: _cells(outcome) for outcome in decision.outcomes} for decision in decisions
    }
    filled, count = with_outcomes(text, outcomes)
    if not count:
        names = ", ".join(outcomes) or "none is decided yet"
        raise InputError(f"--roadmap {path}: no table has a row of this plan's phases ({names}); check the headings")
    if filled != text:
        write_text(path, filled)
    return count


def _cells(outcome: Outcome) -> tuple[str, str]:
    """Measured H with its difference to the baseline and the interval of that; the verdict."""
    if outcome.scores is None:
        return outcome.note or "-", "-"
    difference = f" ({outcome.difference})" if outcome.difference is not None else ""
    return f"{outcome.scores['hmean']:.4f}{difference}", outcome.verdict or "-"
