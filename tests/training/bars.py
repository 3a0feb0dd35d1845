"""Pages of dark bars, trainings of seconds on them, and two real gloo processes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from detector.config import Augment, Config, Optimizer, Schedule
from detector.fit import fit
from detector.training.runtime import Epoch, Runtime
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


def make_bars(folder: Path) -> tuple[Page, ...]:
    """Seven pages with two dark bars each: enough to learn from, odd enough to split badly."""
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
runtime = Runtime(job["folder"], job.get("device", "cpu"), threads=1, every_rank=True)
fit(job["config"], job["train"], job["val"], runtime, lambda epoch: epochs.append(dict(epoch.metrics)))
model, config = checkpoint.load(job["folder"] / "best")
scored = Validator(job["val"], config, World.current()).metrics(model.eval())
Path(f"{sys.argv[3]}.{rank}").write_text(json.dumps({"epochs": epochs, "scored": scored}))
dist.destroy_process_group()
"""


def two_ranks(tmp_path: Path, **job) -> list[dict]:
    """What two real gloo processes make of one job."""
    file = tmp_path / "job"
    file.write_bytes(pickle.dumps(job))
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path / "store"), str(file)]) for rank in (0, 1)
    ]
    assert [rank.wait(240) for rank in ranks] == [0, 0]
    return [json.loads(Path(f"{file}.{rank}").read_text()) for rank in (0, 1)]
