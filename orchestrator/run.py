"""The path of a plan, from its file to a champion and a report.

Exit codes: 0 all done; 1 a trial failed or was left out for the budget, an experiment could not be scored, a target
failed, or a gate did not pass and nobody has said `go-on`; 130 interrupted.
A gate that did not pass holds the phases that need its phase, unless it says `otherwise: continue`. `stop` holds them
for good. `ask` holds them until a person answers: all else runs first; then the question is put on a terminal, and
elsewhere the run ends and names the command that answers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.evaluation.champion import crown
from orchestrator.evaluation.decisions import Decision
from orchestrator.evaluation.history import with_history
from orchestrator.evaluation.outoffold import fold_results
from orchestrator.evaluation.review import Review, derived, is_chosen, judged, phase_of, result_of, review, waits
from orchestrator.evaluation.samples import draw_samples
from orchestrator.evaluation.scores import Board, evaluate
from orchestrator.evaluation.tuned import Tuned
from orchestrator.evaluation.tuning import Told
from orchestrator.execution.admitting import Guard
from orchestrator.ledger import Ledger
from orchestrator.plan.expand import expand, workspace_of
from orchestrator.plan.loading import load
from orchestrator.plan.proposals import with_proposals
from orchestrator.plan.study import Experiment, Phase, Study, Trial
from orchestrator.report import page
from orchestrator.report.asking import answered
from orchestrator.report.telling import Say, Tell, conclusion, faults, go_on, on_terminal, telling
from orchestrator.storage.disk import told

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count


def run(plan_path: str | Path, overrides: Sequence[str] = (), only: Sequence[str] = (), say: Say = on_terminal) -> int:
    """Run what a plan asks for and the workspace does not have yet; see the module for the exit code.

    Args:
        overrides: `--set` arguments.
        only: `--only` arguments; other experiments are not run, but those that have finished count.
        say: takes the lines that a person should read.

    Raises:
        InputError: the plan, its data or the workspace cannot be used.
    """
    plan = load(plan_path, overrides)
    ledger = Ledger.open(workspace_of(plan))
    # Held before the data is looked at: a second driver that packs it, too, would take it from under the first.
    with told(ledger.workspace), ledger.drive():
        study = with_proposals(expand(plan), ledger.proposals)
        walk = Walk(study, ledger, chosen_of(plan_path, overrides, only))
        state = walk.review()
        try:
            if state.left:
                state = walk.go()
            else:
                say("nothing left to do: all that this plan asks for is in the workspace")
            while answered(state, ledger, walk.chosen, say):
                state = walk.go()
        except KeyboardInterrupt:
            say(f"interrupted; nothing that was finished is lost. {go_on(plan_path, overrides, only)}")
            return INTERRUPTED
        champion = crown(state.study, ledger, state.board, state.results)
        files = page.write(state, ledger)
        say(conclusion(state, ledger, champion, files, walk.chosen, overrides))
        return 1 if faults(state, ledger, walk.chosen) else 0


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk over the phases of a plan."""

    study: Study
    ledger: Ledger
    chosen: frozenset[str] | None

    def review(self) -> Review:
        """What there is already; starts nothing."""
        own = frozenset(phase.id for phase in self.study.phases)
        return review(with_history(self.study, self.ledger), self.ledger, own, self.chosen)

    def go(self) -> Review:
        """Run every phase, in the order of the needs; what there is then."""
        study = with_history(self.study, self.ledger)
        results, decisions, held = list[Tuned](), list[Decision](), list[str]()
        with telling(self.study, self.ledger) as tell:
            guard = Guard(self.study, self.ledger, tell.note)
            for phase in self.study.phases:
                if waits(phase, decisions, held):
                    held.append(phase.id)
                    continue
                tell.phase(phase)
                study = self.train(phase, study, tell, guard)
                board = self.score(phase, study, tell)
                self.fold(phase, study, board, tell)
                results += self.choose(phase, study, board, tell)
                decisions.append(judged(phase_of(study, phase.id), study, self.ledger, board, results))
                tell.decision(decisions[-1])
            state = self.review()
            tell.finished("failed" if faults(state, self.ledger, self.chosen) else "done")
        return state

    def train(self, phase: Phase, study: Study, tell: Tell, guard: Guard) -> Study:
        """Train by priority; the study with the trials that were proposed, or derived from others, on the way."""
        known: list[tuple[Experiment, Trial]] = []
        for item in phase.experiments:
            if item.kind == "derive":  # what stands before it is trained before it is known
                study = self.search(known, study, tell, guard)
                study = derived(study, evaluate(study, self.ledger, on_pages=tell.pages), item)
                item = next(other for other in phase_of(study, phase.id).experiments if other.id == item.id)
                tell.experiment(item)
                known = []
            if is_chosen(item, self.chosen):
                known += trials_of([item])
        return self.search(known, study, tell, guard)

    def search(self, known: Sequence[tuple[Experiment, Trial]], study: Study, tell: Tell, guard: Guard) -> Study:
        """Train these; the study with what their sweeps have proposed meanwhile."""
        from orchestrator.execution.search import search  # loads Ray, which a finished plan does not need

        search(known, study, self.ledger, tell, guard=guard)
        study = with_proposals(study, self.ledger.proposals)
        mine = {(item.phase, item.id) for item, _ in known if item.proposals is not None}
        for item in (item for phase in study.phases for item in phase.experiments if (item.phase, item.id) in mine):
            tell.experiment(item)
        return study

    def score(self, phase: Phase, study: Study, tell: Tell) -> Board:
        """Score all models on the same images, and draw samples of what they find."""
        board = evaluate(study, self.ledger, on_pages=tell.pages)
        for _, trial in trials_of(phase_of(study, phase.id).experiments):
            if trial.digest in board.scores:
                tell.pictures(trial, draw_samples(trial, study, self.ledger, board))
        return board

    def fold(self, phase: Phase, study: Study, board: Board, tell: Tell) -> None:
        """Score the training pages of fold experiments by the models that did not learn from them."""
        for item in phase_of(study, phase.id).experiments:
            chosen = is_chosen(item, self.chosen)
            found = fold_results(item, study, self.ledger, board, compute=chosen, on_pages=tell.pages)
            if found:
                tell.folds(item, found)

    def choose(self, phase: Phase, study: Study, board: Board, tell: Tell) -> list[Tuned]:
        """Search thresholds and build ensembles, cross-fitted."""
        results = []
        for item in phase.experiments:
            told = Told(tell.pages, tell.searched)
            result = result_of(item, study, self.ledger, board, compute=is_chosen(item, self.chosen), told=told)
            if result is not None:
                tell.result(item, result)
                results.append(result)
        return results


def trials_of(experiments: Sequence[Experiment]) -> list[tuple[Experiment, Trial]]:
    """Every trial with its experiment, in order."""
    return [(item, trial) for item in experiments for trial in item.trials]


def chosen_of(plan_path: str | Path, overrides: Sequence[str], only: Sequence[str]) -> frozenset[str] | None:
    """`phase.experiment` of those that `--only` names; None without it."""
    if not only:
        return None
    plan = load(plan_path, overrides, only)
    return frozenset(f"{phase.id}.{item.id}" for phase in plan.phases for item in phase.experiments)
