"""Views of an ensemble and of a single model, without Ray and without training: shipped where they pay, else named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn import MISSES, draw_maps

from detector.data.formats import read_submission
from detector.inference.predict import Predictor, words_of_page
from detector.types import Page
from orchestrator.evaluation.champion import crown
from orchestrator.evaluation.ensemble import build, fused
from orchestrator.evaluation.maps import ensure_maps
from orchestrator.evaluation.models import named_model
from orchestrator.evaluation.review import can_result, review
from orchestrator.evaluation.scores import evaluate
from orchestrator.evaluation.tuned import metrics_of
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Experiment, Study
from orchestrator.report.page import write


def test_a_view_that_pays_is_shipped_and_one_that_does_not_is_named(
    made: tuple[Study, Ledger], pages: tuple[Page, ...]
) -> None:
    # Upright, nobody of A and C sees the first word, C not the second either; mirrored, both see all; upside down as
    # upright. Two views: a mean of 128 for the first word, found at thresh .3 and .4. Three: 85 = .33, lost.
    study, ledger = made
    for name in "ac":
        trial = next(item for item in study.phases[0].experiments if item.id == name).trials[0]
        draw_maps(ledger, trial, pages, (), "hflip")
        draw_maps(ledger, trial, pages, MISSES[name], "vflip")
    item = study.phases[0].experiments[3]
    assert item.ensemble is not None
    spec = replace(item.ensemble, pool=("a", "c"), views=("identity", "vflip", "hflip"), weights="auto")
    result = build(replace(item, ensemble=spec), study, ledger, evaluate(study, ledger))
    assert result is not None and result.anatomy is not None
    assert result.views == ("identity", "hflip") and result.crossfitted.mean("hmean") == pytest.approx(1.0)
    assert Predictor.load(result.folder, "cpu").views == result.views
    assert [rung.name for rung in result.anatomy.rungs] == [
        *("equal weights", "views", "greedy weights", "simplex weights", "chosen")
    ]
    assert [rung.kept for rung in result.anatomy.rungs] == [True, True, False, False, True]
    assert result.anatomy.idle_views == ("vflip",)
    assert all(view.ms is not None and view.ms > 0 for view in result.anatomy.views)
    again = build(replace(item, ensemble=spec), study, ledger, evaluate(study, ledger), compute=False)
    assert again is not None and again.anatomy == result.anatomy and again.knobs == result.knobs
    assert "views/vflip_low" in metrics_of(result) and "steps/views gain_high" in metrics_of(result)
    text = write(replace(review(study, ledger, frozenset({"p"})), results=(result,)), ledger)[0].read_text("utf-8")
    assert "does not pay for its time, leave it out" in text and "lost without it" in text


def views_of(name: str, study: Study, views: tuple[str, ...]) -> Experiment:
    """The ensemble of the study with a pool of one model."""
    item = study.phases[0].experiments[3]
    assert item.ensemble is not None
    return replace(item, ensemble=replace(item.ensemble, pool=(name,), views=views, weights="auto", fusion="geometric"))


def test_views_of_one_model_are_held_against_it_without_them(
    made: tuple[Study, Ledger], pages: tuple[Page, ...]
) -> None:
    # Upright and upside down A does not see the first word, mirrored it does: a mean of 128 beside the upright map.
    study, ledger = made
    trial = study.phases[0].experiments[0].trials[0]
    draw_maps(ledger, trial, pages, (), "hflip")
    draw_maps(ledger, trial, pages, MISSES["a"], "vflip")
    board, item = evaluate(study, ledger), views_of("a", study, ("identity", "vflip", "hflip"))
    result = build(item, study, ledger, board)
    assert result is not None and result.anatomy is not None
    assert [(member.name, member.weight) for member in result.members] == [("p/a", 1.0)]
    assert result.views == ("identity", "hflip") and result.anatomy.idle_views == ("vflip",)
    assert result.alone and result.rival == "p/a without views" and result.reference.trial == trial.digest
    assert result.recommended and result.gain.mean == pytest.approx(1 / 7)
    assert {view.view: view.gain.mean for view in result.anatomy.views} == pytest.approx({"vflip": 0, "hflip": 1 / 7})
    assert all(view.ms is not None and view.ms > 0 for view in result.anatomy.views)
    metrics = metrics_of(result)
    assert metrics["steps/one view"] == pytest.approx(6 / 7) and metrics["views/hflip_ms"] > 0
    assert metrics["members"] == 1.0 and not any(name.startswith("without_member") for name in metrics)
    predictor = Predictor.load(result.folder, "cpu")
    assert (predictor.views, predictor.rule, predictor.fusion) == (result.views, result.rule, "mean")
    assert result.submission is not None
    stores = [ensure_maps([ledger.best(trial.digest)], pages, ledger.workspace, views=(v,)) for v in result.views]
    rows = read_submission(result.submission)
    for page in pages:
        page_map = fused(dict(zip(result.views, stores, strict=True)), [1.0])(page.name)
        np.testing.assert_array_equal(
            rows[page.name], np.floor(np.array(words_of_page(page_map, result.rule).polygons) + 0.5)
        )
    assert named_model(ledger.workspace, "p/both") == result.folder
    champion = crown(study, ledger, board, [result])
    assert champion is not None and champion.name == "p/both"
    assert champion.why.startswith("views identity, hflip; H, cross-fitted, against p/a without views: +0.1429")
    state = replace(review(study, ledger, frozenset({"p"})), results=(result,))
    text = write(state, ledger)[0].read_text("utf-8")
    assert "does not pay for its time, leave it out" in text and "p/a without views" in text
    assert "lost without it" not in text
    again = build(item, study, ledger, board, compute=False)
    assert again is not None and again.as_json() == result.as_json()


@pytest.mark.parametrize(("mirrored", "crowned"), [((0,), "p/a"), ((), "p/both")])
def test_views_of_a_lesser_model_must_surely_beat_the_best_one(
    made: tuple[Study, Ledger], pages: tuple[Page, ...], mirrored: tuple[int, ...], crowned: str
) -> None:
    # C sees two words, with the mirrored view three (as A does alone) or all: better than C in either case.
    study, ledger = made
    draw_maps(ledger, study.phases[0].experiments[2].trials[0], pages, mirrored, "hflip")
    board = evaluate(study, ledger)
    result = build(views_of("c", study, ("identity", "hflip")), study, ledger, board)
    assert result is not None and result.recommended and result.rival == "p/c without views"
    champion = crown(study, ledger, board, [result])
    assert champion is not None and champion.name == crowned


def test_a_pool_of_one_in_one_view_is_nothing_to_fuse(made: tuple[Study, Ledger]) -> None:
    # `check` refuses a plan that asks for it; where others of the pool have failed there is no result, and no crash.
    study, ledger = made
    board = evaluate(study, ledger)
    assert build(views_of("a", study, ("identity",)), study, ledger, board) is None
    assert not can_result(views_of("a", study, ("identity",)), study, board)
    assert can_result(views_of("a", study, ("identity", "hflip")), study, board)
