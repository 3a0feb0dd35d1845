"""Studies of cheap trials, as a plan would make them, and what a search tells of them."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from detector.config import Config, Optimizer
from orchestrator.ledger import Ledger
from orchestrator.plan.datasets import DataFacts, Datasets
from orchestrator.plan.loading import load
from orchestrator.plan.making import Maker
from orchestrator.plan.study import Asha, Experiment, Phase, Study, Trial
from orchestrator.records import EpochRow, TrialRecord

RESOLVED: Mapping[str, Any] = {"roadmap": "r", "data": {"synthetic": {"train": 1, "val": 1}}}


class Seen:
    """Events, kept as tuples."""

    def __init__(self, on_epoch: Callable[[], None] = lambda: None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._on_epoch = on_epoch

    def trial_started(self, trial: Trial) -> None:
        self.calls.append(("started", trial.name))

    def epoch(self, trial: Trial, row: EpochRow) -> None:
        self.calls.append(("epoch", trial.name, row.number))
        self._on_epoch()

    def trial_ended(self, trial: Trial, record: TrialRecord) -> None:
        self.calls.append(("ended", trial.name, record.state))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [(call[0], *call[2:]) for call in self.calls if call[1] == name]


def make_trial(seed: int, level: float = 0.5, *, epochs: int = 3, workers: int = 1, experiment: str = "e") -> Trial:
    config = Config(seed=seed, max_epochs=epochs, optimizer=Optimizer(lr=level))
    return Trial(f"{seed:016x}", f"p/{experiment}-{seed:02d}", "p", experiment, config, workers=workers)


def make_experiment(*trials: Trial, asha: Asha | None = None, id: str = "e") -> Experiment:
    return Experiment(id, "p", "what", 1, trials=trials, asha=asha)


FACTS = DataFacts(1, 1, 0, 1, 1, "none")


def make_sweep(
    space: Mapping[str, Any],
    trials: int,
    starts: int,
    *,
    seed: int = 0,
    epochs: int = 3,
    asha: Asha | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Experiment:
    """The sweep `p/e` of a plan, by TPE, as it is before anything has run."""
    stop = "none" if asha is None else {"asha": {"grace": asha.grace, "eta": asha.eta}}
    search = {"tpe": {"starts": starts}}
    sweep = {"space": space, "trials": trials, "seed": seed, "search": search, "stop": stop}
    return _sweep(json.dumps({"id": "e", "sweep": sweep, "set": changes or {}}), epochs)


@functools.cache
def _sweep(experiment: str, epochs: int) -> Experiment:
    phase = {"id": "p", "experiments": [json.loads(experiment)]}
    plan = RESOLVED | {"defaults": {"max_epochs": epochs}, "phases": [phase]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.yaml"
        path.write_text(json.dumps(plan))
        loaded = load(path)
    maker = Maker(loaded, FACTS)
    (made,) = maker.phase(loaded.phases[0]).experiments
    assert maker.faults == []
    return made


def make_swept_study(ledger: Ledger, *experiments: Experiment, concurrent: int | None = None) -> Study:
    phase = Phase("p", "", (), experiments, {})
    return replace(make_study(ledger, concurrent), phases=(phase,), data=FACTS, resolved=RESOLVED)


def make_study(ledger: Ledger, concurrent: int | None = None, datasets: Datasets | None = None) -> Study:
    nothing: Mapping[str, Any] = {}
    return Study(
        roadmap="r",
        plan_path=Path("plan.yaml"),
        workspace=ledger.workspace,
        phases=(),
        baseline={},
        datasets=datasets or Datasets((), (), (), "none"),
        concurrent=concurrent,
        source="",
        resolved=nothing,
    )
