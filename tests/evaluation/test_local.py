"""Which score here belongs to a model: by members, views, fusion and rule; the maps behind the scores are drawn."""

from __future__ import annotations

from typing import Any

import pytest
from test_outoffold import CONFIG, MISSES, ONE, TWO, digest_of, made, networks, results  # noqa: F401 - fixtures, too

from detector.inference.described import describe
from orchestrator.evaluation.local import local_of, outoffold_of
from orchestrator.evaluation.models import named_model
from orchestrator.evaluation.scores import evaluate
from orchestrator.evaluation.tuning import tune
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Experiment, Study, ThresholdSearch

OWN, OTHER = CONFIG.postprocess, CONFIG.postprocess.model_copy(update={"thresh": 0.2})
MEAN = (3 * 1.0 + 5 * ONE) / 8  # out-of-fold, see test_outoffold


def of_folds(ledger: Ledger, **changes: Any) -> dict[str, Any]:
    """The bundle that `predict p/kfold` makes, as its description says it."""
    return describe(named_model(ledger.workspace, "p/kfold")).as_json() | changes


def test_all_folds_of_a_model_have_the_score_of_the_pages_that_each_left_out(
    made: tuple[Study, Ledger],  # noqa: F811
) -> None:
    study, ledger = made
    whole = of_folds(ledger)
    assert outoffold_of(ledger.workspace, whole) is None  # not scored yet
    results(study, ledger)
    found = outoffold_of(ledger.workspace, whole)
    assert found is not None and (found.what, found.count, found.hmean_N) == ("own rule", 8, ())
    assert found.hmean == pytest.approx(MEAN)
    assert (found.precision, found.recall) == (pytest.approx(1.0), pytest.approx((3 * 1.0 + 5 * 0.75) / 8))

    rows = whole["members"]
    unequal = [row | {"weight": 0.4 if place else 0.1} for place, row in enumerate(rows)]
    one_seed = [row for row in rows if row["digest"] in {checkpoint(ledger, fold, 0) for fold in (0, 1)}]
    assert len(one_seed) == 2
    for change in (
        {"members": unequal},
        {"members": one_seed},  # each page was scored by both seeds
        {"members": rows[:3]},  # without one seed of a fold
        {"members": rows[:1]},
        {"views": ["identity", "hflip"]},
        {"fusion": "geometric"},
        {"postprocess": OTHER.model_dump(mode="json")},
        {"members": [*rows, {"digest": "0" * 32, "weight": rows[0]["weight"]}]},  # with a model from elsewhere
    ):
        assert outoffold_of(ledger.workspace, whole | change) is None, change


def checkpoint(ledger: Ledger, fold: int, seed: int) -> str:
    return describe(ledger.folder(digest_of(fold, seed)) / "best").digest


def test_a_rule_that_was_searched_on_folds_carries_their_score(made: tuple[Study, Ledger]) -> None:  # noqa: F811
    study, ledger = made
    results(study, ledger)
    rules = (OTHER, CONFIG.postprocess.model_copy(update={"thresh": 0.6}))
    search = Experiment("rules", "p", "", 1, thresholds=ThresholdSearch("kfold", rules))
    tuned = tune(search, study, ledger, evaluate(study, ledger))
    assert tuned is not None and tuned.rule == OTHER and tuned.outoffold is not None
    shipped = describe(named_model(ledger.workspace, "p/rules")).as_json()
    local, outoffold = local_of(ledger.workspace, shipped), outoffold_of(ledger.workspace, shipped)
    assert local is not None and (local.what, local.count) == ("cross-fitted", 9)
    assert local.hmean == pytest.approx(ONE)
    assert outoffold is not None and (outoffold.what, outoffold.count) == ("cross-fitted", 8)
    assert outoffold.hmean == pytest.approx(tuned.outoffold.mean("hmean")) == pytest.approx(MEAN)
    assert outoffold.images != local.images
    # All folds under that rule are what it was searched on; under their own rule they keep their own score.
    under = outoffold_of(ledger.workspace, of_folds(ledger, postprocess=OTHER.model_dump(mode="json")))
    assert under == outoffold
    own = outoffold_of(ledger.workspace, of_folds(ledger))
    assert own is not None and own.what == "own rule" and own.images == outoffold.images
    # One training alone, under its own rule: two words of each validation page, and no score of the pages it knows.
    alone = describe(ledger.folder(digest_of(1, 0)) / "best").as_json()
    assert outoffold_of(ledger.workspace, alone) is None
    there = local_of(ledger.workspace, alone)
    assert there is not None and (there.what, there.hmean) == ("own rule", pytest.approx(TWO))
    assert set(MISSES) == {(0, 0), (0, 1), (1, 0), (1, 1)} and OWN != OTHER
