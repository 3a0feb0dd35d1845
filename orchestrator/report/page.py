"""The report of a roadmap: hypotheses against outcomes, trials, ensembles, champion, and how to get there again.

    <workspace>/report.md, report.html, report/*.svg

It is made from the workspace alone and starts nothing, so it may be asked for while a plan runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.files import write_bytes, write_text
from orchestrator.evaluation.champion import Champion, read_champion
from orchestrator.evaluation.decisions import Decision, outcome_cells, score_text, target_text
from orchestrator.evaluation.history import with_history
from orchestrator.evaluation.review import Review, review
from orchestrator.evaluation.soups import soups_of
from orchestrator.evaluation.statistics import detectable
from orchestrator.incidents import summary
from orchestrator.ledger import Ledger
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load
from orchestrator.plan.study import Trial
from orchestrator.report.document import Block, Heading, Picture, Table, Text, html, markdown
from orchestrator.report.figures import learning_curves
from orchestrator.report.folds import folds_blocks
from orchestrator.report.results import results_blocks
from orchestrator.report.roadmap import write_outcomes
from orchestrator.report.soups import soups_blocks

FOLDER = "report"


def report(plan_path: str | Path, overrides: Sequence[str] = (), roadmap: Path | None = None) -> tuple[Path, Path]:
    """Write the report of a plan, whatever its state, and return (Markdown, HTML).

    Args:
        roadmap: Markdown whose tables get the outcomes, too.

    Raises:
        PlanError, DataError, LedgerError: as for a run.
    """
    study = expand(load(plan_path, overrides))
    ledger = Ledger.open(study.workspace)
    own = frozenset(phase.id for phase in study.phases)
    state = review(with_history(study, ledger), ledger, own)
    if roadmap is not None:
        write_outcomes(roadmap, state.decisions)
    return write(state, ledger)


def write(state: Review, ledger: Ledger) -> tuple[Path, Path]:
    """Write the report of a reviewed study and return (Markdown, HTML)."""
    blocks = compose(state, ledger)
    for block in blocks:
        if isinstance(block, Picture):
            write_bytes(ledger.workspace / FOLDER / f"{block.name}.{block.kind}", block.data)
    paths = ledger.workspace / "report.md", ledger.workspace / "report.html"
    write_text(paths[0], markdown(blocks, FOLDER))
    write_text(paths[1], html(blocks))
    return paths


def compose(state: Review, ledger: Ledger) -> list[Block]:
    """The report, block by block."""
    study = state.study
    champion = read_champion(ledger.workspace)
    blocks: list[Block] = [Heading(f"{study.roadmap}: what worked", 1), *_summary(state, champion)]
    for decision in state.decisions:
        blocks += _phase(state, decision)
    for name in state.waiting:
        blocks.append(Text(f"Phase {name}: waits for a gate that did not pass{_stopped_by(state, name)}."))
    blocks += folds_blocks(state.folds)
    blocks += _trials(state, ledger)
    blocks += soups_blocks(soups_of(_own_trials(state), state.board, ledger))
    if state.results:
        blocks += [Heading("Thresholds and ensembles"), *results_blocks(state.results)]
    return [*blocks, *_again(state, ledger)]


def _summary(state: Review, champion: Champion | None) -> list[Block]:
    datasets, blocks = state.study.datasets, list[Block]()
    if champion is not None:
        scores = score_text({"hmean": champion.hmean, "precision": champion.precision, "recall": champion.recall})
        blocks.append(Text(f"Champion: {champion.name} ({champion.kind}), {scores}. Why: {champion.why}."))
    if state.left:
        blocks.append(Text(f"Not finished: {len(state.left)} left, among them {', '.join(state.left[:5])}."))
    if datasets is not None:
        sizes = f"{len(datasets.train)} training, {len(datasets.val)} validation and {len(datasets.test)} test images"
        blocks.append(Text(f"Data: {sizes}, digest {datasets.digest}. Scores are macro means of CLEval."))
    power = _power(state)
    return [*blocks, Text(power)] if power else blocks


def _power(state: Review) -> str:
    """What this many images can show, from the scatter of the two best models."""
    best = state.board.ranked(state.board.trials.values())[:2]
    if len(best) < 2:
        return ""
    a_N, b_N = (state.board.scores[trial.digest].stat_N("hmean") for trial in best)
    if len(a_N) < 3 or a_N.std() == 0 or b_N.std() == 0:
        return ""
    rho = float(np.corrcoef(a_N, b_N)[0, 1])
    smallest = detectable(float(np.sqrt(a_N.std() * b_N.std())), min(rho, 0.999), len(a_N))
    return (
        f"On {len(a_N)} images, with the two best models correlated by {rho:.2f}, a true difference in H below "
        f"{smallest:.4f} is found less than 80 % of the time. Seeds scatter on top of that."
    )


def _phase(state: Review, decision: Decision) -> list[Block]:
    what = next((phase.what for phase in state.study.phases if phase.id == decision.phase), "")
    blocks: list[Block] = [Heading(f"Phase {decision.phase}{f': {what}' if what else ''}")]
    if decision.best and decision.scores:
        base = f"; baseline: {decision.baseline}" if decision.baseline else "; no baseline experiment"
        blocks.append(Text(f"Best: {decision.best}, {score_text(decision.scores)}{base}."))
    blocks += [Text(f"Target {target_text(target)}.") for target in decision.targets]
    if decision.gate:
        blocks.append(Text(f"G{str(decision.gate)[1:]}."))
    blocks += [Text(f"Left out: {one}.") for one in decision.left_out]
    header = ("experiment", "expected", "measured H", "difference to baseline, 95 % interval", "verdict")
    rows = [outcome_cells(outcome) for outcome in decision.outcomes]
    return [*blocks, Table(header, rows)]


def _stopped_by(state: Review, phase: str) -> str:
    """Who said that it shall wait."""
    needs = next((part.needs for part in state.study.phases if part.id == phase), ())
    gates = [decision.gate for decision in state.decisions if decision.phase in needs and decision.gate]
    said = [str(gate.answer) for gate in gates if gate.answer is not None and not gate.settled]
    return f" ({'; '.join(said)})" if said else ""


def _trials(state: Review, ledger: Ledger) -> list[Block]:
    rows, curves = [], []
    for trial in _own_trials(state):
        record = ledger.record(trial.digest)
        scores = state.board.scores.get(trial.digest)
        numbers = [f"{value:.4f}" for value in scores.summary().values()] if scores else ["-"] * 3
        settings = ", ".join(f"{key}={value}" for key, value in trial.settings.items())
        epochs = f"{len(record.epochs)}/{trial.config.max_epochs}"
        last = (record.last or {}).get("hmean")
        why = "; ".join(part for part in (record.reason, summary(record.incidents)) if part)
        rows.append(
            [
                *(trial.name, record.state, *numbers, epochs, str(record.best_epoch or "-")),
                *("-" if last is None else f"{last:.4f}", f"{record.seconds:.0f}"),
                *(settings, why, trial.digest),
            ]
        )
        points = [(row.number, row.metrics["hmean"]) for row in record.epochs if "hmean" in row.metrics]
        curves.append((trial.name, [point for point in points if np.isfinite(point[1])]))
    if not rows:
        return []
    header = ("trial", "state", "H", "P", "R", "epochs", "best", "last H", "seconds", "settings", "why it ended")
    figure = Picture("learning-curves", "H on the validation images by epoch", learning_curves(curves))
    return [Heading("Trials"), Table((*header, "digest"), rows), figure]


def _own_trials(state: Review) -> list[Trial]:
    """The trials of this plan's phases, best first."""
    own = {decision.phase for decision in state.decisions} | set(state.waiting)
    trials: dict[str, Trial] = {}
    for phase in state.study.phases:
        if phase.id in own:
            trials |= {trial.digest: trial for item in phase.experiments for trial in item.trials}
    return sorted(trials.values(), key=lambda trial: _rank(state, trial))


def _rank(state: Review, trial: Trial) -> tuple[float, str]:
    scores = state.board.scores.get(trial.digest)
    return (-scores.mean("hmean") if scores else 0.0, trial.name)


def _again(state: Review, ledger: Ledger) -> list[Block]:
    plan = shlex.quote(str(state.study.plan_path))
    lines = [
        f"python -m orchestrator {plan}                  # runs what is missing; nothing twice",
        f"python -m orchestrator runs {plan}             # every trial with its state",
        f"python -m orchestrator ui {plan}               # curves and pictures in MLflow",
    ]
    if read_champion(ledger.workspace) is not None:
        lines.append(f"python -m orchestrator predict champion --plan {plan} IMAGES -o submission.csv")
    files = [f"{result.name}: {result.submission}" for result in state.results if result.submission]
    blocks: list[Block] = [Heading("Again"), Text("\n".join(lines), code=True)]
    return [*blocks, Text("Submissions: " + "; ".join(files) + ".")] if files else blocks
