"""Fold experiments: their models side by side on the common validation images, and out-of-fold on the training images.

A fold experiment trains one model k times (and once more for each seed), each time without one fold. Every training
is scored on the common validation images as any other is; fold scores on pages of their own cannot be compared. Beyond
that each training page gets the map of the models that did not learn from it, the mean over their seeds, and these
maps are scored under the trainings' own rule: as many honest scores as there are training pages, usually ten times
those of the validation set. The counts of a fold's pages are kept in the ledger with the first of its trainings, under
a key of all of them, so a computation that was killed goes on with the fold where it was.

Equal weights after trainings that left out different folds (or had different seeds) are refused: something has ignored
the fold, and their average would be one model under several names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.checkpoint import WEIGHTS
from detector.config import Postprocess
from detector.metrics.cleval import Counts, cleval, ground_truth
from detector.types import Page
from orchestrator.evaluation.maps import ensure_maps
from orchestrator.evaluation.packing import MeanMaps
from orchestrator.evaluation.scores import SCORES_FORMAT, Board, ImageScores, Variant, variant_of
from orchestrator.evaluation.spreading import Scratch
from orchestrator.evaluation.statistics import Interval, bootstrap
from orchestrator.evaluation.thresholds import Table, search
from orchestrator.evaluation.twins import refuse_twins
from orchestrator.ledger import Ledger
from orchestrator.plan.identity import short
from orchestrator.plan.study import Experiment, Study, Trial
from orchestrator.records import ENDED

SAME: Final = ("seed",)  # settings in which the trainings of one model may differ
Pages = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class FoldResult:
    """One model over folds and seeds.

    Attributes:
        name: `phase/experiment`, with the number of its source where there are several.
        trials: the finished trainings of each fold, by seed; folds in which none has finished are not in it.
        val: mean H of each fold on the common validation images, over its seeds.
        scores: of each training page under the models that did not learn from it; None while they are not known.
        wanted: whether they can be, and are asked for.
    """

    phase: str
    experiment: str
    name: str
    trials: Mapping[int, tuple[Trial, ...]]
    val: Mapping[int, float]
    scores: ImageScores | None
    wanted: bool

    @property
    def trainings(self) -> int:
        return sum(map(len, self.trials.values()))

    @property
    def mean(self) -> float:
        """Of the folds' H on the validation images."""
        return float(np.mean(list(self.val.values())))

    @property
    def sd(self) -> float:
        """Scatter of the folds' H on the validation images; 0 of a single fold."""
        return float(np.std(list(self.val.values()), ddof=1)) if len(self.val) > 1 else 0.0

    @property
    def interval(self) -> Interval | None:
        """Of the out-of-fold H."""
        return None if self.scores is None else bootstrap(self.scores.stat_N("hmean"))

    def metrics(self) -> dict[str, float]:
        """Flat numbers, for tracking."""
        found = {f"folds/{fold}_hmean": hmean for fold, hmean in self.val.items()}
        found |= {"folds/mean_hmean": self.mean, "folds/sd_hmean": self.sd, "folds/trainings": float(self.trainings)}
        interval = self.interval
        if self.scores is not None and interval is not None:
            found |= {f"oof/{stat}": value for stat, value in self.scores.summary().items()}
            found |= {"oof/hmean_low": interval.low, "oof/hmean_high": interval.high}
            found["oof/images"] = float(len(self.scores.names))
        return found

    def __str__(self) -> str:
        told = f"{self.name}: {self.trainings} trainings on {len(self.val)} folds, H on the validation images "
        told += f"{self.mean:.4f}, sd of the folds {self.sd:.4f}"
        interval = self.interval
        if self.scores is None or interval is None:
            return told
        ends = f"[{interval.low:.4f}, {interval.high:.4f}]"
        return f"{told}; out-of-fold H {interval.mean:.4f} {ends} on {len(self.scores.names)} training images"


def fold_results(
    experiment: Experiment,
    study: Study,
    ledger: Ledger,
    board: Board,
    *,
    compute: bool = True,
    on_pages: Pages | None = None,
) -> tuple[FoldResult, ...]:
    """The models of a fold experiment, as far as they have been trained; none of other experiments.

    Args:
        compute: False reads what the ledger holds, and starts nothing.
        on_pages: called with (pages computed so far, pages to compute) of each fold.

    Raises:
        InputError: two trainings came to the same weights.
    """
    folded = [trial for trial in experiment.trials if trial.fold is not None]
    if not folded or len(folded) != len(experiment.trials):
        return ()
    refuse_twins(folded, ledger, board)
    models: dict[str, list[Trial]] = {}
    for trial in folded:
        config = trial.config.model_dump(mode="json", exclude=set(SAME))
        models.setdefault(json.dumps([config, trial.workers], sort_keys=True), []).append(trial)
    results = []
    for number, trials in enumerate(models.values(), start=1):
        name = f"{experiment.phase}/{experiment.id}" + (f" (source {number})" if len(models) > 1 else "")
        by_fold: dict[int, list[Trial]] = {}
        for trial in trials:
            if trial.fold is not None and trial.digest in board.scores:
                by_fold.setdefault(trial.fold, []).append(trial)
        if not by_fold:
            continue
        finished = {
            fold: tuple(sorted(mine, key=lambda trial: trial.config.seed)) for fold, mine in sorted(by_fold.items())
        }
        val = {
            fold: float(np.mean([board.scores[trial.digest].mean("hmean") for trial in mine]))
            for fold, mine in finished.items()
        }
        wanted = experiment.oof and _complete(trials, finished, study, ledger)
        scores = _out_of_fold(finished, study, ledger, compute, on_pages) if wanted else None
        results.append(FoldResult(experiment.phase, experiment.id, name, finished, val, scores, wanted))
    return tuple(results)


def _complete(trials: Iterable[Trial], finished: Mapping[int, Any], study: Study, ledger: Ledger) -> bool:
    """Whether every fold has a model, none is still to come, and the weights are there where they are needed."""
    folds = set(study.datasets.folds) if study.datasets is not None else set()
    if not folds or set(finished) != folds:
        return False
    if any(ledger.record(trial.digest).state not in ENDED for trial in trials):
        return False
    return all(
        ledger.scores(mine[0].digest, _key(mine, variant_of(study))) is not None
        or ledger.url
        or all((ledger.folder(trial.digest) / "best" / WEIGHTS).exists() for trial in mine)
        for mine in finished.values()
    )


def _out_of_fold(
    finished: Mapping[int, tuple[Trial, ...]],
    study: Study,
    ledger: Ledger,
    compute: bool,
    on_pages: Pages | None,
) -> ImageScores | None:
    """Scores of all training pages, in the order of the folds; None where some are not known."""
    variant, parts = variant_of(study), list[ImageScores]()
    for fold, trials in finished.items():
        saved = ledger.scores(trials[0].digest, _key(trials, variant))
        if saved is not None:
            parts.append(ImageScores.from_json(saved))
        elif not compute:
            return None
        else:
            parts.append(_scored(held_out(study, fold), trials, ledger, variant, on_pages))
            ledger.put_scores(trials[0].digest, _key(trials, variant), parts[-1].as_json())
    names, counts = (
        tuple(chain.from_iterable(each)) for each in zip(*((p.names, p.counts) for p in parts), strict=True)
    )
    return ImageScores(names, counts)


def held_out(study: Study, fold: int) -> Sequence[Page]:
    """The training pages that a fold leaves out."""
    from detector.data.index import part

    if study.datasets is None:
        raise ValueError(f"{study.plan_path}: a study without its data has no folds")
    return part(study.datasets.train, [index for index, home in enumerate(study.datasets.folds) if home == fold])


def fold_table(
    result: FoldResult,
    rules: Sequence[Postprocess],
    study: Study,
    ledger: Ledger,
    kept: Scratch,
    *,
    on_maps: Pages | None = None,
    on_pages: Pages | None = None,
) -> tuple[Table, NDArray[np.int64]]:
    """What every rule makes of the out-of-fold maps of all training pages, and the fold of each page.

    Args:
        kept: where scores are kept meanwhile.
        on_maps, on_pages: called with (done, in all) of each fold: of maps computed, and of pages scored.
    """
    tables, homes = list[Table](), list[int]()
    for fold, trials in result.trials.items():
        pages = held_out(study, fold)
        map_of = _maps_of(pages, trials, ledger, on_maps)
        request = kept.of(["fold", fold, len(rules)])
        tables.append(search(map_of, pages, rules, variant_of(study), request, on_pages=on_pages))
        homes += [fold] * len(pages)
    names = tuple(chain.from_iterable(table.names for table in tables))
    counts_RNF = np.concatenate([table.counts_RNF for table in tables], axis=1)
    return Table(tuple(rules), names, counts_RNF), np.array(homes, dtype=np.int64)


def _maps_of(pages: Sequence[Page], trials: Sequence[Trial], ledger: Ledger, on_pages: Pages | None) -> MeanMaps:
    """Page name -> the mean map of these trainings."""
    checkpoints = [ledger.best(trial.digest) for trial in trials]
    return MeanMaps(ensure_maps(checkpoints, pages, ledger.workspace, on_pages=on_pages))


def _scored(
    pages: Sequence[Page], trials: Sequence[Trial], ledger: Ledger, variant: Variant, on_pages: Pages | None
) -> ImageScores:
    """Each page under the mean map of these trainings and the rule of the first; all have the same."""
    from detector.inference.predict import words_of_page

    map_of = _maps_of(pages, trials, ledger, on_pages)
    rule = trials[0].config.postprocess

    def count(page: Page) -> Counts:
        found = words_of_page(map_of(page.name), rule)
        return cleval(ground_truth(page.words, variant), found.polygons, variant)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # the loops underneath release the interpreter's lock
        counts = tuple(pool.map(count, pages))
    return ImageScores(tuple(page.name for page in pages), counts)


def _key(trials: Sequence[Trial], variant: Variant) -> str:
    return key_of([trial.digest for trial in trials], variant)


def key_of(trials: Sequence[str], variant: Variant) -> str:
    """Where the ledger keeps the scores of a fold's pages: with the first of its trainings, by the digests of all."""
    # A trial's digest covers the data, the folds and the rule; hence the pages, too.
    return f"oof-{short(' '.join(sorted(trials)).encode())}-{variant}-{SCORES_FORMAT}"
