"""What a study has come to, read from the workspace alone: nothing is trained, no map is computed.

A driver asks it what is left before it starts anything, and the report is made from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.evaluation.decisions import Decision
from orchestrator.evaluation.ensemble import build
from orchestrator.evaluation.gates import decide
from orchestrator.evaluation.outoffold import FoldResult, fold_results
from orchestrator.evaluation.scores import Board, evaluate, has_soup, study_trials, top, with_trials
from orchestrator.evaluation.soups import SUFFIX, candidates
from orchestrator.evaluation.tuned import Tuned
from orchestrator.evaluation.tuning import SILENT, Told, tune
from orchestrator.execution.admitting import left_out
from orchestrator.ledger import Ledger
from orchestrator.plan.expand import derive
from orchestrator.plan.study import Experiment, Phase, Study


@dataclass(frozen=True, slots=True, eq=False)
class Review:
    """The state of a study.

    Attributes:
        study: derived trials included, as far as their sources have finished.
        left: names of what is still to be done, in order.
        waiting: phases that a gate holds.
        folds: of fold experiments, as far as they are known.
    """

    study: Study
    board: Board
    results: tuple[Tuned, ...]
    decisions: tuple[Decision, ...]
    left: tuple[str, ...]
    waiting: tuple[str, ...]
    folds: tuple[FoldResult, ...] = ()


def review(study: Study, ledger: Ledger, own: frozenset[str], chosen: frozenset[str] | None = None) -> Review:
    """Read the workspace.

    Args:
        study: with its history.
        own: ids of the phases that this plan describes.
        chosen: `phase.experiment` of those that may run; None means all. What is left is looked for among them.
    """
    left: list[str] = []
    results: list[Tuned] = []
    decisions: list[Decision] = []
    held: list[str] = []
    folds: list[FoldResult] = []
    board = evaluate(study, ledger, compute=False)
    for phase in [phase for phase in study.phases if phase.id in own]:
        if waits(phase, decisions, held):
            held.append(phase.id)
            continue
        for item in phase.experiments:
            if item.kind == "derive":
                study = derived(study, board, item)
                board = evaluate(study, ledger, compute=False)
        phase = phase_of(study, phase.id)
        wanted = [item for item in phase.experiments if is_chosen(item, chosen)]
        left += [name for item in wanted for name in _untrained(item, board, ledger)]
        for item in phase.experiments:
            found = fold_results(item, study, ledger, board, compute=False)
            folds += found
            if item in wanted:
                left += [f"{one.name} out-of-fold" for one in found if one.wanted and one.scores is None]
            result = result_of(item, study, ledger, board, compute=False)
            results += [result] if result else []
            if item in wanted and result is None and can_result(item, study, board):
                left.append(f"{phase.id}/{item.id}")
        decisions.append(judged(phase, study, ledger, board, results))
    return Review(study, board, tuple(results), tuple(decisions), tuple(left), tuple(held), tuple(folds))


def judged(phase: Phase, study: Study, ledger: Ledger, board: Board, results: Sequence[Tuned]) -> Decision:
    """The decision on a phase, with what its budget left out."""
    gone = tuple(one for item in phase.experiments for one in left_out(item, ledger))
    return replace(decide(phase, study, board, results), left_out=gone)


def is_chosen(item: Experiment, chosen: frozenset[str] | None) -> bool:
    """Whether `--only` lets an experiment run."""
    return chosen is None or f"{item.phase}.{item.id}" in chosen


def waits(phase: Phase, decisions: list[Decision], held: list[str]) -> bool:
    """Whether a phase that this one needs did not pass its gate, or waits itself."""
    closed = {decision.phase for decision in decisions if decision.holds_others} | set(held)
    return bool(closed & set(phase.needs))


def phase_of(study: Study, name: str) -> Phase:
    """The phase as it stands in `study`, its derived trials included."""
    return next(phase for phase in study.phases if phase.id == name)


def derived(study: Study, board: Board, item: Experiment) -> Study:
    """The study in which a `from:` experiment has its trials, made from the best of its source (not of its own)."""
    if item.derive is None:
        return study
    without = with_trials(study, item, ())
    return with_trials(study, item, derive(study, item, top(without, board, item.derive.source, item.phase)))


def result_of(
    item: Experiment, study: Study, ledger: Ledger, board: Board, *, compute: bool, told: Told = SILENT
) -> Tuned | None:
    """The result of an experiment that trains nothing; None for others and where there is nothing to work on."""
    if item.kind == "thresholds":
        return tune(item, study, ledger, board, compute=compute, told=told)
    if item.kind == "ensemble":
        return build(item, study, ledger, board, compute=compute, told=told)
    return None


def can_result(item: Experiment, study: Study, board: Board) -> bool:
    """Whether a thresholds or ensemble experiment has the finished trials it needs."""
    if item.thresholds is not None:
        of = item.thresholds.of
        return bool(top(study, board, (of,) if isinstance(of, str) else of, item.phase))
    if item.ensemble is not None:
        return len(candidates(study, board, item.ensemble, item.phase)) >= item.ensemble.least
    return False


def failed(study: Study, ledger: Ledger) -> tuple[str, ...]:
    """Names of the trials that failed."""
    trials = {trial.digest: trial for trial in study_trials(study)}
    return tuple(trial.name for trial in trials.values() if ledger.record(trial.digest).state == "failed")


def _untrained(item: Experiment, board: Board, ledger: Ledger) -> list[str]:
    """Trials without an end, or finished ones without scores; a `from:` experiment without trials yet by its name."""
    if item.kind == "derive" and not item.trials:
        return [f"{item.phase}/{item.id}"]
    names = []
    for trial in item.trials:
        state = ledger.record(trial.digest).state
        if not (state == "pruned" or (state == "finished" and trial.digest in board.scores)):
            names.append(trial.name)
        elif state == "finished" and has_soup(trial.digest, ledger) and trial.digest not in board.soups:
            names.append(trial.name + SUFFIX)
    if item.unproposed:
        names.append(f"{item.phase}/{item.id} ({len(item.unproposed)} to be proposed)")
    return names
