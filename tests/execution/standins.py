"""Trainings with the signature of `detector.fit.fit` that cost nothing; sent to Ray's workers by value.

A trial's curve is `optimizer.lr` (its level) plus .001 an epoch. What else happens is told by files in a folder of the
test's: `kill-SEED-EPOCH` (the process dies, once), `raise-SEED-EPOCH`, `blind-SEED` (it reports other metrics),
`stale-SEED-EPOCH` (the disk fails, once for each byte in the file), `half-SEED-EPOCH` (too little memory, once).
"""

from __future__ import annotations

import errno
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
        _short_of_memory(signs, config, number, runtime.folder)
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
    stale = signs / f"stale-{seed}-{epoch}"
    if stale.exists() and (left := stale.read_bytes()):
        stale.write_bytes(left[1:])
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "last.json")
    kill = signs / f"kill-{seed}-{epoch}"
    try:
        kill.unlink()  # of two ranks only one gets it
    except FileNotFoundError:
        pass
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def _short_of_memory(signs: Path, config: Config, epoch: int, folder: Path) -> None:
    """What `fit` does on a rank that cannot hold a whole batch."""
    from detector.errors import StartAgain
    from detector.training.micro import Micro, OutOfMemory, halve

    try:
        (signs / f"half-{config.seed}-{epoch}").unlink()
    except FileNotFoundError:
        return
    whole = Micro(config.batch_size, config.batch_size)
    raise StartAgain(str(halve(folder, whole, OutOfMemory(epoch, "CUDA out of memory. Tried to allocate 2 GiB"))))
