"""Trainings with the signature of `detector.fit.fit` that cost nothing; sent to Ray's workers by value.

A trial's curve is `optimizer.lr` (its level) plus .001 an epoch; it ends by its budget or its patience. What else
happens is told by files in a folder of the test's: `falls-SEED` (.001 less an epoch), `kill-SEED-EPOCH` (the process
dies, once), `raise-SEED-EPOCH`, `blind-SEED` (it reports other metrics), `stale-SEED-EPOCH` (the disk fails, once for
each byte in the file), `half-SEED-EPOCH` (too little memory, once).
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
    from detector.training.stopping import improves, over

    falls = (signs / f"falls-{config.seed}").exists()
    last = runtime.folder / "last.json"
    state = {"epoch": 0, "best": None, "best_epoch": 0} | (read_json(last) if last.exists() else {})
    with (signs / "starts").open("a") as stream:
        stream.write(f"{config.seed} {state['epoch']} {time.time()}\n")
    while (reason := over(state["epoch"], state["best_epoch"], config)) is None:
        number = state["epoch"] + 1
        time.sleep(epoch_s)
        _trouble(signs, config.seed, number)
        _short_of_memory(signs, config, number, runtime.folder)
        value = value_at(config, -number if falls else number)
        metrics = {"hmean": value, "precision": 0.5}
        if (signs / f"blind-{config.seed}").exists():
            metrics = {"val_h_mean": 0.9, "loss": 1.0}
        is_best = improves(value, state["best"], config)
        report(Epoch(number, metrics, best=is_best, seconds=epoch_s))
        state |= {"epoch": number} | ({"best": value, "best_epoch": number} if is_best else {})
        write_json(last, state)
    with (signs / "ends").open("a") as stream:
        stream.write(f"{config.seed} {time.time()}\n")
    return FitResult(state["epoch"], state["best_epoch"], {}, reason, runtime.folder / "best")


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
