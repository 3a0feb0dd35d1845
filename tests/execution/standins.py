"""Trainings with the signature of `detector.fit.fit` that cost nothing; sent to Ray's workers by value.

A trial's curve is `optimizer.lr` (its level) plus .001 an epoch. What else happens is told by files in a folder of the
test's: `kill-SEED-EPOCH` (the process dies, once), `raise-SEED-EPOCH`, `blind-SEED` (it reports other metrics).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detector.config import Config
from detector.errors import TrainingFailed
from detector.files import read_json, write_json
from detector.types import Page

if TYPE_CHECKING:
    from detector.training.runtime import Epoch, FitResult, Runtime


def value_at(config: Config, epoch: int) -> float:
    return round(config.optimizer.lr + 0.001 * epoch, 6)


def curve(
    config: Config,
    train_pages: Sequence[Page],
    val_pages: Sequence[Page],
    runtime: Runtime,
    report: Callable[[Epoch], None],
    *,
    signs: Path,
    epoch_s: float = 0.0,
) -> FitResult:
    """Report `value_at` each epoch; resumes from last.json; seeds name what goes wrong at which epoch."""
    from detector.training.runtime import Epoch, FitResult

    last = runtime.folder / "last.json"
    done = read_json(last)["epoch"] if last.exists() else 0
    with (signs / "starts").open("a") as stream:
        stream.write(f"{config.seed} {done} {time.time()}\n")
    for number in range(done + 1, config.max_epochs + 1):
        time.sleep(epoch_s)
        _trouble(signs, config.seed, number)
        metrics = {"hmean": value_at(config, number), "precision": 0.5}
        if (signs / f"blind-{config.seed}").exists():
            metrics = {"val_h_mean": 0.9, "loss": 1.0}
        report(Epoch(number, metrics, best=True, seconds=epoch_s))
        write_json(last, {"epoch": number})
    with (signs / "ends").open("a") as stream:
        stream.write(f"{config.seed} {time.time()}\n")
    return FitResult(config.max_epochs, config.max_epochs, {}, "budget", runtime.folder / "best")


def _trouble(signs: Path, seed: int, epoch: int) -> None:
    if (signs / f"raise-{seed}-{epoch}").exists():
        raise TrainingFailed(f"loss is nan at epoch {epoch}; lower optimizer.lr")
    kill = signs / f"kill-{seed}-{epoch}"
    try:
        kill.unlink()  # of two ranks only one gets it
    except FileNotFoundError:
        pass
    else:
        os.kill(os.getpid(), signal.SIGKILL)
