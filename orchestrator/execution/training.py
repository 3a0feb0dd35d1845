"""One trial: the only place where orchestration and training meet.

    one worker      Tune's process of the trial calls `detector.fit.fit`
    more workers    Tune's process runs a Ray Train `TorchTrainer`; each of its workers is a DDP rank and calls `fit`

Whoever trains (rank 0) writes the ledger before it reports to Tune, so Tune never knows more than the ledger does.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from detector.config import Config
from detector.errors import TrainingFailed
from detector.types import Page
from orchestrator.execution.cluster import Need
from orchestrator.execution.retries import note_half, settle
from orchestrator.execution.words import EPOCH, VALUE
from orchestrator.ledger import Ledger
from orchestrator.plan.datasets import Datasets
from orchestrator.plan.study import Trial
from orchestrator.records import EpochRow
from orchestrator.storage.places import Sent, send

if TYPE_CHECKING:
    from detector.training.runtime import Epoch, FitResult, Runtime


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
        retries: how often a trial is started again after a failure that may not come again.
        run: names the search; retries are counted in it.
    """

    trials: Mapping[str, Trial]
    needs: Mapping[str, Need]
    judged: frozenset[str]
    datasets: Sent[Datasets]
    ledger: Ledger
    train: Train | None = None
    retries: int = 2
    run: str = ""

    def of(self, made: Made) -> Job:
        """The job of a trial that was made after this one was sent."""
        digest = made.trial.digest
        judged = frozenset({digest} if made.judged else ())
        return replace(self, trials={digest: made.trial}, needs={digest: made.need}, judged=judged)


@dataclass(frozen=True, slots=True, repr=False)
class Made:
    """A trial that was proposed while a search runs, as it comes with Tune's config."""

    trial: Trial
    need: Need
    judged: bool

    def __repr__(self) -> str:
        return self.trial.name  # Tune makes a tag of it


def run_trial(config: Mapping[str, Any], job: Job) -> None:
    """Tune's function trainable: train the trial `config["digest"]` from where its folder stands.

    Raises:
        Exception: what training raised, after the ledger has it as `failed`, or as `queued` where the trial may be
            started again. (A process that is lost leaves it at `running`.)
    """
    digest = config["digest"]
    if "made" in config:
        job = job.of(config["made"])
    try:
        if job.needs[digest].workers == 1:
            _train_here(digest, job)
        else:
            from orchestrator.execution.ranks import train_ranks

            train_ranks(digest, job)
    except Exception as error:
        settle(job, digest, error, traceback.format_exc())
        raise


def _train_here(digest: str, job: Job) -> None:
    import ray
    from ray import tune

    def report(epoch: Epoch) -> None:
        row = write_epoch(job, digest, epoch)
        tune.report({EPOCH: row.number, VALUE: row.metrics[VALUE]})  # returns once Tune has decided, or not at all

    device = "cuda" if ray.get_gpu_ids() else "cpu"
    with job.ledger.claim(digest, *job.needs[digest].total):
        job.ledger.set_state(digest, "running")
        result = fit_trial(digest, job, device, report, every_rank=False)
        job.ledger.set_state(digest, "finished", result.stopped)


def send_datasets(datasets: Datasets, ledger: Ledger) -> Sent[Datasets]:
    """The pages of all trials, for their processes: of a workspace on a store with the files that it holds of them."""
    from detector.data.index import PageIndex  # loads OpenCV: only where pages are used

    sets = (datasets.train, datasets.val)
    indexes = [pages.path for pages in sets if isinstance(pages, PageIndex)]
    return send(datasets, ledger, [*indexes, *(pages[0].path.parent for pages in sets if len(pages))])


def scratch(ledger: Ledger) -> Path:
    """Where Ray keeps files of its own while a search runs, on each machine; nothing in it outlives the search."""
    return ledger.workspace / "ray"


def fit_trial(digest: str, job: Job, device: str, report: Callable[[Epoch], None], *, every_rank: bool) -> FitResult:
    """Call what trains on this process, going on from where the trial's folder stands."""
    from detector.training.runtime import Runtime

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
        compile=trial.resources.compile,
    )
    datasets = job.datasets.open()
    return _training(job)(trial.config, datasets.train_pages(trial.fold), datasets.val, runtime, report)


def _training(job: Job) -> Train:
    if job.train is not None:
        return job.train
    from detector.fit import fit  # seconds

    return fit


def write_epoch(job: Job, digest: str, epoch: Epoch) -> EpochRow:
    """Append an epoch to the ledger, and what befell the trial before it.

    Raises:
        TrainingFailed: what the search looks at is not among the metrics; the names that are there are told.
    """
    if VALUE not in epoch.metrics:
        names = ", ".join(sorted(epoch.metrics)) or "nothing"
        raise TrainingFailed(f"`{VALUE}` must be among the metrics of epoch {epoch.number}, got {names}")
    metrics = {name: float(value) for name, value in epoch.metrics.items()}
    row = EpochRow(epoch.number, metrics, float(epoch.seconds), time.time_ns() // 1_000_000, epoch.best)
    note_half(job, digest)
    job.ledger.append_epoch(digest, row)
    return row
