"""The training loop on tiny pages: deterministic, resumable, stopped by patience, equal under two real ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from detector import checkpoint
from detector.config import Augment, Config, Optimizer, Schedule
from detector.errors import CheckpointError, DataError, TrainingFailed
from detector.fit import fit
from detector.training.runtime import Epoch, Runtime
from detector.training.validation import Validator
from detector.training.world import World
from detector.types import Page, Word

TINY = Config(
    encoder="test_resnet.r160_in1k",
    encoder_weights="none",
    decoder="fpn",
    inner_channels=16,
    output_channels=8,
    image_size=64,
    batch_size=2,
    max_epochs=4,
    optimizer=Optimizer(lr=3e-3),
    schedule=Schedule(warmup_epochs=0.5),
    augment=Augment(rotate_deg=2.0, blur=0.0, noise=0.0),
)


@pytest.fixture(scope="session")
def pages(tmp_path_factory) -> tuple[Page, ...]:
    """Seven pages with two dark bars each: enough to learn from, odd enough to split badly."""
    folder = tmp_path_factory.mktemp("bars")
    rng = np.random.default_rng(0)
    made = []
    for number in range(7):
        image = np.full((64, 56, 3), 255, np.uint8)
        words = []
        for row, top in enumerate((8, 36)):
            x, w, h = int(rng.integers(2, 12)), int(rng.integers(24, 40)), int(rng.integers(12, 18))
            image[top : top + h, x : x + w] = 30
            corners = np.array([[x, top], [x + w, top], [x + w, top + h], [x, top + h]], np.float64)
            words.append(Word(id=f"{row}", polygon_V2=corners))
        path = folder / f"쪽_{number}.png"
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        made.append(Page(name=path.name, path=path, words=tuple(words)))
    return tuple(made)


def run(config: Config, pages: tuple[Page, ...], folder: Path, stop_after: int | None = None, **runtime) -> list[Epoch]:
    """Train on four pages, validate on three; `stop_after` kills the training as its epoch is reported."""
    epochs: list[Epoch] = []

    def report(epoch: Epoch) -> None:
        epochs.append(epoch)
        if epoch.number == stop_after:
            raise KeyboardInterrupt

    try:
        fit(config, pages[:4], pages[4:], Runtime(folder, threads=1, **runtime), report)
    except KeyboardInterrupt:
        assert stop_after
    return epochs


def scores(epochs: list[Epoch]) -> list[dict[str, float]]:
    return [{key: value for key, value in epoch.metrics.items() if key != "epoch_seconds"} for epoch in epochs]


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


RANK = """
import json, pickle, sys
import torch, torch.distributed as dist
from detector import checkpoint
from detector.config import Config
from detector.fit import fit
from detector.training.runtime import Runtime
from detector.training.validation import Validator
from detector.training.world import World
from pathlib import Path
rank, store, job = int(sys.argv[1]), sys.argv[2], pickle.loads(Path(sys.argv[3]).read_bytes())
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
epochs = []
runtime = Runtime(job["folder"], threads=1, every_rank=True)
fit(job["config"], job["train"], job["val"], runtime, lambda epoch: epochs.append(dict(epoch.metrics)))
model, config = checkpoint.load(job["folder"] / "best")
scored = Validator(job["val"], config, World.current()).metrics(model.eval())
Path(f"{sys.argv[3]}.{rank}").write_text(json.dumps({"epochs": epochs, "scored": scored}))
dist.destroy_process_group()
"""


def two_ranks(tmp_path: Path, **job) -> list[dict]:
    """What two real gloo processes make of one job."""
    import pickle

    file = tmp_path / "job"
    file.write_bytes(pickle.dumps(job))
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path / "store"), str(file)]) for rank in (0, 1)
    ]
    assert [rank.wait(240) for rank in ranks] == [0, 0]
    return [json.loads(Path(f"{file}.{rank}").read_text()) for rank in (0, 1)]


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
