"""The training loop on tiny pages: deterministic, resumable, stopped by patience, equal under two real ranks."""

from __future__ import annotations

import json

import pytest
import torch
from bars import TINY, run, scores, two_ranks
from safetensors.torch import load_file

from detector import checkpoint
from detector.config import Optimizer, Schedule
from detector.errors import CheckpointError, DataError, TrainingFailed
from detector.fit import fit
from detector.training import validation
from detector.training.runtime import Runtime
from detector.training.validation import Validator
from detector.training.world import World


def test_equal_seeds_give_equal_bits_and_loaders_do_not_matter(pages, tmp_path):
    first = run(TINY, pages, tmp_path / "a")
    again = run(TINY, pages, tmp_path / "b", loader_workers=2)
    other = run(TINY.model_copy(update={"seed": 1}), pages, tmp_path / "c")
    assert scores(first) == scores(again) != scores(other)
    assert [epoch.number for epoch in first] == [1, 2, 3, 4]
    assert first[-1].metrics["train_loss"] < first[0].metrics["train_loss"]
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in "ab")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("changes", [{}, {"ema": 0.5, "batch_size": 1, "accumulate": 3}])
def test_an_interrupted_training_ends_as_one_left_alone(pages, tmp_path, changes):
    config = TINY.model_copy(update=changes)
    whole = run(config, pages, tmp_path / "whole")
    part = run(config, pages, tmp_path / "part", stop_after=2)  # killed before the state of epoch 2 is saved
    rest = run(config, pages, tmp_path / "part")
    assert scores(part)[:1] + scores(rest) == scores(whole)
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "part"))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert any(key.startswith("average/") for key in a) == ("ema" in changes)
    a, b = (load_file(tmp_path / name / "best" / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert run(config, pages, tmp_path / "part") == []  # nothing is left to do


def test_the_best_checkpoint_is_kept_and_scores_what_was_reported(pages, tmp_path):
    epochs = run(TINY, pages, tmp_path)
    best = max(epochs, key=lambda epoch: epoch.metrics["hmean"])
    model, config = checkpoint.load(tmp_path / "best")
    assert config == TINY
    again = Validator(pages[4:], config, World(0, 1)).metrics(model.eval())
    assert again["hmean"] == best.metrics["hmean"]
    stored = json.loads((tmp_path / "best" / "checkpoint.json").read_text())
    assert stored["epoch"] == next(e.number for e in epochs if e.metrics["hmean"] == best.metrics["hmean"])


def test_scores_do_not_depend_on_how_much_truth_is_kept(pages, tmp_path, monkeypatch):
    run(TINY, pages, tmp_path)
    model, config = checkpoint.load(tmp_path / "best")
    kept = Validator(pages[4:], config, World(0, 1)).metrics(model.eval())
    monkeypatch.setattr(validation, "KEPT_WORDS", len(pages[4].words))  # the first page's and no other's
    validator = Validator(pages[4:], config, World(0, 1))
    assert validator.metrics(model) == validator.metrics(model) == kept


def test_averaged_weights_are_validated_and_kept(pages, tmp_path):
    # With patience 9 the last epoch may not be the best: compare in a training of one epoch.
    config = TINY.model_copy(update={"ema": 0.9, "max_epochs": 1})
    (epoch,) = run(config, pages, tmp_path)
    state, best = load_file(tmp_path / "last.safetensors"), load_file(tmp_path / "best" / "model.safetensors")
    assert all(torch.equal(best[name], state[f"average/{name}"]) for name in best)
    assert not torch.equal(best["head.prob.out.weight"], state["model/head.prob.out.weight"])
    model, _ = checkpoint.load(tmp_path / "best")
    assert Validator(pages[4:], config, World(0, 1)).metrics(model)["hmean"] == epoch.metrics["hmean"]


def test_patience_ends_a_training_without_gain(pages, tmp_path):
    # A gain must exceed 2, which no score can: epoch 1 stays the best, and 2 epochs later patience ends.
    config = TINY.model_copy(update={"patience": 2, "min_delta": 2.0, "max_epochs": 9})
    result = fit(config, pages[:4], pages[4:], Runtime(tmp_path, threads=1))
    assert (result.stopped, result.epochs, result.best_epoch) == ("patience", 3, 1)


def test_patience_waits_for_its_first_epoch(pages, tmp_path):
    # Without `patience_from` it would end after epoch 2; epoch 4 is the first that may be the last.
    config = TINY.model_copy(update={"patience": 1, "patience_from": 4, "min_delta": 2.0, "max_epochs": 9})
    result = fit(config, pages[:4], pages[4:], Runtime(tmp_path, threads=1))
    assert (result.stopped, result.epochs, result.best_epoch) == ("patience", 4, 1)


def test_accumulation_counts_optimizer_steps(pages, tmp_path):
    config = TINY.model_copy(update={"batch_size": 1, "accumulate": 3, "max_epochs": 1})
    fit(config, pages[:4], pages[4:], Runtime(tmp_path, threads=1))
    state = load_file(tmp_path / "last.safetensors")
    assert state["optimizer/0/step"].item() == 2  # 4 images, one each: ceil(4 / 3) = 2 steps


def test_bf16_trains(pages, tmp_path):
    epochs = run(TINY.model_copy(update={"precision": "bf16"}), pages, tmp_path)
    assert epochs[-1].metrics["train_loss"] < epochs[0].metrics["train_loss"]


def test_wrong_input_is_refused(pages, tmp_path):
    with pytest.raises(DataError, match="0 training"):
        fit(TINY, (), pages, Runtime(tmp_path / "empty"))
    run(TINY, pages, tmp_path / "used", stop_after=3)
    with pytest.raises(CheckpointError, match=r"another config \(max_epochs: 4 there, 5 here\)"):
        run(TINY.model_copy(update={"max_epochs": 5}), pages, tmp_path / "used")


def test_a_loss_that_is_not_finite_ends_the_training(pages, tmp_path):
    config = TINY.model_copy(
        update={"optimizer": Optimizer(lr=1e30, clip_norm=0.0), "schedule": Schedule(warmup_epochs=0)}
    )
    with pytest.raises(TrainingFailed, match=r"the loss is (nan|inf) in epoch 1 at lr 9.5e\+29; lower optimizer.lr"):
        fit(config, pages[:4], pages[4:], Runtime(tmp_path, threads=1))


def test_two_ranks_score_each_page_once(pages, tmp_path):
    # With averaged weights, whose statistics must be the first rank's on both as well.
    # 3 validation pages on 2 ranks: a padding sampler would count one of them twice.
    folder, split = tmp_path / "trial", {"train": pages[:4], "val": pages[4:]}
    first, second = two_ranks(tmp_path, config=TINY.model_copy(update={"ema": 0.9}), **split, folder=folder)
    model, config = checkpoint.load(folder / "best")
    torch.set_num_threads(1)
    alone = Validator(pages[4:], config, World(0, 1)).metrics(model.eval())
    assert first["scored"] == second["scored"] == alone
    best = max(first["epochs"], key=lambda metrics: metrics["hmean"])
    assert {key: best[key] for key in alone} == alone
    for a, b in zip(first["epochs"], second["epochs"], strict=True):
        a.pop("epoch_seconds"), b.pop("epoch_seconds")
        assert a == b  # losses are averaged over the ranks, scores gathered from them
