"""Train one detector: `fit(config, train pages, val pages, runtime, report) -> FitResult`.

The loop reads from top to bottom: batches of an epoch, validation, early stopping, best checkpoint, resumable state.
Under `torch.distributed` every rank calls `fit` with equal arguments; DistributedDataParallel averages the gradients.

On a CPU, equal arguments give equal bits: all randomness is drawn from (seed, epoch, image), so a training that was
interrupted and goes on from its last epoch ends as one that was left alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Sampler

from detector import checkpoint
from detector.config import Config
from detector.data.dataset import TrainSet, start_worker
from detector.errors import DataError, TrainingFailed
from detector.model.detector import Detector, build
from detector.model.pointwise import prefer_onednn
from detector.training.average import Average
from detector.training.compiling import compile_forward
from detector.training.gradients import PARTS, Batch, Gradients
from detector.training.memory import keep_heap
from detector.training.optimizer import adamw
from detector.training.runtime import Epoch, FitResult, Runtime
from detector.training.schedule import epoch_batches, learning_rate, steps_per_epoch
from detector.training.state import Progress, load_state, save_state
from detector.training.validation import Validator
from detector.training.world import World
from detector.types import Page

REPORTED = ("train_loss", "loss_prob", "loss_thresh", "loss_binary")  # the names of PARTS in a report


def fit(
    config: Config,
    train_pages: Sequence[Page],
    val_pages: Sequence[Page],
    runtime: Runtime,
    report: Callable[[Epoch], None] = lambda _: None,
) -> FitResult:
    """Train until the budget or the patience ends, keeping the best checkpoint by validation `hmean`.

    Raises:
        DataError: no pages to train on or to validate on.
        CheckpointError: `runtime.folder` holds another training.
        TrainingFailed: the loss is not finite any more.
    """
    if not train_pages or not val_pages:
        raise DataError(f"{len(train_pages)} training and {len(val_pages)} validation pages; both need one at least")
    world = World.current()
    training = _Training(config, train_pages, runtime, world)
    validator = Validator(val_pages, config, world)
    progress = training.restore()
    while (reason := _finished(progress, config)) is None:
        started, number = time.perf_counter(), progress.epoch + 1
        losses = training.epoch(number)
        scores = validator.metrics(training.evaluated())
        is_best = number == 1 or scores["hmean"] > progress.best["hmean"] + config.min_delta
        if is_best:
            progress.best_epoch, progress.best = number, scores
            training.save_best(number, scores)
        seconds = time.perf_counter() - started
        extra = {"best_hmean": progress.best["hmean"], "lr": training.lr, "epoch_seconds": seconds}
        if world.is_first or runtime.every_rank:
            # Reported before the state is saved: an epoch may be reported twice after a kill, never lost.
            report(Epoch(number, {**scores, **losses, **extra}, is_best, seconds))
        progress.epoch = number
        training.save_last(progress)
    return FitResult(progress.epoch, progress.best_epoch, progress.best, reason, runtime.folder / "best")


def _finished(progress: Progress, config: Config) -> Literal["budget", "patience"] | None:
    if progress.epoch >= config.max_epochs:
        return "budget"
    if config.patience and progress.epoch - progress.best_epoch >= config.patience:
        return "patience"
    return None


class _Training:
    """Model, optimizer and loader of one rank."""

    def __init__(self, config: Config, pages: Sequence[Page], runtime: Runtime, world: World) -> None:
        if runtime.threads:
            torch.set_num_threads(runtime.threads)
        if runtime.device == "cpu":
            keep_heap()
        torch.manual_seed(config.seed)
        self._config, self._runtime, self._world = config, runtime, world
        self._device = torch.device(runtime.device)
        self._last = runtime.folder / "last.safetensors"
        resumes = runtime.resume and self._last.is_file()
        self._detector: Detector = build(config, weights=not resumes).to(self._device)
        prefer_onednn(self._detector, self._device)
        self._optimizer = adamw(self._detector, config.optimizer)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=config.precision == "fp16")
        self._average = Average(self._detector, config.ema) if config.ema else None
        if runtime.compile:
            compile_forward(self._detector)
        self._model: nn.Module = self._detector
        if world.size > 1:
            ids = [self._device.index or 0] if self._device.type == "cuda" else None
            self._model = DistributedDataParallel(self._detector, device_ids=ids)
        self._gradients = Gradients(self._model, config, self._device, self._scaler)
        _, self._steps = steps_per_epoch(len(pages), config.batch_size, world.size, config.accumulate)
        self.lr = 0.0
        self._batches = _Batches(len(pages), config, world)
        self._loader = DataLoader(
            TrainSet(pages, config),
            batch_sampler=self._batches,
            num_workers=runtime.loader_workers,
            persistent_workers=runtime.loader_workers > 0,
            # A forked process inherits locked thread pools (OpenCV's, OpenMP's) and hangs at their first use.
            multiprocessing_context="spawn" if runtime.loader_workers else None,
            worker_init_fn=start_worker,
            pin_memory=self._device.type == "cuda",
        )

    def restore(self) -> Progress:
        """Go on from the last epoch where there is one; otherwise the beginning."""
        if not (self._runtime.resume and self._last.is_file()):
            return Progress()
        averaged = self._average.model if self._average else None
        progress = load_state(self._last, self._config, self._detector, self._optimizer, averaged)
        if progress.scaler:
            self._scaler.load_state_dict(progress.scaler)
        return progress

    def evaluated(self) -> Detector:
        """The model as validation sees it: averaged if it is to be, the first rank's batch statistics."""
        self._world.align_buffers(self._detector)
        if self._average:
            self._world.align_buffers(self._average.model)
        return self._kept.eval()

    @property
    def _kept(self) -> Detector:
        """The model that is validated and whose best epoch is kept."""
        return self._average.model if self._average else self._detector

    def save_best(self, number: int, scores: Mapping[str, float]) -> None:
        if self._world.is_first:
            facts = {"epoch": number, "metrics": dict(scores)}
            checkpoint.save(self._runtime.folder / "best", self._kept, self._config, facts)

    def save_last(self, progress: Progress) -> None:
        if self._world.is_first:
            progress.scaler = dict(self._scaler.state_dict())
            averaged = self._average.model if self._average else None
            save_state(self._last, self._config, self._detector, self._optimizer, progress, averaged)
        self._world.wait()

    def epoch(self, number: int) -> dict[str, float]:
        """One pass over the training pages; the mean of each loss over all steps and ranks."""
        self._model.train()
        # Dropout and the like draw from torch's generator: seeded by epoch and rank, as all else is.
        torch.manual_seed(_mix(self._config.seed, number, self._world.rank))
        sums = torch.zeros(len(PARTS), device=self._device)
        count = 0
        for step, group in enumerate(self._groups(number), start=self._steps * (number - 1)):
            self._set_lr(step)
            losses = self._gradients.add(group)
            self._check(losses[0].item(), number)
            sums += losses * len(group)
            count += len(group)
            self._move()
            if self._average:
                self._average.update(step)
        means = self._world.mean(sums / count).tolist()
        return dict(zip(REPORTED, means, strict=True))

    def _check(self, loss: float, number: int) -> None:
        if self._world.any(not math.isfinite(loss), self._device):
            raise TrainingFailed(
                f"the loss is {loss} in epoch {number} at lr {self.lr:.2g}; "
                "lower optimizer.lr, lengthen schedule.warmup_epochs, or use bf16 or fp32 instead of fp16"
            )

    def _move(self) -> None:
        """The optimizer's step."""
        self._scaler.unscale_(self._optimizer)
        if self._config.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self._detector.parameters(), self._config.optimizer.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)

    def _groups(self, number: int) -> Iterator[list[Batch]]:
        """This rank's micro-batches of an epoch, grouped into optimizer steps."""
        self._batches.epoch = number
        group: list[Batch] = []
        for done, batch in enumerate(self._loader, start=1):
            group.append(batch)
            if len(group) == self._config.accumulate or done == len(self._batches):
                yield group
                group = []

    def _set_lr(self, step: int) -> None:
        config = self._config
        total = config.max_epochs * self._steps
        self.lr = learning_rate(step, total, self._steps, config.optimizer.lr, config.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr


class _Batches(Sampler[list[tuple[int, int]]]):
    """This rank's micro-batches of `epoch`, as (epoch, index) pairs: the loader's processes live through all epochs."""

    def __init__(self, count: int, config: Config, world: World) -> None:
        self._count, self._config, self._world = count, config, world
        self.epoch = 1

    def __len__(self) -> int:
        return steps_per_epoch(self._count, self._config.batch_size, self._world.size, 1)[0]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batch_size, seed = self._config.batch_size, self._config.seed
        for batch in epoch_batches(self._count, batch_size, self._world.rank, self._world.size, seed, self.epoch):
            yield [(self.epoch, index) for index in batch]


def _mix(*parts: int) -> int:
    """One generator seed from several small numbers, far apart for neighbours."""
    return int(np.random.SeedSequence(parts).generate_state(1, dtype=np.uint64)[0] >> 1)
