"""Per-image scores of every finished trial on the same validation images, whatever it was trained or stopped on.

A model's best checkpoint is scored on the common validation set under its own post-processing rule; the counts of each
image stay in the ledger, and every comparison, ranking and gate reads them from there. One variant of CLEval serves a
whole study (its first trial's), since scores of different variants cannot be compared; sets are scored by macro means.

Shapes: N images, in the order of the validation set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np

from detector.errors import DataError
from detector.metrics.cleval import Counts, cleval, ground_truth
from detector.types import Float64, Page
from orchestrator.evaluation.maps import MapStore, digest_of, ensure_maps
from orchestrator.evaluation.scatter import SCORES_FORMAT as SCORES_FORMAT
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Experiment, Phase, Stat, Study, Top, Trial

Variant = Literal["competition", "official"]
STATS: Final[tuple[Stat, ...]] = ("hmean", "precision", "recall")
SOUPS: Final = "soup-"  # begins the key of a soup's scores


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """What one model scores on each image.

    Attributes:
        names: the images.
        counts: CLEval's counts of each.
    """

    names: tuple[str, ...]
    counts: tuple[Counts, ...]

    def stat_N(self, stat: Stat) -> Float64:
        """A statistic of each image."""
        return np.array([getattr(count, stat) for count in self.counts], dtype=np.float64)

    def mean(self, stat: Stat) -> float:
        """Its macro mean, which is what a leaderboard shows."""
        return float(self.stat_N(stat).mean())

    def summary(self) -> dict[Stat, float]:
        """The macro means."""
        return {stat: self.mean(stat) for stat in STATS}

    def as_json(self) -> dict[str, Any]:
        return {name: asdict(count) for name, count in zip(self.names, self.counts, strict=True)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageScores:
        return cls(tuple(value), tuple(Counts(**count) for count in value.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """The finished trials of a study with their scores on the common validation images.

    Attributes:
        scores: trial digest -> scores; trials that were pruned or failed are not here.
        trials: trial digest -> trial.
        soups: trial digest -> scores of the soup of its best epochs, where it has one that is not its best checkpoint.
    """

    scores: Mapping[str, ImageScores]
    trials: Mapping[str, Trial]
    soups: Mapping[str, ImageScores] = field(default_factory=dict)

    def ranked(self, trials: Iterable[Trial]) -> tuple[Trial, ...]:
        """The finished ones among `trials`, best macro H first, each digest once; ties by digest."""
        known = {trial.digest: trial for trial in trials if trial.digest in self.scores}
        return tuple(sorted(known.values(), key=lambda trial: (-self.scores[trial.digest].mean("hmean"), trial.digest)))


def evaluate(
    study: Study, ledger: Ledger, *, on_pages: Callable[[int, int], None] | None = None, compute: bool = True
) -> Board:
    """Score every finished trial of the study, and its soup; only what the ledger does not hold yet is computed.

    Args:
        compute: False leaves trials without scores out instead (a report of a running study starts nothing).
    """
    pages = validation_pages(study)
    variant = variant_of(study)
    trials = {trial.digest: trial for trial in study_trials(study) if ledger.record(trial.digest).state == "finished"}
    key = f"val-{digest_of(pages)}-{variant}-{SCORES_FORMAT}"
    scores: dict[tuple[str, bool], ImageScores] = {}
    missing: list[tuple[Trial, bool]] = []
    for trial in trials.values():
        for soup in (False, True) if has_soup(trial.digest, ledger) else (False,):
            saved = ledger.scores(trial.digest, SOUPS * soup + key)
            if saved is None:
                missing.append((trial, soup))
            else:
                scores[trial.digest, soup] = ImageScores.from_json(saved)
    if missing and compute:
        folders = [ledger.best(trial.digest, soup=soup) for trial, soup in missing]
        stores = ensure_maps(folders, pages, ledger.workspace, on_pages=on_pages)
        truths = [ground_truth(page.words, variant) for page in pages]
        for (trial, soup), store in zip(missing, stores, strict=True):
            found = scores[trial.digest, soup] = _score(trial, store, pages, truths, variant)
            ledger.put_scores(trial.digest, SOUPS * soup + key, found.as_json())
    plain, soups = ({digest: scores[digest, soup] for digest, kind in scores if kind == soup} for soup in (False, True))
    return Board(plain, {digest: trials[digest] for digest in trials if digest in plain}, soups)


def has_soup(trial: str, ledger: Ledger) -> bool:
    """Whether a trial has a soup that is another model than its best checkpoint."""
    soup = ledger.model(trial, soup=True)
    return soup is not None and soup != ledger.model(trial)


def validation_pages(study: Study) -> Sequence[Page]:
    """The common validation images.

    Raises:
        DataError: the study was expanded without its data, or has no validation images.
    """
    if study.datasets is None or not study.datasets.val:
        raise DataError(f"{study.plan_path}: `data.val` must hold images to compare models on; add some")
    return study.datasets.val


def variant_of(study: Study) -> Variant:
    """The rules of CLEval by which this study compares."""
    for trial in study_trials(study):
        return trial.config.metric.variant
    return "competition"


def study_trials(study: Study, until: str | None = None) -> tuple[Trial, ...]:
    """All trials in the order of phases and experiments; a digest that stands twice comes twice.

    Args:
        until: id of the last phase to look at. What a phase decides must not depend on phases after it, or a plan that
            is run again would decide otherwise than it did.
    """
    found: list[Trial] = []
    for phase in study.phases:
        found += [trial for experiment in phase.experiments for trial in experiment.trials]
        if phase.id == until:
            break
    return tuple(found)


def with_trials(study: Study, experiment: Experiment, trials: Sequence[Trial]) -> Study:
    """The study in which an experiment's derived trials are known."""
    phases = [_replaced(phase, experiment, trials) if phase.id == experiment.phase else phase for phase in study.phases]
    return replace(study, phases=tuple(phases))


def experiment_named(study: Study, name: str, phase: str) -> Experiment | None:
    """The experiment `name` of `phase`, else of another phase; `phase.experiment` names one exactly. None where it is
    in another plan of the roadmap and has not run yet (a name that cannot exist does not get past the loader)."""
    found = [item for part in study.phases for item in part.experiments if name in (item.id, f"{part.id}.{item.id}")]
    return next((item for item in found if item.phase == phase), found[0] if found else None)


def top(study: Study, board: Board, source: Top | Sequence[str], phase: str) -> tuple[Trial, ...]:
    """The best finished trials that `top(...)` or a list of experiments names, best first.

    Args:
        source: a `Top`, or ids of experiments, all of whose finished trials are meant.
        phase: where the expression stands; ids are looked up there first, and no later phase counts.
    """
    if not isinstance(source, Top):
        named = [experiment_named(study, name, phase) for name in source]
        return board.ranked(trial for experiment in named if experiment for trial in experiment.trials)
    if source.scope == "all":
        return board.ranked(study_trials(study, phase))[: source.count]
    parts = [part for part in study.phases if part.id == source.scope]
    experiments = parts[0].experiments if parts else (experiment_named(study, source.scope, phase),)
    return board.ranked(trial for item in experiments if item for trial in item.trials)[: source.count]


def _replaced(phase: Phase, experiment: Experiment, trials: Sequence[Trial]) -> Phase:
    experiments = [
        replace(item, trials=tuple(trials)) if item.id == experiment.id else item for item in phase.experiments
    ]
    return replace(phase, experiments=tuple(experiments))


def _score(
    trial: Trial, store: MapStore, pages: Sequence[Page], truths: Sequence[Any], variant: Variant
) -> ImageScores:
    from detector.inference.predict import words_of_page

    rule = trial.config.postprocess
    counts = [
        cleval(truth, words_of_page(store.map(page.name), rule).polygons, variant)
        for page, truth in zip(pages, truths, strict=True)
    ]
    return ImageScores(tuple(page.name for page in pages), tuple(counts))
