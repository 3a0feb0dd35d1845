"""From maps to champion without Ray and without training: the maps are drawn (`drawn.py`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import CONFIG

from detector.data.formats import read_submission
from detector.inference.predict import Predictor, words_of_page
from detector.types import Page
from orchestrator.evaluation import maps as maps_module
from orchestrator.evaluation.champion import crown, read_champion
from orchestrator.evaluation.ensemble import build, fused
from orchestrator.evaluation.history import with_history
from orchestrator.evaluation.maps import ensure_maps
from orchestrator.evaluation.review import review
from orchestrator.evaluation.scores import evaluate
from orchestrator.evaluation.tuning import tune
from orchestrator.ledger import Ledger
from orchestrator.plan.identity import digest
from orchestrator.plan.study import (
    Study,
)
from orchestrator.report.page import write


def test_scores_of_drawn_maps_are_those_of_the_arithmetic(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    board = evaluate(study, ledger)
    # All words are of one shape: recall 3/4 and 2/4, precision 1; H = 2 r / (1 + r) = 6/7, 6/7, 2/3.
    found = {trial.experiment: board.scores[trial.digest].summary() for trial in board.trials.values()}
    assert found["a"] == pytest.approx({"hmean": 6 / 7, "precision": 1.0, "recall": 3 / 4})
    assert found["b"]["hmean"] == pytest.approx(6 / 7) and found["c"]["hmean"] == pytest.approx(2 / 3)
    assert [trial.experiment for trial in board.ranked(board.trials.values())] == ["a", "b", "c"]


def test_scores_are_read_from_the_ledger_afterwards(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    first = evaluate(study, ledger)
    (ledger.workspace / "maps").rename(ledger.workspace / "gone")
    again = evaluate(study, ledger)
    assert {digest: scores.counts for digest, scores in first.scores.items()} == {
        digest: scores.counts for digest, scores in again.scores.items()
    }


def test_an_ensemble_of_models_that_miss_different_words_is_recommended(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    board = evaluate(study, ledger)
    result = build(study.phases[0].experiments[3], study, ledger, board)
    assert result is not None
    # A and B fused: .5 where one of them is sure; found at thresh .3 and .4, lost at .6. With C the same words stand at
    # 1/3 of certainty: thresh .3 finds all but .4 does not, and box_thresh .4 drops them anyway.
    assert [member.name for member in result.members] == ["p/a", "p/b"]
    assert result.rule.thresh in (0.3, 0.4)
    assert result.crossfitted.mean("hmean") == pytest.approx(1.0)
    assert result.gain.mean == pytest.approx(1 / 7) and result.gain.low > 0 and result.recommended
    assert result.reference.crossfitted is not None
    assert result.reference.crossfitted.mean("hmean") == pytest.approx(6 / 7)


def test_the_bundle_carries_what_was_chosen_and_the_submission_what_it_finds(
    made: tuple[Study, Ledger], pages: tuple[Page, ...]
) -> None:
    study, ledger = made
    result = build(study.phases[0].experiments[3], study, ledger, evaluate(study, ledger))
    assert result is not None and result.submission is not None
    predictor = Predictor.load(result.folder, "cpu")
    assert [member.weight for member in predictor.members] == [0.5, 0.5]
    assert predictor.rule == result.rule
    stores = ensure_maps([ledger.folder(name * 16) / "best" for name in "ab"], pages, ledger.workspace)
    rows = read_submission(result.submission)  # no test images here: it is for the validation images
    assert list(rows) == [page.name for page in pages]
    for page in pages:
        found = words_of_page(fused({"identity": stores}, [0.5, 0.5])(page.name), result.rule).polygons
        assert len(rows[page.name]) == len(found) == 4
        np.testing.assert_array_equal(rows[page.name], np.floor(np.array(found) + 0.5))


def test_a_result_is_read_not_made_again(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    board = evaluate(study, ledger)
    first = build(study.phases[0].experiments[3], study, ledger, board)
    (ledger.workspace / "maps").rename(ledger.workspace / "gone")
    again = build(study.phases[0].experiments[3], study, ledger, board)
    assert first is not None and again is not None and again.as_json() == first.as_json()
    # other rules are another search: without maps it would have to ask Ray for them
    item = study.phases[0].experiments[3]
    assert item.ensemble is not None
    other = replace(item, ensemble=replace(item.ensemble, rules=item.ensemble.rules[:1]))
    with pytest.raises(ImportError):
        build(other, study, ledger, board)
    assert build(other, study, ledger, board, compute=False) is None


def test_a_search_that_finds_nothing_better_is_not_recommended(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    result = tune(study.phases[0].experiments[4], study, ledger, evaluate(study, ledger))
    # The maps are 0 or 255: no threshold changes anything.
    assert result is not None and not result.recommended
    assert (result.gain.low, result.gain.high) == (0.0, 0.0)
    assert [hmean for _, hmean in result.curve] == pytest.approx([6 / 7] * 3)


def test_the_champion_is_the_recommended_ensemble_else_the_best_single(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    board = evaluate(study, ledger)
    ensemble = build(study.phases[0].experiments[3], study, ledger, board)
    assert ensemble is not None
    champion = crown(study, ledger, board, [ensemble])
    assert champion is not None and (champion.kind, champion.name) == ("ensemble", "p/both")
    assert read_champion(ledger.workspace) == champion
    champion = crown(study, ledger, board, [replace(ensemble, recommended=False)])
    assert champion is not None and (champion.kind, champion.name) == ("single", "p/a")
    assert "no ensemble is surely better" in champion.why
    assert Predictor.load(ledger.workspace / champion.path, "cpu").views == ("identity",)


def test_a_champion_of_another_plan_stays_while_it_is_better(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    board = evaluate(study, ledger)
    ensemble = build(study.phases[0].experiments[3], study, ledger, board)
    assert ensemble is not None
    first = crown(study, ledger, board, [ensemble])
    assert crown(replace(study, plan_path=Path("other.yaml")), ledger, board, []) == first


def test_only_missing_maps_are_asked_for(made: tuple[Study, Ledger], pages: tuple[Page, ...]) -> None:
    ledger = made[1]
    (store,) = ensure_maps([ledger.folder("a" * 16) / "best"], pages, ledger.workspace)
    (store.folder / "00003.npz").unlink()
    chunks = maps_module._missing(ledger.folder("a" * 16) / "best", store.folder, ("identity",), pages)
    assert [[index for index, _ in chunk.pages] for chunk in chunks] == [[3]]


def test_review_names_what_is_left_and_the_report_escapes_names(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    own = frozenset({"p"})
    assert review(study, ledger, own).left == ("p/a", "p/b", "p/c")  # finished, but not scored yet
    board = evaluate(study, ledger)
    assert review(study, ledger, own).left == ("p/both", "p/search")
    for item in study.phases[0].experiments[3:]:
        _ = build(item, study, ledger, board) if item.ensemble else tune(item, study, ledger, board)
    state = review(study, ledger, own)
    assert state.left == () and state.decisions[0].passed
    assert state.decisions[0].best == "p/both"
    crown(study, ledger, board, state.results)
    text, page = (path.read_text(encoding="utf-8") for path in write(state, ledger))
    assert "misses (0,)" in text and "p/both" in text and "recommended" in text
    assert "plan &lt;x&gt;.yaml" in page and "plan <x>.yaml" not in page
    assert "<script" not in page


def test_finished_trials_of_other_plan_files_are_candidates_if_their_digest_proves_them(
    made: tuple[Study, Ledger],
) -> None:
    study, ledger = made
    assert study.datasets is not None
    proven = replace(
        study.phases[0].experiments[0].trials[0],
        digest=digest(CONFIG, study.datasets.digest, None, 1, ""),
        name="p0/baseline",
        phase="p0",
        experiment="baseline",
    )
    stranger = replace(proven, digest="f" * 16, name="p0/other")  # trained on other data, or by other code
    for trial in (proven, stranger):
        ledger.register(trial)
        ledger.set_state(trial.digest, "finished", "budget")
    with_it = with_history(replace(study, phases=(replace(study.phases[0], needs=("p0",)),)), ledger)
    assert [phase.id for phase in with_it.phases] == ["p0", "p"]
    assert with_it.phases[0].experiments[0].trials == (proven,)
