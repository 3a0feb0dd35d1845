"""One trial: the only place where orchestration and training meet.

    one worker      Tune's process of the trial calls `detector.fit.fit`
    more workers    Tune's process runs a Ray Train `TorchTrainer`; each of its workers is a DDP rank and calls `fit`

Whoever trains (rank 0) writes the ledger before it reports to Tune, so Tune never knows more than the ledger does.
"""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from detector.config import Config
from detector.errors import InputError, TrainingFailed
from detector.files import write_text
from detector.types import Page
from orchestrator.execution.asha import EPOCH, VALUE
from orchestrator.execution.cluster import Need
from orchestrator.ledger import EpochRow, Ledger
from orchestrator.plan.study import Datasets, Trial

if TYPE_CHECKING:
    from detector.fit import Epoch, FitResult, Runtime

DECISION_POLL_S = 0.05
LOST_PEER = ("closed by peer", "reset by peer", "ActorDiedError", "NCCL communicator was aborted")


class Train(Protocol):
    """What trains: `detector.fit.fit`, or something cheap with its signature."""

    def __call__(
        self,
        config: Config,
        train_pages: Sequence[Page],
        val_pages: Sequence[Page],
        runtime: Runtime,
        report: Callable[[Epoch], None],
    ) -> FitResult: ...


@dataclass(frozen=True, slots=True)
class Job:
    """What the processes of all trials share; sent to Ray's object store once.

    Attributes:
        trials, needs: by digest.
        judged: digests that ASHA may stop, so that their epochs wait for its word.
        train: None is `detector.fit.fit`, which is imported where it runs: the driver needs no torch.
    """

    trials: Mapping[str, Trial]
    needs: Mapping[str, Need]
    judged: frozenset[str]
    datasets: Datasets
    ledger: Ledger
    train: Train | None = None


def run_trial(config: Mapping[str, Any], job: Job) -> None:
    """Tune's function trainable: train the trial `config["digest"]` from where its folder stands.

    Raises:
        Exception: what training raised, after the ledger has it as `failed`; or, with the ledger's state left at
            `running`, a lost process: the trial may be started again.
    """
    digest = config["digest"]
    if job.needs[digest].workers == 1:
        _train_here(digest, job)
    else:
        _train_ranks(digest, job)


def _train_here(digest: str, job: Job) -> None:
    import ray
    from ray import tune

    def report(epoch: Epoch) -> None:
        row = _write(job.ledger, digest, epoch)
        tune.report({EPOCH: row.number, VALUE: row.metrics[VALUE]})  # returns once Tune has decided, or not at all

    device = "cuda" if ray.get_gpu_ids() else "cpu"
    with job.ledger.claim(digest):
        job.ledger.set_state(digest, "running")
        try:
            result = _fit(digest, job, device, report, every_rank=False)
        except Exception as error:
            _fail(job.ledger, digest, error, traceback.format_exc())
            raise
        job.ledger.set_state(digest, "finished", result.stopped)


def _train_ranks(digest: str, job: Job) -> None:
    import ray
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    need = job.needs[digest]
    job.ledger.set_state(digest, "running")
    trainer = TorchTrainer(
        functools.partial(_rank, digest, ray.put(job)),
        scaling_config=ScalingConfig(
            num_workers=need.workers, use_gpu=need.gpus > 0, resources_per_worker=need.bundle()
        ),
        run_config=RunConfig(
            name=digest, storage_path=str(scratch(job.ledger) / "train"), callbacks=[TuneReportCallback()]
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        failures: Mapping[int, Exception] = getattr(error, "worker_failures", {})
        if failures and not any(_is_loss(failure) for failure in failures.values()):
            rank, first = min(failures.items())
            cause = getattr(first, "_base_exc", first)  # Train wraps it to carry its traceback
            _fail(job.ledger, digest, cause, f"rank {rank}:\n{first}")
        raise


def _rank(digest: str, job_reference: Any) -> None:
    """One DDP rank; Ray Train has initialised torch.distributed (nccl with GPUs, else gloo)."""
    import contextlib

    import ray
    from ray import train
    from ray.train.torch import get_device

    job: Job = ray.get(job_reference)
    is_first = train.get_context().get_world_rank() == 0
    decided = _decided_path(job.ledger, digest)

    def report(epoch: Epoch) -> None:
        if is_first:
            row = _write(job.ledger, digest, epoch)
        train.report({EPOCH: epoch.number, VALUE: epoch.metrics.get(VALUE)})
        if is_first and digest in job.judged:
            # Train goes on after a report, where Tune's own trials wait; so rank 0 waits here, the others for rank 0.
            while not decided.exists() or int(decided.read_text() or 0) < row.number:
                time.sleep(DECISION_POLL_S)

    with job.ledger.claim(digest) if is_first else contextlib.nullcontext():
        if is_first:
            decided.unlink(missing_ok=True)
        result = _fit(digest, job, str(get_device()), report, every_rank=True)
        if is_first:
            job.ledger.set_state(digest, "finished", result.stopped)


def go_on(ledger: Ledger, digest: str, epoch: int) -> None:
    """The driver's word to rank 0 that ASHA lets the trial pass this epoch."""
    write_text(_decided_path(ledger, digest), str(epoch))


def scratch(ledger: Ledger) -> Path:
    """Where Ray keeps files of its own while a search runs; nothing in it outlives the search."""
    return ledger.workspace / "ray"


def _decided_path(ledger: Ledger, digest: str) -> Path:
    return ledger.folder(digest) / "decided"


def _fit(digest: str, job: Job, device: str, report: Callable[[Epoch], None], *, every_rank: bool) -> FitResult:
    from detector.fit import Runtime, fit

    trial, need = job.trials[digest], job.needs[digest]
    cpus = max(1, int(need.cpus))
    folder = job.ledger.folder(digest)
    folder.mkdir(parents=True, exist_ok=True)
    runtime = Runtime(
        folder=folder,
        device=device,
        # A GPU is fed by processes; on a CPU they would only take the cores that the network computes on.
        loader_workers=max(0, cpus - 1) if device != "cpu" else 0,
        threads=cpus,
        resume=True,
        every_rank=every_rank,
    )
    train: Train = job.train or fit
    return train(trial.config, job.datasets.train_pages(trial.fold), job.datasets.val, runtime, report)


def _write(ledger: Ledger, digest: str, epoch: Epoch) -> EpochRow:
    if VALUE not in epoch.metrics:
        names = ", ".join(sorted(epoch.metrics)) or "nothing"
        raise TrainingFailed(f"`{VALUE}` must be among the metrics of epoch {epoch.number}, got {names}")
    metrics = {name: float(value) for name, value in epoch.metrics.items()}
    row = EpochRow(epoch.number, metrics, float(epoch.seconds), time.time_ns() // 1_000_000, epoch.best)
    ledger.append_epoch(digest, row)
    return row


def _fail(ledger: Ledger, digest: str, error: BaseException, trace: str) -> None:
    path = ledger.folder(digest) / "traceback.txt"
    write_text(path, trace)
    message = (str(error).strip().splitlines() or [""])[0]
    known = isinstance(error, (InputError, TrainingFailed))
    reason = message if known else f"{type(error).__name__}: {message}"
    ledger.set_state(digest, "failed", f"{reason} (see {path})")


def _is_loss(error: BaseException) -> bool:
    """Whether a rank ended because a process died, its own or a peer's, and not by a fault of the training."""
    import ray

    return isinstance(error, ray.exceptions.RayError) or any(sign in str(error) for sign in LOST_PEER)
