"""Fold experiments without Ray and without training: the maps are drawn, so every score is known beforehand.

Each page has four words of equal size. A model that misses one of them has P = 1, R = 3 / 4, H = 2 * .75 / 1.75 = 6 / 7
on each page; one that misses two has R = 1 / 2, H = 2 / 3. Where one of two seeds is sure (255) and the other is not
(0), their mean says 128 / 255 = .5, which is above `thresh`: together they miss what both miss.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from drawn import CONFIG, draw_maps, make_pages

from detector import checkpoint
from detector.errors import InputError
from detector.files import write_bytes
from detector.model.detector import build as build_model
from orchestrator.evaluation.freeing import freeing
from orchestrator.evaluation.gates import decide
from orchestrator.evaluation.outoffold import FoldResult, fold_results, held_out
from orchestrator.evaluation.review import review
from orchestrator.evaluation.scores import evaluate
from orchestrator.evaluation.statistics import bootstrap
from orchestrator.evaluation.tuned import metrics_of
from orchestrator.evaluation.tuning import tune
from orchestrator.ledger import Ledger
from orchestrator.plan.datasets import Datasets
from orchestrator.plan.study import Experiment, Phase, Study, ThresholdSearch, Trial
from orchestrator.records import EpochRow
from orchestrator.report.document import markdown
from orchestrator.report.page import write
from orchestrator.report.results import results_blocks

FOLDS = (0, 1, 0, 1, 1, 0, 1, 1)  # of the training pages
ONE, TWO = 6 / 7, 2 / 3  # H where one word or two are missed
# (fold, seed) -> words that it misses on every page
MISSES = {(0, 0): (0,), (0, 1): (1,), (1, 0): (0, 1), (1, 1): (1, 2)}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[int, int], Path]:
    """Real (untrained) networks; only digests and files matter here."""
    import torch

    folders = {}
    for fold, seed in MISSES:
        folders[fold, seed] = tmp_path_factory.mktemp("models") / f"{fold}{seed}"
        config = CONFIG.model_copy(update={"seed": seed})
        network = build_model(config)
        with torch.no_grad():
            next(network.parameters()).add_(1 + fold)  # as trainings on other pages would
        checkpoint.save(folders[fold, seed], network, config)
    return folders


def digest_of(fold: int, seed: int) -> str:
    return f"{fold}{seed}" * 8


@pytest.fixture
def made(
    tmp_path: Path, networks: Mapping[tuple[int, int], Path], monkeypatch: pytest.MonkeyPatch
) -> tuple[Study, Ledger]:
    """A study of two folds and two seeds, trained, with maps; an import of ray fails from here on."""
    monkeypatch.setitem(sys.modules, "ray", None)
    ledger = Ledger.open(tmp_path / "w")
    train, val = make_pages(tmp_path, "t", len(FOLDS)), make_pages(tmp_path, "vv", 9)
    trials = []
    for fold, seed in MISSES:
        config = CONFIG.model_copy(update={"seed": seed})
        trial = Trial(digest_of(fold, seed), f"p/kfold-fold{fold}-seed{seed}", "p", "kfold", config, fold)
        ledger.register(trial)
        shutil.copytree(networks[fold, seed], ledger.folder(trial.digest) / "best")
        ledger.append_epoch(trial.digest, EpochRow(1, {"hmean": 0.5}, 1.0, 1, best=True))
        ledger.set_state(trial.digest, "finished", "budget")
        for number in range(3):
            write_bytes(ledger.folder(trial.digest) / "pictures" / f"{number}.jpg", b"drawn")
        trials.append(trial)
    experiment = Experiment("kfold", "p", "folds", 1, tuple(trials), oof=True)
    study = Study(
        "r",
        tmp_path / "plan.yaml",
        ledger.workspace,
        (Phase("p", "", (), (experiment,), {}),),
        {},
        Datasets(train, val, (), "data", FOLDS),
        None,
        "",
        {},
    )
    for trial in trials:
        misses = MISSES[trial.fold or 0, trial.config.seed]
        draw_maps(ledger, trial, val, misses)
        draw_maps(ledger, trial, held_out(study, trial.fold or 0), misses)
    return study, ledger


def results(study: Study, ledger: Ledger, compute: bool = True) -> tuple[FoldResult, ...]:
    return fold_results(study.phases[0].experiments[0], study, ledger, evaluate(study, ledger), compute=compute)


def test_every_page_is_scored_by_the_models_that_did_not_learn_from_it(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    (found,) = results(study, ledger)
    # On the validation pages: fold 0 misses one word under either seed, fold 1 two.
    assert found.val == {0: pytest.approx(ONE), 1: pytest.approx(TWO)}
    assert (found.mean, found.trainings) == (pytest.approx((ONE + TWO) / 2), 4)
    assert found.sd == pytest.approx((ONE - TWO) / 2**0.5)  # of two values
    # Out-of-fold: the seeds of fold 0 miss nothing together, those of fold 1 miss word 1.
    assert found.scores is not None
    by_page = dict(zip(found.scores.names, found.scores.stat_N("hmean"), strict=True))
    assert by_page == {f"t{i}.png": pytest.approx(1.0 if fold == 0 else ONE) for i, fold in enumerate(FOLDS)}
    mean = (3 * 1.0 + 5 * ONE) / 8
    interval = found.interval
    assert interval is not None and interval.mean == pytest.approx(mean)
    assert interval == bootstrap(found.scores.stat_N("hmean"))
    told = found.metrics()
    assert (told["oof/hmean"], told["oof/images"], told["folds/1_hmean"]) == pytest.approx((mean, 8, TWO))
    assert f"out-of-fold H {mean:.4f} [" in str(found) and "on 8 training images" in str(found)


def test_counts_stay_in_the_ledger_and_maps_may_go(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    assert results(study, ledger, compute=False)[0].scores is None
    (first,) = results(study, ledger)
    shutil.rmtree(ledger.workspace / "maps")
    for fold, seed in MISSES:
        (ledger.folder(digest_of(fold, seed)) / "best" / "model.safetensors").unlink()
    (again,) = results(study, ledger, compute=False)
    assert first.scores is not None and again.scores is not None
    assert again.scores.as_json() == first.scores.as_json()
    # A fold that is lost is all that is computed again; its weights are gone, so nobody asks for it.
    key = next(key for key in ledger.score_names(digest_of(1, 0)) if key.startswith("oof-"))
    ledger._scores_path(digest_of(1, 0), key).unlink()
    (lost,) = results(study, ledger)
    assert (lost.scores, lost.wanted) == (None, False)


def test_out_of_fold_waits_for_every_fold_and_can_be_left_out(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    phase = study.phases[0]
    item = phase.experiments[0]

    def wanted(*trials: Trial, oof: bool = True) -> bool:
        one = replace(item, trials=trials, oof=oof)
        (found,) = results(replace(study, phases=(replace(phase, experiments=(one,)),)), ledger)
        return found.wanted

    assert wanted(*item.trials) and not wanted(*item.trials, oof=False)
    assert wanted(item.trials[0], item.trials[2])  # a seed of each fold is enough
    assert not wanted(*item.trials[:2])  # fold 1 has no model
    ledger.set_state(digest_of(1, 1), "running")
    assert not wanted(*item.trials)  # its second seed is still to come
    ledger.set_state(digest_of(1, 1), "failed", "no memory")
    assert wanted(*item.trials)


def test_a_review_names_what_is_left_and_reports_one_row(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    board = evaluate(study, ledger)
    before = review(study, ledger, frozenset({"p"}))
    assert before.left == ("p/kfold out-of-fold",)
    kept = freeing(before, ledger, 1).kept
    assert "not scored out-of-fold yet" in kept.values() and len(kept) == 4
    results(study, ledger)
    state = review(study, ledger, frozenset({"p"}))
    assert state.left == () and state.folds[0].scores is not None
    text = write(state, ledger)[0].read_text()
    row = next(line for line in text.splitlines() if line.startswith("| p/kfold | 4 |"))
    assert f"| 0: {ONE:.4f}, 1: {TWO:.4f} | {(ONE + TWO) / 2:.4f} |" in row and "| 8 |" in row
    # The experiment counts by its mean, not by its luckiest fold.
    (outcome,) = decide(study.phases[0], study, board, ()).outcomes
    assert outcome.scores is not None and outcome.scores["hmean"] == pytest.approx((ONE + TWO) / 2)


def test_thresholds_of_folds_are_chosen_out_of_fold_and_held_against_the_validation_images(
    made: tuple[Study, Ledger],
) -> None:
    study, ledger = made
    results(study, ledger)
    board = evaluate(study, ledger)
    rules = tuple(CONFIG.postprocess.model_copy(update={"thresh": thresh}) for thresh in (0.3, 0.6))
    search = Experiment("rules", "p", "", 1, thresholds=ThresholdSearch("kfold", rules))
    found = tune(search, study, ledger, board)
    assert found is not None and found.outoffold is not None
    # At .6 the fused maps' words of .5 are lost, too: fold 0 keeps two of four (H 2 / 3), fold 1 one (H .4).
    assert found.rule == rules[0]
    assert found.outoffold.names == found.shown.names and set(found.shown.names) == {f"t{i}.png" for i in range(8)}
    assert found.outoffold.mean("hmean") == pytest.approx((3 * 1.0 + 5 * ONE) / 8)
    assert dict(found.curve)[0.6] == pytest.approx((3 * TWO + 5 * 0.4) / 8)
    # The best single training is one of fold 0, which misses a word of each validation page under either rule.
    assert found.crossfitted.names == tuple(f"vv{i}.png" for i in range(9))
    assert found.crossfitted.mean("hmean") == pytest.approx(ONE) and not found.recommended
    assert metrics_of(found)["oof_hmean"] == found.outoffold.mean("hmean")
    saved = tune(search, study, ledger, board, compute=False)
    assert saved is not None and saved.as_json() == found.as_json()
    text = markdown(results_blocks([found]), "report")
    assert "The rule was chosen on 8 training images by models that did not learn from them" in text


def test_twins_among_the_models_are_refused_by_name(made: tuple[Study, Ledger]) -> None:
    study, ledger = made
    results(study, ledger)
    for fold, seed, twin in ((1, 0, (0, 0)), (1, 1, (0, 0))):  # with the same seed, and with another's config
        best = ledger.folder(digest_of(fold, seed)) / "best"
        saved = best.with_name("saved")
        best.rename(saved)
        shutil.copytree(ledger.folder(digest_of(*twin)) / "best", best)
        if seed:
            from safetensors.torch import load_file

            network = build_model(CONFIG)
            network.load_state_dict(load_file(best / "model.safetensors"))
            checkpoint.save(best, network, CONFIG.model_copy(update={"seed": seed}))
        with pytest.raises(InputError) as caught:
            results(study, ledger, compute=False)
        assert f"p/kfold-fold0-seed0 and p/kfold-fold{fold}-seed{seed} came to the same weights" in str(caught.value)
        shutil.rmtree(best)
        saved.rename(best)
    assert results(study, ledger)
