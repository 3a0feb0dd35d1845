"""Train one detector: `fit(config, train pages, val pages, runtime, report) -> FitResult`.

The loop reads from top to bottom: batches of an epoch, validation, early stopping, best checkpoint, resumable state.
Under `torch.distributed` every rank calls `fit` with equal arguments; DistributedDataParallel averages the gradients.

On a CPU, equal arguments give equal bits: all randomness is drawn from (seed, epoch, image), so a training that was
interrupted and goes on from its last epoch ends as one that was left alone.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from detector.config import Config
from detector.data.dataset import TrainSet, start_worker
from detector.errors import DataError, StartAgain, TrainingFailed
from detector.model.detector import Detector, build
from detector.model.pointwise import prefer_onednn
from detector.training.average import Average
from detector.training.batches import Batches
from detector.training.compiling import compile_forward
from detector.training.gradients import PARTS, Batch, Gradients
from detector.training.kept import forget_kept
from detector.training.memory import keep_heap, trim_heap
from detector.training.micro import Micro, OutOfMemory, forget_micro, halve, noticing, read_micro
from detector.training.nonfinite import Step, keep
from detector.training.optimizer import adamw
from detector.training.runtime import Epoch, FitResult, Runtime
from detector.training.saving import Checkpoints
from detector.training.schedule import learning_rate, steps_per_epoch
from detector.training.soup import cook, forget_soup
from detector.training.state import Progress, load_state, save_state
from detector.training.stopping import improves, over
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

    Where a step does not fit the memory, the training goes on from its last epoch with half a batch at a time, once.

    Raises:
        DataError: no pages to train on or to validate on, or ranks that were given different ones.
        CheckpointError: `runtime.folder` holds another training.
        TrainingFailed: the loss is not finite any more (its batch is kept), or half a batch does not fit either.
        StartAgain: one of several ranks is to go on with half a batch, and the others wait for it inside a collective
            call: end all of them, and call `fit` again on all with `resume`.
    """
    world = World.current()
    _same_pages(train_pages, val_pages, world)
    if not runtime.resume:
        _begin_anew(runtime, world)
    micro = read_micro(runtime.folder, config.batch_size)
    while True:
        try:
            result = _fit(config, train_pages, val_pages, runtime, report, world, micro)
        except OutOfMemory as trouble:
            micro = halve(runtime.folder, micro, trouble)  # a second time it raises
            if world.size > 1:
                raise StartAgain(str(micro)) from trouble
        else:
            trim_heap()
            return result
        # Behind the handler: the exception held what was computed so far, and with it the memory.
        gc.collect()
        if torch.device(runtime.device).type == "cuda":
            torch.cuda.empty_cache()
        runtime = replace(runtime, resume=True)


def _same_pages(train_pages: Sequence[Page], val_pages: Sequence[Page], world: World) -> None:
    counts = world.gather([(len(train_pages), len(val_pages))])
    if len(set(counts)) > 1:
        raise DataError(f"all ranks must see the same pages, got {counts} training and validation pages on them")
    if not train_pages or not val_pages:
        raise DataError(f"{len(train_pages)} training and {len(val_pages)} validation pages; both need one at least")


def _begin_anew(runtime: Runtime, world: World) -> None:
    """Whoever goes on with this training after a loss must not find what an earlier one left."""
    if world.is_first:
        _last(runtime).unlink(missing_ok=True)
        forget_micro(runtime.folder)
        forget_soup(runtime.folder)
        forget_kept(runtime.folder)
    world.wait()


def _last(runtime: Runtime) -> Path:
    return runtime.folder / "last.safetensors"


def _fit(
    config: Config,
    train_pages: Sequence[Page],
    val_pages: Sequence[Page],
    runtime: Runtime,
    report: Callable[[Epoch], None],
    world: World,
    micro: Micro,
) -> FitResult:
    """`fit`, with `micro.images` of a batch at a time."""
    training = _Training(config, train_pages, runtime, world, micro)
    validator = Validator(val_pages, config, world)
    checkpoints = Checkpoints(runtime.folder, config, train_pages, micro, world)
    progress = training.restore()
    while (reason := over(progress.epoch, progress.best_epoch, config)) is None:
        started, number = time.perf_counter(), progress.epoch + 1
        losses = training.epoch(number)
        model = training.evaluated()
        scores = validator.metrics(model)
        is_best = improves(scores["hmean"], progress.best.get("hmean"), config)
        if is_best:
            progress.best_epoch, progress.best = number, scores
            checkpoints.save("best", model, number, scores)
        progress.kept = checkpoints.keep(progress.kept, model, number, scores)
        seconds = time.perf_counter() - started
        extra = {"best_hmean": progress.best["hmean"], "lr": training.lr, "epoch_seconds": seconds}
        if micro.halved:
            extra["micro_batch"] = micro.images
        if world.is_first or runtime.every_rank:
            # Reported before the state is saved: an epoch may be reported twice after a kill, never lost.
            report(Epoch(number, {**scores, **losses, **extra}, is_best, seconds))
        progress.epoch = number
        training.save_last(progress)
    if config.keep_epochs:
        device = torch.device(runtime.device)
        cook(runtime.folder, progress.kept, config, device, train_pages, validator, world, checkpoints.facts)
    return FitResult(progress.epoch, progress.best_epoch, progress.best, reason, runtime.folder / "best")


class _Training:
    """Model, optimizer and loader of one rank."""

    def __init__(self, config: Config, pages: Sequence[Page], runtime: Runtime, world: World, micro: Micro) -> None:
        if runtime.threads:
            torch.set_num_threads(runtime.threads)
        if runtime.device == "cpu":
            keep_heap()
        torch.manual_seed(config.seed)
        self._config, self._runtime, self._world, self._micro, self._pages = config, runtime, world, micro, pages
        self._device = torch.device(runtime.device)
        self._last = _last(runtime)
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
        self._batches = Batches(len(pages), config, world, micro.images)
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
        count, before = 0, self._steps * (number - 1)
        step = before - 1
        for step, (group, indices) in enumerate(self._groups(number), start=before):
            self._set_lr(step)
            with noticing(number):
                losses = self._gradients.add(group)
            self._check(losses, number, step - before + 1, group, indices)
            sums += losses * len(group)
            count += len(group)
            self._move()
            if self._average:
                self._average.update(step)
        self._verify(step - before + 1, number)
        means = self._world.mean(sums / count).tolist()
        return dict(zip(REPORTED, means, strict=True))

    def _check(
        self, losses: torch.Tensor, number: int, step: int, group: Sequence[Batch], indices: Sequence[int]
    ) -> None:
        if not self._world.any(not math.isfinite(losses[0].item()), self._device):
            return
        values = {name: str(value) for name, value in zip(PARTS, losses.tolist(), strict=True)}
        names, sizes = tuple(self._pages[index].name for index in indices), tuple(len(b["image_3HW"]) for b in group)
        where = Step(number, step, self._world.rank, self.lr, values, names, sizes)
        raise TrainingFailed(keep(self._runtime.folder, self._world, self._detector, self._config, where, group))

    def _verify(self, steps: int, number: int) -> None:
        """The schedule was laid out for so many steps; another number would be another training."""
        if steps != self._steps:
            config, workers = self._config, self._world.size
            raise TrainingFailed(
                f"epoch {number}: ceil({len(self._pages)} pages / ({config.batch_size} x {workers} workers x "
                f"{config.accumulate})) = {self._steps} steps must hold, got {steps}; the pages have changed meanwhile"
            )

    def _move(self) -> None:
        """The optimizer's step."""
        self._scaler.unscale_(self._optimizer)
        if self._config.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self._detector.parameters(), self._config.optimizer.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)

    def _groups(self, number: int) -> Iterator[tuple[list[Batch], list[int]]]:
        """This rank's micro-batches of an epoch, grouped into optimizer steps, with the indices of their pages."""
        self._batches.epoch = number
        group, indices = list[Batch](), list[int]()
        for done, (batch, keys) in enumerate(zip(self._loader, self._batches, strict=True), start=1):
            group.append(batch)
            indices += [index for _, index in keys]
            if len(group) == self._config.accumulate * self._micro.parts or done == len(self._batches):
                yield group, indices
                group, indices = [], []

    def _set_lr(self, step: int) -> None:
        config = self._config
        total = config.max_epochs * self._steps
        self.lr = learning_rate(step, total, self._steps, config.optimizer.lr, config.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr


def _mix(*parts: int) -> int:
    """One generator seed from several small numbers, far apart for neighbours."""
    return int(np.random.SeedSequence(parts).generate_state(1, dtype=np.uint64)[0] >> 1)
