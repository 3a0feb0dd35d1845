"""Members whose probability maps are averaged in one common frame, held against the best single model.

    <workspace>/ensembles/<phase>-<experiment>/
        bundle.json, members...   what `detector.inference.predict.Predictor` loads; needs nothing else
        submission.csv            the test images, or the validation images where a roadmap has no test images
        scores.json               members, rule, scores of all and of the best single, the interval (written last)

Members enter best first, by their H on the common validation images, with equal weights: those gave 87-98 % of what
learned weights gave, and none of the gain that was not there. How many enter (2 to `max_members`) and the thresholds
are chosen together, cross-fitted; the best single model of this phase and those before gets its thresholds from the
same search on the same images. That model was itself picked by its score there, which flatters it, not the ensemble.
The ensemble is recommended only if the paired interval of the cross-fitted H lies above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.config import Postprocess
from detector.data.formats import write_submission
from detector.inference.bundle import save_bundle
from detector.types import Float64, Page
from orchestrator.evaluation.maps import MapStore, ensure_maps
from orchestrator.evaluation.scores import Board, study_trials, top, validation_pages, variant_of
from orchestrator.evaluation.statistics import paired_bootstrap
from orchestrator.evaluation.thresholds import Table, choose, search
from orchestrator.evaluation.tuning import (
    Member,
    Reference,
    Tuned,
    curve_of,
    load_tuned,
    result_folder,
    result_key,
    save_tuned,
    table_of,
)
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Experiment, Study, Trial

if TYPE_CHECKING:
    from detector.inference.predict import PageMap


def build(experiment: Experiment, study: Study, ledger: Ledger, board: Board, *, compute: bool = True) -> Tuned | None:
    """Choose members and thresholds of an `ensemble:` experiment, write its bundle and submission.

    Args:
        compute: False reads a saved result only.

    Returns:
        None where fewer than two members have finished, or nothing is saved and `compute` is False.
    """
    spec = experiment.ensemble
    if spec is None:
        raise ValueError(f"{experiment.phase}.{experiment.id} is no ensemble")
    pool = top(study, board, spec.pool, experiment.phase)
    if len(pool) < 2:
        return None
    rival = board.ranked(study_trials(study, experiment.phase))[0]
    folder = result_folder(ledger, experiment)
    key = result_key(study, (*pool, rival), spec.views, spec.max_members, spec.rules)
    if (saved := load_tuned(folder, key)) or not compute:
        return saved
    candidates = pool[: max(2, spec.max_members)]
    tables = _growing(candidates, spec.views, spec.rules, study, ledger)
    choice = choose(tables)
    members = candidates[: choice.table + 2]
    reference = _best_single(rival, spec.rules, study, ledger, board)
    single = reference.crossfitted or reference.own
    gain = paired_bootstrap(choice.crossfitted.stat_N("hmean"), single.stat_N("hmean"))
    _write_bundle(folder, members, spec.views, choice.rule, ledger)
    _write_submission(folder, members, spec.views, choice.rule, study, ledger)
    tuned = Tuned(
        "ensemble",
        experiment.phase,
        experiment.id,
        tuple(Member(trial.digest, trial.name, 1.0 / len(members)) for trial in members),
        spec.views,
        choice.rule,
        len(spec.rules) * len(tables),
        choice.flat,
        choice.shown,
        choice.crossfitted,
        reference,
        gain,
        gain.above_zero,
        curve_of(tables[choice.table]),
        folder,
    )
    save_tuned(tuned, key)
    return tuned


def fused(stores: Sequence[MapStore]) -> Callable[[str], PageMap]:
    """Page name -> the equally weighted mean of the stores' maps, as a bundle with these members computes it."""
    from detector.inference.predict import fuse

    weights = equal_weights(len(stores))
    return lambda name: fuse([store.map(name) for store in stores], weights)


def equal_weights(count: int) -> list[float]:
    """1 / count for each member."""
    return [1.0 / count] * count


def _growing(
    candidates: Sequence[Trial],
    views: tuple[str, ...],
    rules: Sequence[Postprocess],
    study: Study,
    ledger: Ledger,
) -> list[Table]:
    """A table of all rules for the best two candidates, the best three, and so on."""
    pages = validation_pages(study)
    stores = ensure_maps(_checkpoints(candidates, ledger), pages, ledger.workspace, views=views)
    return [search(fused(stores[:size]), pages, rules, variant_of(study)) for size in range(2, len(candidates) + 1)]


def _best_single(trial: Trial, rules: Sequence[Postprocess], study: Study, ledger: Ledger, board: Board) -> Reference:
    choice = choose((table_of(trial, rules, study, ledger),))
    return Reference(trial.digest, trial.name, board.scores[trial.digest], choice.rule, choice.crossfitted)


def _write_bundle(
    folder: Path, members: Sequence[Trial], views: tuple[str, ...], rule: Postprocess, ledger: Ledger
) -> None:
    weights = equal_weights(len(members))
    checkpoints = [ledger.checkpoint(trial.digest) for trial in members]
    save_bundle(folder, list(zip(checkpoints, weights, strict=True)), views, rule)


def _write_submission(
    folder: Path,
    members: Sequence[Trial],
    views: tuple[str, ...],
    rule: Postprocess,
    study: Study,
    ledger: Ledger,
) -> None:
    pages = submission_pages(study)
    stores = ensure_maps(_checkpoints(members, ledger), pages, ledger.workspace, views=views)
    write_submission(folder / "submission.csv", words_of(fused(stores), pages, rule))


def submission_pages(study: Study) -> Sequence[Page]:
    """The test images, or the validation images of a roadmap that has none."""
    return (study.datasets.test if study.datasets else ()) or validation_pages(study)


def words_of(
    map_of: Callable[[str], PageMap], pages: Sequence[Page], rule: Postprocess
) -> dict[str, tuple[Float64, ...]]:
    """Polygons of every page, in the image frame."""
    from detector.inference.predict import words_of_page

    return {page.name: words_of_page(map_of(page.name), rule).polygons for page in pages}


def _checkpoints(trials: Sequence[Trial], ledger: Ledger) -> list[Path]:
    return [ledger.best(trial.digest) for trial in trials]
