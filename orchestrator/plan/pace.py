"""How many epochs a trial will train, and how long one takes: from what the ledger has seen, else from its author.

An epoch's time is taken from the trial's own past epochs, else from past epochs of trainings that cost the same (equal
network, sizes, batch and workers; folds are taken as whole). An author's `cost` is for a whole experiment.

ASHA: of the trials that come to a rung one after the other, number m + 1 goes on if it reaches the (1 - 1/eta) quantile
of the m before it. If its rank is open, it does so with probability (m - q) / (m + 1), q = (1 - 1/eta)(m - 1)
(numpy's linear quantile of uniform order statistics). Ranks that persist from rung to rung cost up to a tenth more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from detector.config import Config
from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.study import Asha, Experiment, Resources, Trial
from orchestrator.plan.trials import trial_digest

DONE = ("finished", "pruned")  # as in the ledger: nothing is left to train
COSTLY = (  # settings that decide what an epoch costs
    "encoder",
    "decoder",
    "inner_channels",
    "output_channels",
    "image_size",
    "crop_size",
    "batch_size",
    "precision",
)
Source = Literal["own epochs", "like trainings", "author", "unknown"]


@dataclass(frozen=True, slots=True)
class Past:
    """What a ledger knows of one training.

    Attributes:
        seconds: of all its epochs.
        gpus: a worker, as reserved; None for the plan's `auto`.
        config: as recorded, plain data.
    """

    digest: str
    phase: str
    experiment: str
    state: str
    epochs: int
    seconds: float
    workers: int
    gpus: float | None
    fold: int | None
    config: Mapping[str, Any]


def gpus_of(workers: int, gpus: float | None) -> float:
    """GPUs of a whole trial; `auto` counts as one a worker, and so does none: a training takes a place."""
    return workers * (gpus or 1.0)


# --- epochs ----------------------------------------------------------------------------------------------------------


def rungs(asha: Asha, epochs: int) -> list[int]:
    """The epochs at which trials are compared; the last epoch of all stops nothing."""
    found, at = [], asha.grace
    while at < epochs:
        found.append(at)
        at *= asha.eta
    return found


def survivors(trials: float, eta: int) -> float:
    """How many of `trials` trials that come to a rung go on, on average."""
    whole = int(trials)
    before = np.arange(1, whole + 1, dtype=np.float64)  # trials that came earlier, for all but the first
    chance = np.concatenate([[1.0], (before - (1 - 1 / eta) * (before - 1)) / (before + 1)])
    return float(chance[:whole].sum() + (trials - whole) * chance[whole])


def expected_ends(experiment: Experiment) -> list[float]:
    """The last epoch of each trial of an experiment, on average over which of them ASHA stops: their sum is expected,
    and as many end at each rung as are expected to, in an order that says nothing."""
    budgets = [trial.config.max_epochs for trial in experiment.trials]
    if experiment.asha is None or not budgets:
        return [float(epochs) for epochs in budgets]
    steps, living = _living(experiment.asha, budgets)
    # Trial number i of n, by how long it lasts, stands for the mean over the places i .. i + 1 of n.
    lasting = [_mean_end(place, living, steps) for place in range(len(budgets))]
    order = np.random.default_rng(0).permutation(len(budgets))
    return [min(lasting[order[index]], float(epochs)) for index, epochs in enumerate(budgets)]


def expected_left(experiment: Experiment, trial: Trial, done: int) -> float:
    """Epochs that a trial which ASHA has let through so far will train after its first `done`."""
    epochs = trial.config.max_epochs
    if experiment.asha is None:
        return float(max(0, epochs - done))
    steps, living = _living(experiment.asha, [item.config.max_epochs for item in experiment.trials])
    left, here, last = 0.0, None, done
    for alive, step in zip(living, steps, strict=True):
        until = min(step, epochs)
        if until > last:
            here = here or alive
            left += (until - last) * alive / here
            last = until
    return left


def _living(asha: Asha, budgets: Sequence[int]) -> tuple[list[int], list[float]]:
    """The rungs with the last epoch of all, and how many trials are expected to train up to each."""
    steps = [*rungs(asha, max(budgets)), max(budgets)]
    living = [float(len(budgets))]
    for _ in steps[:-1]:
        living.append(survivors(living[-1], asha.eta))
    return steps, living


def _mean_end(place: int, living: Sequence[float], steps: Sequence[int]) -> float:
    end = last = 0.0
    for alive, step in zip(living, steps, strict=True):
        end += (step - last) * min(1.0, max(0.0, alive - place))
        last = step
    return end


# --- time ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pace:
    """What is left of one trial.

    Attributes:
        epochs: left to train, as expected; `most` without any early stop.
        seconds: that they take; None where nothing is known.
        gpus: that the trial holds meanwhile.
        shares: whether its workers can do with fewer, one after the other (`gpus: auto`, or none).
    """

    epochs: float
    most: int
    seconds: float | None
    gpus: float
    source: Source
    shares: bool = False

    def on(self, gpus: float) -> tuple[float, float]:
        """GPUs that it holds, and seconds that it takes (0 where nothing is known), on a cluster of so many."""
        held = min(self.gpus, gpus) if self.shares else self.gpus
        return held, (self.seconds or 0.0) * self.gpus / held

    @property
    def gpu_hours(self) -> float | None:
        return None if self.seconds is None else self.seconds * self.gpus / 3600


class Paces:
    """The pace of every trial of a study, known from its ledger and its authors."""

    def __init__(self, pasts: Iterable[Past], data: DataFacts | None) -> None:
        self.pasts: dict[str, Past] = {}
        self._data = data
        self._like: dict[tuple[Any, ...], tuple[int, float]] = {}
        for past in pasts:
            self.note(past)

    def note(self, past: Past) -> None:
        """Take in what is known of a training now, in place of what was."""
        key = _key(past, self._data) if past.epochs else None
        if key is not None:
            old = self.pasts.get(past.digest)
            told = (old.epochs, old.seconds) if old is not None else (0, 0.0)
            epochs, seconds = self._like.get(key, (0, 0.0))
            self._like[key] = epochs + past.epochs - told[0], seconds + past.seconds - told[1]
        self.pasts[past.digest] = past

    def kind(self, trial: Trial) -> tuple[Any, ...]:
        """Equal for trainings that cost the same."""
        return _cost_key(trial.config, trial.workers, trial.resources)

    def one(self, experiment: Experiment, trial: Trial) -> Pace:
        """What is left of one trial that ASHA has let through so far, before it is known which of a sweep it stops."""
        whole = replace(experiment, trials=(*experiment.trials, *experiment.unproposed))
        past = self.pasts.get(trial.digest)
        done = 0 if past is None else past.epochs
        over = past is not None and past.state in DONE
        gpus = gpus_of(trial.workers, trial.resources.gpus)
        each, source = self._seconds(trial)
        if each is None and experiment.cost_gpu_h is not None:
            ends = zip(expected_ends(whole), whole.trials, strict=True)
            weight = sum(end * gpus_of(item.workers, item.resources.gpus) for end, item in ends)
            each, source = (experiment.cost_gpu_h * 3600 / weight, "author") if weight else (None, source)
        epochs = 0.0 if over else expected_left(whole, trial, done)
        most = 0 if over else max(0, trial.config.max_epochs - done)
        return Pace(epochs, most, None if each is None else epochs * each, gpus, source, not trial.resources.gpus)

    def of(self, experiment: Experiment) -> list[Pace]:
        """What is left of each trial of an experiment."""
        ends = expected_ends(experiment)
        sizes = [gpus_of(trial.workers, trial.resources.gpus) for trial in experiment.trials]
        weight = sum(end * size for end, size in zip(ends, sizes, strict=True))
        found = []
        for trial, end, gpus in zip(experiment.trials, ends, sizes, strict=True):
            epochs, most = self._left(experiment, trial, end)
            each, source = self._seconds(trial)
            if each is None and experiment.cost_gpu_h is not None and weight:
                each, source = experiment.cost_gpu_h * 3600 / weight, "author"
            seconds = None if each is None else epochs * each
            found.append(Pace(epochs, most, seconds, gpus, source, not trial.resources.gpus))
        return found

    def derived(self, experiment: Experiment, sources: Sequence[Trial], otherwise: Trial) -> list[Pace]:
        """What is left of an experiment whose trials repeat those of a source, not known yet which.

        Args:
            sources: all that the source may choose from.
            otherwise: stands for them where they are in another plan.
        """
        rule = experiment.derive
        assert rule is not None
        mine = (experiment.phase, experiment.id)
        done = sum(past.state in DONE and (past.phase, past.experiment) == mine for past in self.pasts.values())
        asked = rule.source.count * len(rule.repeats)
        like = sources or (otherwise,)
        gpus = gpus_of(int(rule.changes.get("workers", like[0].workers)), like[0].resources.gpus)
        epochs = int(rule.changes.get("max_epochs", max(trial.config.max_epochs for trial in like)))
        known = [each for trial in like if (each := self._seconds(trial)[0]) is not None]
        seconds: float | None = None
        source: Source = "unknown"
        if len(known) == len(like):
            seconds, source = epochs * sum(known) / len(known), "like trainings"
        elif experiment.cost_gpu_h is not None:
            seconds, source = experiment.cost_gpu_h * 3600 / asked / gpus, "author"
        shares = not like[0].resources.gpus
        return [Pace(epochs, epochs, seconds, gpus, source, shares)] * max(0, asked - done)

    def _left(self, experiment: Experiment, trial: Trial, end: float) -> tuple[float, int]:
        """Epochs as expected, and at most."""
        past = self.pasts.get(trial.digest)
        if past is None or (past.epochs == 0 and past.state not in DONE):
            return end, trial.config.max_epochs
        if past.state in DONE:
            return 0.0, 0
        return expected_left(experiment, trial, past.epochs), max(0, trial.config.max_epochs - past.epochs)

    def _seconds(self, trial: Trial) -> tuple[float | None, Source]:
        past = self.pasts.get(trial.digest)
        if past is not None and past.epochs:
            return past.seconds / past.epochs, "own epochs"
        like = self._like.get(self.kind(trial))
        return (like[1] / like[0], "like trainings") if like is not None else (None, "unknown")


def speaks_for(past: Past, data: DataFacts | None) -> bool:
    """Whether a training was on these pages, by this code."""
    return _key(past, data) is not None


def _key(past: Past, data: DataFacts | None) -> tuple[Any, ...] | None:
    """What past epochs may speak for; None for trainings on other pages or by other code, which their digest shows."""
    try:
        config = Config.model_validate(past.config)
    except ValidationError:
        return None
    trial = Trial("", "", "", "", config, past.fold, past.workers, Resources(gpus=past.gpus))
    return _cost_key(config, past.workers, trial.resources) if trial_digest(trial, data) == past.digest else None


def _cost_key(config: Config, workers: int, resources: Resources) -> tuple[Any, ...]:
    return (*(getattr(config, name) for name in COSTLY), workers, resources.gpus)
