"""What goes into a training beside its config and pages, and what comes out; plain values that load no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where and how fast a training runs; none of it changes the result on a CPU, `compile` but for rounding.

    Attributes:
        folder: receives `best/` (a checkpoint), `last.safetensors` (to go on from), and what explains a failure.
        device: `cpu`, `cuda` or `cuda:1`.
        loader_workers: processes that prepare images; 0 prepares them in this one.
        threads: of torch's operators; None leaves torch's choice.
        resume: go on from `last.safetensors` if it is there.
        compile: compile the network with torch.compile, which takes a minute and a C++ compiler.
        every_rank: call `report` on all ranks, not on the first alone.
    """

    folder: Path
    device: str = "cpu"
    loader_workers: int = 0
    threads: int | None = None
    resume: bool = True
    compile: bool = False
    every_rank: bool = False


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch's outcome.

    Attributes:
        number: from 1.
        metrics: validation scores (`hmean`, `precision`, `recall`, `micro_*`, `iou_*`, `best_hmean`), mean training
            losses (`train_loss`, `loss_prob`, `loss_thresh`, `loss_binary`), `lr` and `epoch_seconds`; `micro_batch`,
            images at once, where the memory was not enough for the whole batch.
        best: whether this is the best epoch so far.
        seconds: training and validation of this epoch, wall clock.
    """

    number: int
    metrics: Mapping[str, float]
    best: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a training ended: by its budget or by patience, and what its best epoch scored."""

    epochs: int
    best_epoch: int
    best: Mapping[str, float]
    stopped: Literal["budget", "patience"]
    checkpoint: Path
