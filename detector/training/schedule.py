"""Learning rate and data order, as functions of the epoch and step alone: nothing to save, nothing to forget."""

from __future__ import annotations

import math

import numpy as np

from detector.config import Schedule


def learning_rate(step: int, total: int, steps_per_epoch: int, peak: float, schedule: Schedule) -> float:
    """The learning rate of one optimizer step.

    Linear warm-up, then half a cosine down to `final_ratio x peak` (Loshchilov and Hutter 2017, arXiv 1608.03983,
    eq. (5) without restarts) at the last step of the trial's own budget.

    Args:
        step: from 0.
        total: optimizer steps of the whole budget.
        steps_per_epoch: optimizer steps an epoch, which gives `warmup_epochs` its length.
        peak: the optimizer's `lr`.
        schedule: its shape.
    """
    warmup = min(round(schedule.warmup_epochs * steps_per_epoch), total // 2)
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule.name == "constant":
        return peak
    progress = (step - warmup) / max(1, total - 1 - warmup)
    floor = schedule.final_ratio
    return peak * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress))))


def steps_per_epoch(count: int, batch_size: int, workers: int, accumulate: int) -> tuple[int, int]:
    """(micro-batches a rank, optimizer steps) of one epoch: ceil(n / (batch x workers)), and that by `accumulate`."""
    micro = math.ceil(count / (batch_size * workers))
    return micro, math.ceil(micro / accumulate)


def epoch_batches(count: int, batch_size: int, rank: int, workers: int, seed: int, epoch: int) -> list[list[int]]:
    """This rank's micro-batches of image indices in one epoch.

    The epoch's order is a permutation drawn from (seed, epoch); it is filled up to whole batches on every rank from its
    own beginning, so that all ranks take equally many steps. Consecutive global batches are dealt out to the ranks.
    """
    micro, _ = steps_per_epoch(count, batch_size, workers, 1)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    filled = np.resize(order, micro * workers * batch_size)  # numpy repeats the order from its start
    return [[int(i) for i in batch] for batch in filled.reshape(micro, workers, batch_size)[:, rank]]
