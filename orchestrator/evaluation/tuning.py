"""The search of thresholds for one model, on the common validation images or on the out-of-fold maps of its folds.

Where all folds of one model are there (`thresholds: {of: kfold}`), rules are searched on the out-of-fold maps of the
training images: many more than a validation set has, and no model learned from them. The threshold for fold f comes
from the others, what ships is chosen on all, and the validation images, which took no part, say what it is worth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from detector.config import Postprocess
from orchestrator.evaluation.blends import Progress
from orchestrator.evaluation.maps import digest_of, ensure_maps
from orchestrator.evaluation.outoffold import FoldResult, fold_results, fold_table
from orchestrator.evaluation.packing import MeanMaps
from orchestrator.evaluation.scores import Board, experiment_named, top, validation_pages, variant_of
from orchestrator.evaluation.sensitivity import sensitivity
from orchestrator.evaluation.spreading import Scratch, scratch
from orchestrator.evaluation.statistics import paired_bootstrap
from orchestrator.evaluation.thresholds import Table, choose, search
from orchestrator.evaluation.tuned import FORMAT, Member, Reference, Tuned, load_tuned, save_tuned
from orchestrator.ledger import Ledger
from orchestrator.plan.study import EnsembleSpec, Experiment, Study, ThresholdSearch, Top, Trial


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told on the way of (done, in all): of `maps` computed, and of `pages` scored in a stage of a search."""

    maps: Progress | None = None
    pages: Progress | None = None


SILENT: Final = Told()


@dataclass(frozen=True, slots=True)
class Making:
    """One result in the making: its experiment, and all that it may look at."""

    experiment: Experiment
    study: Study
    ledger: Ledger
    board: Board
    told: Told

    @property
    def folder(self) -> Path:
        """Where the result is kept."""
        home = "ensembles" if self.experiment.kind == "ensemble" else "thresholds"
        return self.ledger.workspace / home / f"{self.experiment.phase}-{self.experiment.id}"

    def result(self, key: str, make: Callable[[Scratch], Tuned], compute: bool) -> Tuned | None:
        """The saved result of that `result_key`, else a new one, which is kept; None where none may be computed."""
        if (saved := load_tuned(self.folder, key)) or not compute:
            return saved
        with scratch(self.ledger.workspace, key) as kept:
            tuned = make(kept)
            save_tuned(tuned, key)
        return tuned


def tune(
    experiment: Experiment,
    study: Study,
    ledger: Ledger,
    board: Board,
    *,
    compute: bool = True,
    told: Told = SILENT,
) -> Tuned | None:
    """Search the rules of a `thresholds:` experiment for the best trial of its source.

    Args:
        compute: False reads a saved result only.
        told: what is told on the way.

    Returns:
        None where the source has no finished trial, or nothing is saved and `compute` is False.
    """
    spec = experiment.thresholds
    if spec is None:
        raise ValueError(f"{experiment.phase}.{experiment.id} is no search of thresholds")
    best = top(study, board, spec.of if isinstance(spec.of, Top) else (spec.of,), experiment.phase)[:1]
    if not best:
        return None
    folds = _folds_of(spec, study, ledger, board, experiment.phase)
    models = [trial for trials in folds.trials.values() for trial in trials] if folds is not None else []
    making = Making(experiment, study, ledger, board, told)
    key = result_key(study, (*best, *models), spec)
    return making.result(key, lambda kept: _tuned(making, spec.rules, best[0], folds, kept), compute)


def _tuned(
    making: Making, rules: Sequence[Postprocess], trial: Trial, folds: FoldResult | None, kept: Scratch
) -> Tuned:
    study, ledger, told, own = making.study, making.ledger, making.told, making.board.scores[trial.digest]
    if folds is None:
        table = table_of(trial, rules, study, ledger, kept, told)
        choice = choose((table,))
        honest, outoffold = choice.crossfitted, None
    else:
        table, fold_N = fold_table(folds, rules, study, ledger, kept, on_maps=told.maps, on_pages=told.pages)
        choice = choose((table,), part_N=fold_N)
        honest = table_of(trial, (choice.rule,), study, ledger, kept, told).scores(0)
        outoffold = choice.crossfitted
    gain = paired_bootstrap(honest.stat_N("hmean"), own.stat_N("hmean"))
    return Tuned(
        "thresholds",
        making.experiment.phase,
        making.experiment.id,
        (Member(trial.digest, trial.name, 1.0),),
        ("identity",),
        choice.rule,
        len(rules),
        choice.flat,
        choice.shown,
        honest,
        Reference(trial.digest, trial.name, own),
        gain,
        gain.above_zero,
        curve_of(table),
        making.folder,
        sensitivity(table, choice.rule),
        outoffold=outoffold,
    )


def _folds_of(spec: ThresholdSearch, study: Study, ledger: Ledger, board: Board, phase: str) -> FoldResult | None:
    """The one model over folds that `of` names, once each fold has one and they are scored out-of-fold."""
    source = None if isinstance(spec.of, Top) else experiment_named(study, spec.of, phase)
    found = fold_results(source, study, ledger, board, compute=False) if source is not None else ()
    return found[0] if len(found) == 1 and found[0].scores is not None else None


def table_of(
    trial: Trial, rules: Sequence[Postprocess], study: Study, ledger: Ledger, kept: Scratch, told: Told
) -> Table:
    """What every rule makes of one model's maps of the validation images."""
    pages = validation_pages(study)
    stores = ensure_maps([ledger.best(trial.digest)], pages, ledger.workspace, on_pages=told.maps)
    request = kept.of(["single", trial.digest, len(rules)])
    return search(MeanMaps(stores), pages, rules, variant_of(study), request, on_pages=told.pages)


def curve_of(table: Table) -> tuple[tuple[float, float], ...]:
    """The best mean H of each `thresh`: how much this knob matters at all."""
    best: dict[float, float] = {}
    for rule, hmean in zip(table.rules, table.hmean_RN.mean(axis=1), strict=True):
        best[rule.thresh] = max(best.get(rule.thresh, 0.0), float(hmean))
    return tuple(sorted(best.items()))


def result_key(
    study: Study, pool: Sequence[Trial], spec: EnsembleSpec | ThresholdSearch, soups: Sequence[str] = ()
) -> str:
    """A digest of all that a result depends on: models, images, rules and the other settings of its plan.

    Args:
        soups: digests of the trials whose soups are candidates.
    """
    pages = validation_pages(study)
    test = study.datasets.test if study.datasets else ()
    settings: list[Any] = []
    if isinstance(spec, EnsembleSpec):
        settings = [list(spec.views), spec.max_members, spec.fusion, spec.weights]
        settings += [] if spec.soups == "none" else [spec.soups, list(soups)]
    value = [
        FORMAT,
        [trial.digest for trial in pool],
        settings,
        [rule.model_dump(mode="json") for rule in spec.rules],
        [digest_of(pages), digest_of(test) if test else "", variant_of(study)],
    ]
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
