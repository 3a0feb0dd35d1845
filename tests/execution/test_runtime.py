"""What a trial's resources become for the training itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from detector.config import Config
from detector.training.runtime import Epoch, FitResult, Runtime
from detector.types import Page
from orchestrator.execution.cluster import Need
from orchestrator.execution.training import Job, fit_trial, send_datasets
from orchestrator.ledger import Ledger
from orchestrator.plan.datasets import Datasets
from orchestrator.plan.study import Resources, Trial


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("device", "loaders"), [("cpu", 0), ("cuda", 3)])
def test_resources_reach_the_training(tmp_path: Path, compiled: bool, device: str, loaders: int):
    seen: list[Runtime] = []

    def train(
        config: Config,
        train_pages: Sequence[Page],
        val_pages: Sequence[Page],
        runtime: Runtime,
        report: Callable[[Epoch], None],
    ) -> FitResult:
        seen.append(runtime)
        return FitResult(1, 1, {}, "budget", runtime.folder / "best")

    resources = Resources(cpus=4, gpus=0, compile=compiled)
    trial = Trial("a" * 16, "one/a", "one", "a", Config(), resources=resources)
    job = Job(
        {trial.digest: trial},
        {trial.digest: Need(1, 4.0, 0.0)},
        frozenset(),
        send_datasets(Datasets((), (), (), "d"), Ledger.open(tmp_path)),
        Ledger.open(tmp_path),
        train,
    )
    fit_trial(trial.digest, job, device, lambda epoch: None, every_rank=False)
    (runtime,) = seen
    assert (runtime.compile, runtime.threads, runtime.loader_workers, runtime.device) == (compiled, 4, loaders, device)
