"""What a run tells: the journal and the terminal while it goes on, and the last lines a person reads."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detector.data.check_submission import check_submission
from detector.data.word_counts import word_counts
from orchestrator.evaluation.champion import Champion
from orchestrator.evaluation.decisions import Decision, score_text, target_text
from orchestrator.evaluation.ensemble import submission_pages
from orchestrator.evaluation.outoffold import FoldResult
from orchestrator.evaluation.review import Review, is_chosen
from orchestrator.evaluation.soups import soups_of
from orchestrator.evaluation.submitted import tell_submissions
from orchestrator.evaluation.tuned import Tuned, metrics_of
from orchestrator.execution.admitting import left_out
from orchestrator.execution.progress import Progress
from orchestrator.ledger import Ledger
from orchestrator.plan.study import TARGET, Experiment, Phase, Study, Trial
from orchestrator.records import EpochRow, TrialRecord
from orchestrator.report.asking import how_to_answer, questions
from orchestrator.tracking.journal import Journal, Recorder
from orchestrator.tracking.process import Shipper
from orchestrator.tracking.store import status

Say = Callable[[str], None]
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by `ray job submit` in the process of its job


class Tell:
    """Tells the journal and the eyes; it is the `Events` of execution, too."""

    def __init__(self, record: Recorder, progress: Progress) -> None:
        self._record, self._progress = record, progress

    def trial_started(self, trial: Trial) -> None:
        self._record.trial_started(trial)
        self._progress.trial_started(trial)

    def epoch(self, trial: Trial, row: EpochRow) -> None:
        self._record.epoch(trial, row)
        self._progress.epoch(trial, row)

    def trial_ended(self, trial: Trial, record: TrialRecord) -> None:
        self._record.trial_ended(trial, record)
        self._progress.trial_ended(trial, record)

    def note(self, line: str) -> None:
        """What the runner decided, with its numbers."""
        self._progress.note(line)

    def phase(self, phase: Phase) -> None:
        """A phase begins."""
        self._record.phase(phase)
        for item in phase.experiments:
            self._record.experiment(item)

    def experiment(self, item: Experiment) -> None:
        """The trials of a `from:` experiment, or of a sweep that proposes, are known."""
        self._record.experiment(item, item.trials)

    def pages(self, done: int, total: int) -> None:
        """Probability maps computed so far, and all that are wanted."""
        self._progress.maps(done, total)

    def searched(self, done: int, total: int) -> None:
        """Pages that a search of thresholds or members has scored in this stage, and all of them."""
        self._progress.maps(done, total, "pages scored in a search")

    def pictures(self, trial: Trial, folder: Path) -> None:
        """Sample pages of a trained model."""
        self._record.pictures(trial.digest, folder)

    def folds(self, item: Experiment, found: Sequence[FoldResult]) -> None:
        """A fold experiment: its models on the validation images, and out-of-fold."""
        several = len(found) > 1
        metrics = {
            (f"source{number}/{name}" if several else name): value
            for number, result in enumerate(found, start=1)
            for name, value in result.metrics().items()
        }
        self._record.folds(item, metrics, "\n\n".join(map(str, found)))

    def result(self, item: Experiment, result: Tuned) -> None:
        """Thresholds or an ensemble, with what they are worth."""
        rule = result.rule.model_dump(mode="json")
        names = ("scores.json", "submission.csv", "bundle.json")
        files = {name: path for name in names if (path := result.folder / name).exists()}
        members = [{"digest": member.trial, "name": member.name, "weight": member.weight} for member in result.members]
        settings = {**rule, "views": ", ".join(result.views), "searched": result.searched, "flat": result.flat}
        settings |= {} if result.anatomy is None else {"fusion": result.fusion}
        self._record.ensemble(
            item,
            metrics=metrics_of(result),
            members=members,
            settings=settings,
            curve=[
                *({"thresh": thresh, "hmean": hmean} for thresh, hmean in result.curve),
                *(row for knob in result.knobs if knob.name != "thresh" for row in knob.curve),
            ],
            files=files | ({"model": result.folder} if "bundle.json" in files else {}),
            notes=_notes(result),
        )

    def decision(self, decision: Decision) -> None:
        """What was decided on a phase."""
        self._record.decision(decision.phase, decision.as_json(), decision.markdown())

    def finished(self, state: str) -> None:
        """The driver ends."""
        self._record.finished(state)


def _notes(result: Tuned) -> str:
    """What a run's description says of a result."""
    lines = [f"{result.name} against {result.rival}, cross-fitted H: {result.gain}"]
    if result.anatomy is not None:
        lines += [f"view {view}" for view in result.anatomy.views]
        lines += [
            f"without {member.name} (weight {member.weight:.3f}): {member.gain}" for member in result.anatomy.members
        ]
    return "\n\n".join([*lines, *(str(knob) for knob in result.knobs)])


@contextmanager
def telling(study: Study, ledger: Ledger) -> Iterator[Tell]:
    """Journal, shipper and progress, open; an interruption is recorded before they close."""
    with Journal(ledger.workspace) as journal, Shipper(ledger.workspace), Progress(study, ledger) as progress:
        record = Recorder(journal, study)
        record.study()
        tell_submissions(journal, ledger.workspace)
        try:
            yield Tell(record, progress)
        except KeyboardInterrupt:
            record.finished("interrupted")
            raise
        except BaseException:
            record.finished("failed")  # or MLflow would show runs that nobody runs
            raise
        finally:
            if "ray" in sys.modules:  # a cluster that this process started ends with the work, not with the shell
                from orchestrator.execution.cluster import disconnect

                disconnect()


def faults(state: Review, ledger: Ledger, chosen: frozenset[str] | None) -> list[str]:
    """Why a run does not count as done: failed trials, experiments without a score, gates; one line each."""
    found: list[str] = []
    for decision in state.decisions:
        phase = next(phase for phase in state.study.phases if phase.id == decision.phase)
        for item, outcome in zip(phase.experiments, decision.outcomes, strict=True):
            if not is_chosen(item, chosen):
                continue
            records = [(trial, ledger.record(trial.digest)) for trial in item.trials]
            bad = [f"{trial.name} failed: {record.reason}" for trial, record in records if record.state == "failed"]
            gone = left_out(item, ledger)
            if item.unproposed and not gone:
                gone = [f"{item.phase}/{item.id}: {len(item.unproposed)} trials were not proposed"]
            bad += [f"left out: {one}" for one in gone]
            found += bad
            if outcome.candidate is None and not bad:
                found.append(f"{item.phase}/{item.id} has no score: {outcome.note}")
        gate = decision.gate
        if gate is None or gate.expression != TARGET:
            missed = [target_text(target) for target in decision.targets if target.state == "failed"]
            found += [f"phase {decision.phase}: target {text}" for text in missed]
        if gate is not None and not gate.settled:
            found.append(f"phase {decision.phase}: {gate}")
    return found + [f"phase {name} waits for a gate that did not pass" for name in state.waiting]


def conclusion(
    state: Review,
    ledger: Ledger,
    champion: Champion | None,
    files: Sequence[Path],
    chosen: frozenset[str] | None,
    overrides: Sequence[str] = (),
) -> str:
    """What came out and where it lies; `chosen` and `overrides` as `--only` and `--set` gave them."""
    lines: list[str] = []
    for decision in state.decisions:
        if decision.best and decision.scores:
            lines.append(f"phase {decision.phase}: best {decision.best}, {score_text(decision.scores)}")
        lines += [f"  target {target_text(target)}" for target in decision.targets]
        if decision.gate is not None and decision.gate.answer is not None and decision.gate.settled:
            lines.append(f"  {decision.gate}")
    lines += [str(result) for result in state.folds]
    lines += [
        f"{soup}: surely better"
        for soup in soups_of(list(state.board.trials.values()), state.board, ledger)
        if soup.gain is not None and soup.gain.above_zero
    ]
    for result in state.results:
        verdict = "recommended" if result.recommended else "not recommended"
        lines.append(f"{result.name}: {verdict}; H against {result.rival}: {result.gain}")
        if result.anatomy is not None and result.anatomy.idle_views:
            lines.append(f"  views that do not pay for their time: {', '.join(result.anatomy.idle_views)}")
        lines += [f"  {knob}" for knob in result.knobs if result.kind == "thresholds" or knob.does_nothing]
    if champion is not None:
        lines.append(f"champion: {champion.name}, H {champion.hmean:.4f}: {champion.why}")
    lines += [f"! {fault}" for fault in faults(state, ledger, chosen)]
    if any(decision.left_out for decision in state.decisions):
        lines.append("  with a larger `budget` (--set budget.gpu_hours=...) the same command goes on")
    for decision, _, waiting in questions(state, chosen):
        command = how_to_answer(state.study.plan_path, decision.phase, overrides)
        lines.append(f"? shall {', '.join(waiting)} run all the same?  {command}")
    lines += ["", f"workspace    {ledger.workspace}"]
    if JOB in os.environ and ledger.workspace.is_relative_to(Path.cwd()):
        lines.append("! the workspace lies in this job's temporary folder: set ORCHESTRATOR_WORKSPACE to keep the next")
    for result in state.results:
        lines += submission_lines(result.submission, state.study) if result.submission else []
    lines += [f"report       {files[-1]}"]
    lines += [f"curves       python -m orchestrator ui {shlex.quote(str(state.study.plan_path))}"]
    shipped = status(ledger.workspace)
    if not shipped.complete or shipped.problems:
        lines.append(str(shipped))
    return "\n".join(lines)


def submission_lines(path: Path, study: Study) -> list[str]:
    """A submission file, and what is wrong with it or odd."""
    pages = submission_pages(study)
    training = None if study.datasets is None else word_counts(study.datasets.train)
    return [f"submission   {path}", *(f"! {line}" for line in check_submission(path, pages, training).lines(most=2))]


def go_on(plan_path: str | Path, overrides: Sequence[str], only: Sequence[str]) -> str:
    """The command that carries on."""
    switches = [part for value in overrides for part in ("--set", value)]
    switches += [part for value in only for part in ("--only", value)]
    return "Go on with: " + shlex.join(["python", "-m", "orchestrator", str(plan_path), *switches])


def on_terminal(text: str) -> None:
    """A line for a person, on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
