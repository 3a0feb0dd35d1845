"""From maps to champion without Ray and without training: the maps are drawn, so every score is known beforehand.

Each page has four words. Model A never finds the first, model B never the second, model C neither; none invents any.
Where one of two members is sure (255) and the other is not (0), the fused map says 128 / 255 = .5.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector import checkpoint
from detector.config import Config, Postprocess
from detector.data.formats import read_submission
from detector.files import write_bytes
from detector.geometry import fit_frame
from detector.inference.predict import Predictor, words_of_page
from detector.model.detector import build as build_model
from detector.types import Page, Word
from orchestrator.evaluation import maps as maps_module
from orchestrator.evaluation.champion import crown, read_champion
from orchestrator.evaluation.ensemble import build, fused
from orchestrator.evaluation.history import with_history
from orchestrator.evaluation.maps import ensure_maps
from orchestrator.evaluation.models import named_model
from orchestrator.evaluation.review import can_result, review
from orchestrator.evaluation.scores import evaluate
from orchestrator.evaluation.tuned import metrics_of
from orchestrator.evaluation.tuning import tune
from orchestrator.ledger import Ledger
from orchestrator.plan.datasets import Datasets
from orchestrator.plan.identity import digest
from orchestrator.plan.study import (
    EnsembleSpec,
    Experiment,
    Gate,
    Phase,
    Study,
    ThresholdSearch,
    Top,
    Trial,
)
from orchestrator.records import EpochRow
from orchestrator.report.page import write

SIDE = 160
WORDS = [(20, 20), (90, 20), (20, 80), (90, 80)]  # x, y of words of 50 x 14 px
RULE = Postprocess(unclip_ratio=0.0)
CONFIG = Config(
    encoder="mobilenetv3_small_050",
    encoder_weights="none",
    inner_channels=8,
    output_channels=8,
    image_size=SIDE,
    postprocess=RULE,
)
MISSES = {"a": (0,), "b": (1,), "c": (0, 1)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, ...]:
    folder = tmp_path_factory.mktemp("pages")
    found = []
    for number in range(12):
        path = folder / f"{number}.png"
        Image.new("RGB", (SIDE, SIDE), (250, 250 - number, 250)).save(path)
        found.append(Page(path.name, path, tuple(Word(str(i), corners(i, number)) for i in range(4))))
    return tuple(found)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real (untrained) network for each name; only digests and files matter here."""
    folders = {}
    for seed, name in enumerate(MISSES):
        folders[name] = tmp_path_factory.mktemp("models") / name
        config = CONFIG.model_copy(update={"seed": seed})
        checkpoint.save(folders[name], build_model(config), config)
    return folders


def corners(index: int, number: int) -> np.ndarray:
    x, y = WORDS[index][0] + number, WORDS[index][1]
    return np.array([[x, y], [x + 50, y], [x + 50, y + 14], [x, y + 14]], dtype=np.float64)


def draw_maps(
    ledger: Ledger, trial: Trial, pages: tuple[Page, ...], misses: tuple[int, ...], view: str = "identity"
) -> None:
    """Write a model's maps as a Ray task would have."""
    store = ledger.folder(trial.digest) / "best"
    weights = str(checkpoint.load_meta(store)["digest"])
    folder = ledger.workspace / "maps" / maps_module._key(weights, maps_module.digest_of(pages), (view,))
    frame = fit_frame((SIDE, SIDE), SIDE, multiple=1)
    for index in range(len(pages)):
        prob_HW = np.zeros((SIDE, SIDE), dtype=np.uint8)
        for word in set(range(4)) - set(misses):
            (x, y), (right, below) = corners(word, index)[0].astype(int), corners(word, index)[2].astype(int)
            prob_HW[y:below, x:right] = 255
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, prob_HW=prob_HW, matrix_33=frame.matrix_33, image_wh=frame.image_wh, canvas_wh=frame.canvas_wh
        )
        write_bytes(folder / f"{index:05d}.npz", buffer.getvalue())


@pytest.fixture
def made(
    tmp_path: Path, pages: tuple[Page, ...], checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> tuple[Study, Ledger]:
    """A study whose three trainings have finished, with their maps; an import of ray fails from here on."""
    monkeypatch.setitem(sys.modules, "ray", None)
    ledger = Ledger.open(tmp_path / "w")
    experiments = []
    for seed, (name, misses) in enumerate(MISSES.items()):
        trial = Trial(f"{name * 16}", f"p/{name}", "p", name, CONFIG.model_copy(update={"seed": seed}))
        ledger.register(trial)
        ledger.append_epoch(trial.digest, EpochRow(1, {"hmean": 0.5}, 1.0, 0, best=True))
        ledger.set_state(trial.digest, "finished", "budget")
        (ledger.folder(trial.digest) / "best").symlink_to(checkpoints[name])
        draw_maps(ledger, trial, pages, misses)
        experiments.append(Experiment(name, "p", f"misses {misses}", 1, (trial,)))
    rules = tuple(Postprocess(thresh=thresh, unclip_ratio=0.0) for thresh in (0.3, 0.4, 0.6))
    experiments.append(Experiment("both", "p", "", 2, ensemble=EnsembleSpec(Top("p", 8), ("identity",), 3, rules)))
    experiments.append(Experiment("search", "p", "", 2, thresholds=ThresholdSearch("a", rules)))
    phase = Phase(
        "p", "what members add", (), tuple(experiments), {"hmean": 0.9}, Gate("ci_low(best - p.a) > 0", "stop")
    )
    datasets = Datasets((), pages, (), "d")
    return Study("r", Path("plan <x>.yaml"), ledger.workspace, (phase,), {}, datasets, None, "", {}), ledger


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
