"""Members whose probability maps are fused in one common frame, or views of a single one, held against a single model.

    <workspace>/ensembles/<phase>-<experiment>/
        bundle.json, members...   what `detector.inference.predict.Predictor` loads; needs nothing else
        submission.csv            the test images, or the validation images where a roadmap has no test images
        scores.json               members, rule, scores of all and of the best single, the interval (written last)

Equal weights are the standard: they gave 87-98 % of what learned weights gave, and none of the gain that was not there.
How many members enter (2 to `max_members`), views, learned weights and thresholds are chosen together, cross-fitted, as
`orchestrator.evaluation.recipes` tells; the best single model of this phase and those before gets its thresholds from
the same search on the same images. That model was itself picked by its score there, which flatters it, not the
ensemble. A pool of one model is held against that model without the views. Either is recommended only if the paired
interval of the cross-fitted H lies above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from detector.config import Postprocess
from detector.data.formats import write_submission
from detector.inference.bundle import save_bundle
from detector.inference.described import describe
from detector.types import Float64, Page
from orchestrator.evaluation.anatomy import anatomy, measure
from orchestrator.evaluation.blends import Bench, Blend
from orchestrator.evaluation.maps import MapStore, ensure_maps
from orchestrator.evaluation.packing import ViewMaps
from orchestrator.evaluation.recipes import Chooser, Learning
from orchestrator.evaluation.scores import Board, study_trials, validation_pages, variant_of
from orchestrator.evaluation.sensitivity import sensitivity
from orchestrator.evaluation.soups import Candidate, candidates
from orchestrator.evaluation.spreading import Scratch
from orchestrator.evaluation.statistics import paired_bootstrap
from orchestrator.evaluation.submitted import note_made
from orchestrator.evaluation.thresholds import choose, image_scores
from orchestrator.evaluation.tuned import Member, Reference, Tuned
from orchestrator.evaluation.tuning import SILENT, Making, Told, curve_of, result_key, table_of
from orchestrator.ledger import Ledger
from orchestrator.plan.study import EnsembleSpec, Experiment, Study, Trial, WeightsWay

if TYPE_CHECKING:
    from detector.inference.fusion import Fusion, PageMap

LEARNING: Final[Mapping[WeightsWay, tuple[Learning, ...]]] = {
    "equal": (),
    "greedy": ("greedy",),
    "simplex": ("simplex",),
    "auto": ("greedy", "simplex"),
}


def build(
    experiment: Experiment,
    study: Study,
    ledger: Ledger,
    board: Board,
    *,
    compute: bool = True,
    told: Told = SILENT,
) -> Tuned | None:
    """Choose members, views, weights and thresholds of an `ensemble:` experiment, write its bundle and submission.

    Args:
        compute: False reads a saved result only.
        told: what is told on the way.

    Returns:
        None where fewer models have finished than it takes, or nothing is saved and `compute` is False.
    """
    spec = experiment.ensemble
    if spec is None:
        raise ValueError(f"{experiment.phase}.{experiment.id} is no ensemble")
    pool = candidates(study, board, spec, experiment.phase)
    if len(pool) < spec.least:
        return None
    alone = len({candidate.trial.digest for candidate in pool}) == 1
    rival = pool[0].trial if alone else board.ranked(study_trials(study, experiment.phase))[0]
    soups = [candidate.trial.digest for candidate in pool if candidate.soup]
    trials = (*(candidate.trial for candidate in pool), rival)
    making = Making(experiment, study, ledger, board, told)
    key = result_key(study, trials, spec, soups)
    return making.result(key, lambda kept: _tuned(making, spec, pool, rival, kept), compute)


def _tuned(making: Making, spec: EnsembleSpec, pool: Sequence[Candidate], rival: Trial, kept: Scratch) -> Tuned:
    study, ledger, board, told = making.study, making.ledger, making.board, making.told
    pages, folder = validation_pages(study), making.folder
    stores = _stores(pool, spec.views, pages, ledger, told)
    variant = variant_of(study)
    bench = Bench(ViewMaps(stores), pages, spec.rules, variant, spec.fusion, kept=kept, on_pages=told.pages)
    own_MN = np.stack([candidate.scores(board).stat_N("hmean") for candidate in pool])
    chosen = Chooser(bench, own_MN, spec.views, LEARNING[spec.weights], spec.max_members).choose()
    blend, rule = chosen.recipe.blend, spec.rules[chosen.recipe.rule]
    members = [(pool[index], blend.weights[index]) for index in blend.members]
    choice = choose((table_of(rival, spec.rules, study, ledger, kept, told),))
    reference = Reference(rival.digest, rival.name, board.scores[rival.digest], choice.rule, choice.crossfitted)
    crossfitted = image_scores(bench.names, chosen.counts_NF)
    gain = paired_bootstrap(crossfitted.stat_N("hmean"), choice.crossfitted.stat_N("hmean"))
    checkpoints = {index: pool[index].checkpoint(ledger) for index in blend.members}
    cost_ms = measure(checkpoints, spec.views, pages)
    parts = anatomy(chosen, bench, [candidate.name for candidate in pool], own_MN, choice.crossfitted, cost_ms)
    table = bench.table(blend)
    fusion = spec.fusion if len(members) > 1 else "mean"  # of one there is none
    save_bundle(folder, [(checkpoints[i], blend.weights[i]) for i in blend.members], blend.views, rule, fusion)
    _write_submission(folder, members, blend, rule, fusion, study, ledger)
    return Tuned(
        "ensemble",
        making.experiment.phase,
        making.experiment.id,
        tuple(Member(one.trial.digest, one.name, weight, one.soup) for one, weight in members),
        blend.views,
        rule,
        bench.evaluations,
        chosen.recipe.flat,
        table.scores(chosen.recipe.rule),
        crossfitted,
        reference,
        gain,
        gain.above_zero,
        curve_of(table),
        folder,
        sensitivity(table, rule),
        parts,
    )


def fused(
    stores: Mapping[str, Sequence[MapStore]], weights: Sequence[float], fusion: Fusion = "mean"
) -> Callable[[str], PageMap]:
    """Page name -> the map that a bundle with these members, views and weights computes.

    Args:
        stores: of each view, one a member.
    """
    from detector.inference.fusion import fuse

    def map_of(name: str) -> PageMap:
        seen = [[store.map(name) for store in members] for members in zip(*stores.values(), strict=True)]
        return fuse([fuse(views) for views in seen], weights, fusion)

    return map_of


def _stores(
    models: Sequence[Candidate], views: Sequence[str], pages: Sequence[Page], ledger: Ledger, told: Told
) -> dict[str, tuple[MapStore, ...]]:
    """The maps of each view, one store a model."""
    places = [model.best(ledger) for model in models]
    return {view: ensure_maps(places, pages, ledger.workspace, views=(view,), on_pages=told.maps) for view in views}


def _write_submission(
    folder: Path,
    members: Sequence[tuple[Candidate, float]],
    blend: Blend,
    rule: Postprocess,
    fusion: Fusion,
    study: Study,
    ledger: Ledger,
) -> None:
    pages = submission_pages(study)
    stores = _stores([model for model, _ in members], blend.views, pages, ledger, SILENT)
    map_of = fused(stores, [weight for _, weight in members], fusion)
    path = folder / "submission.csv"
    write_submission(path, words_of(map_of, pages, rule))
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    note_made(ledger.workspace, path, describe(folder), folder.name, now)  # it stays known when a later one replaces it


def submission_pages(study: Study) -> Sequence[Page]:
    """The test images, or the validation images of a roadmap that has none."""
    return (study.datasets.test if study.datasets else ()) or validation_pages(study)


def words_of(
    map_of: Callable[[str], PageMap], pages: Sequence[Page], rule: Postprocess
) -> dict[str, tuple[Float64, ...]]:
    """Polygons of every page, in the image frame."""
    from detector.inference.predict import words_of_page

    return {page.name: words_of_page(map_of(page.name), rule).polygons for page in pages}
