"""A trial of several workers: Ray Train places them, each is one DDP rank and calls `fit`.

Loaded in the trials' processes only: it imports torch. Train reports to Tune and trains on, where Tune's own trials
wait for the decision; so the ranks of a trial that ASHA may stop wait for the driver's word, and end by themselves when
it is to stop. (Killed from outside, Train leaves its placement group behind on a cluster without a dashboard.)
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

import ray
import torch
from ray import train
from ray.train import RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.tune.integration.ray_train import TuneReportCallback

from detector.training.runtime import Epoch
from orchestrator.execution.cluster import Need
from orchestrator.execution.failures import of_ranks
from orchestrator.execution.retries import explain
from orchestrator.execution.training import Job, fit_trial, scratch, write_epoch
from orchestrator.execution.words import EPOCH, VALUE, Word, forget, free_group, heard, note_group
from orchestrator.ledger import Ledger

POLL_S: Final = 0.05
STORE_POLL_S: Final = 0.5  # each look is a request


class _Stopped(Exception):
    """The driver's word was to stop."""


def train_ranks(digest: str, job: Job) -> None:
    """Train a trial with Ray Train; runs in Tune's process of the trial.

    Raises:
        Exception: that of the rank which the others' follow from (`failures.of_ranks`).
    """
    need, ledger = job.needs[digest], job.ledger
    free_group(ledger, digest)
    forget(ledger, digest)
    ledger.set_state(digest, "running")
    folder = scratch(ledger) / "train" / digest
    trainer = TorchTrainer(
        functools.partial(_rank, digest, ray.put(job)),
        torch_config=TorchConfig(backend=backend(need)),
        scaling_config=ScalingConfig(
            num_workers=need.workers, use_gpu=need.gpus > 0, resources_per_worker=need.bundle()
        ),
        run_config=RunConfig(
            name=digest,
            # Checkpoints are the ledger's: Ray keeps none, so its own files need not be where other nodes see them.
            storage_path=str(folder),
            callbacks=[TuneReportCallback(), _NoteGroup(ledger, digest)],
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        failures: Mapping[int, Exception] = getattr(error, "worker_failures", {})
        if not failures:
            raise
        rank, cause = of_ranks({rank: getattr(failure, "_base_exc", failure) for rank, failure in failures.items()})
        cause.add_note(f"(rank {rank} of {need.workers})")
        raise cause from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def backend(need: Need) -> str:
    """What the ranks talk through: NCCL refuses two of them on one GPU, gloo goes by way of the host's memory."""
    return "nccl" if need.gpus >= 1 else "gloo"


class _NoteGroup(WorkerGroupCallback):  # type: ignore[misc]  # Ray is untyped
    """Notes the workers' placement group, so that a driver can free it when the trial's process is killed."""

    def __init__(self, ledger: Ledger, digest: str) -> None:
        self._ledger, self._digest = ledger, digest

    def after_worker_group_start(self, worker_group: Any) -> None:
        group = worker_group.get_worker_group_state().placement_group_handle.placement_group
        note_group(self._ledger, self._digest, group)


def _rank(digest: str, job_reference: Any) -> None:
    """One DDP rank; Ray Train has initialised torch.distributed."""
    job: Job = ray.get(job_reference)
    is_first = train.get_context().get_world_rank() == 0
    with job.ledger.claim(digest, *job.needs[digest].total) if is_first else contextlib.nullcontext():
        _meet(digest, job, is_first)
        try:
            result = fit_trial(digest, job, str(get_device()), _reporter(digest, job, is_first), every_rank=True)
        except _Stopped:
            return
        except Exception as error:
            error.add_note(traceback.format_exc())  # Train hands the exception on without its traceback
            explain(job.ledger, digest)  # what this rank has written, the trial's process may not see
            raise
        if is_first:
            job.ledger.set_state(digest, "finished", result.stopped)


def _meet(digest: str, job: Job, is_first: bool) -> None:
    """Let ranks on machines that mirror a store begin from what the first one has, now that nobody else writes it."""
    if job.ledger.url:
        torch.distributed.barrier()
        if not is_first:
            job.ledger.fetch(digest)
        torch.distributed.barrier()


def _reporter(digest: str, job: Job, is_first: bool) -> Callable[[Epoch], None]:
    def report(epoch: Epoch) -> None:
        if is_first:
            write_epoch(job, digest, epoch)
        train.report({EPOCH: epoch.number, VALUE: epoch.metrics.get(VALUE)})
        if digest in job.judged:
            while (word := heard(job.ledger, digest, epoch.number)) is None:
                time.sleep(STORE_POLL_S if job.ledger.url else POLL_S)
            if word is Word.STOP:
                raise _Stopped

    return report
