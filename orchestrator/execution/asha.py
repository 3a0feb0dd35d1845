"""Which trials go on: successive halving inside each sweep, first come first served for the rest.

The rungs are Ray's (AsyncHyperBandScheduler: Li et al. 2020, arXiv 1810.05934). What is added: one set of rungs a
sweep, epochs that were run before (by a driver that is gone) count as they did then, and every stop has its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from detector.config import Config
from detector.training.stopping import improves, over
from orchestrator.execution.words import EPOCH, VALUE
from orchestrator.plan.study import Experiment, Trial
from orchestrator.records import TrialRecord


@dataclass(frozen=True, slots=True)
class Past:
    """One epoch that a sweep has seen: whose, which, its value, and when."""

    digest: str
    epoch: int
    value: float
    time_ms: int


class Sweep:
    """The rungs of one experiment's trials.

    A trial's value at the first epoch at or beyond grace x eta^k is held against the values that came to that rung
    before it: below their (1 - 1/eta) quantile it is stopped. A trial's last epoch stops nothing: it is over anyway,
    by its budget or by its patience. So where patience and a rung come to the same epoch, the trial is `finished`, not
    `pruned`: nothing is saved by calling it so, and what it ended with is its own best epoch, often an earlier one than
    the stale one that the rung compares. Its value counts for those that come to the rung later all the same.
    """

    def __init__(self, experiment: Experiment) -> None:
        assert experiment.asha is not None
        self.configs: dict[str, Config] = {}
        self._values: dict[str, dict[int, float]] = {}  # by digest and epoch
        known = max(trial.config.max_epochs for trial in experiment.trials)
        longest = known if experiment.proposals is None else experiment.proposals.max_epochs
        grace = min(experiment.asha.grace, longest)
        self._rungs = AsyncHyperBandScheduler(
            time_attr=EPOCH,
            metric=VALUE,
            mode="max",
            max_t=longest,
            grace_period=grace,
            reduction_factor=experiment.asha.eta,
            stop_last_trials=False,
        )
        for trial in experiment.trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        """A trial of this sweep that is known only now."""
        self.configs[trial.digest] = trial.config
        self._rungs.on_trial_add(None, SimpleNamespace(trial_id=trial.digest))

    def judge(self, digest: str, epoch: int, value: float) -> str | None:
        """Enter an epoch's value; the reason to stop the trial, or None to go on."""
        cutoff = self._cutoff(digest, epoch)
        self._values.setdefault(digest, {})[epoch] = value
        trial = SimpleNamespace(trial_id=digest)
        action = self._rungs.on_trial_result(None, trial, {EPOCH: epoch, VALUE: value})
        if action != TrialScheduler.STOP or cutoff is None or self._is_over(digest, epoch):
            return None
        rung, limit, peers = cutoff
        return f"ASHA: {VALUE} {value:.4f} at epoch {epoch} is below {limit:.4f}, the cut of {peers} at rung {rung:g}"

    def replay(self, past: Iterable[Past]) -> dict[str, str]:
        """Enter the epochs of earlier drivers in the order in which they came.

        Returns:
            The trials whose last epoch was to stop them, with the reason: their driver died before it could act.
        """
        stops: dict[str, tuple[int, str]] = {}
        last: dict[str, int] = {}
        for row in sorted(past, key=lambda row: (row.time_ms, row.digest, row.epoch)):
            last[row.digest] = row.epoch
            if reason := self.judge(row.digest, row.epoch, row.value):
                stops[row.digest] = (row.epoch, reason)
        return {digest: reason for digest, (epoch, reason) in stops.items() if last[digest] == epoch}

    def _is_over(self, digest: str, epoch: int) -> bool:
        """Whether a trial's training ends after this epoch by itself, as the training will see it."""
        config, best, best_epoch = self.configs[digest], None, 0
        for number, value in sorted(self._values[digest].items()):
            if number <= epoch and improves(value, best, config):
                best, best_epoch = value, number
        return over(epoch, best_epoch, config) is not None

    def _cutoff(self, digest: str, epoch: int) -> tuple[float, float, int] | None:
        """The rung that this epoch will be entered at, its cut and how many made it; None before or between rungs."""
        bracket = self._rungs._brackets[0]  # Ray keeps the cut to itself; it is needed to say why
        for milestone, recorded in bracket._rungs:
            if epoch >= milestone:
                if digest in recorded or not recorded:
                    return None
                return float(milestone), float(bracket.cutoff(recorded)), len(recorded)
        return None


def past_of(records: Sequence[TrialRecord]) -> list[Past]:
    """All epochs of some trials that hold the value."""
    return [
        Past(record.digest, row.number, row.metrics[VALUE], row.time_ms)
        for record in records
        for row in record.epochs
        if VALUE in row.metrics
    ]


class Unsaved:
    """Pickles as nothing. Tune saves its parts for a restore that this software never asks for: the ledger is truth."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()


class PerSweep(Unsaved, FIFOScheduler):  # type: ignore[misc]  # Ray is untyped
    """Tune's view of the sweeps: a trial (by its digest) belongs to one or to none.

    Args:
        sweeps: by digest.
        stopped: told of each stop with its reason, before Tune acts.
        gentle: digests that end by themselves when they are told to; Tune lets them.
    """

    def __init__(
        self, sweeps: Mapping[str, Sweep], stopped: Callable[[str, str], None], gentle: Container[str]
    ) -> None:
        super().__init__()
        self._sweeps = sweeps
        self._stopped = stopped
        self._gentle = gentle

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        digest = trial.config["digest"]
        sweep = self._sweeps.get(digest)
        if sweep is None or EPOCH not in result or result.get("done"):  # `done`: the last result, repeated
            return str(TrialScheduler.CONTINUE)
        reason = sweep.judge(digest, int(result[EPOCH]), float(result[VALUE]))
        if reason is None:
            return str(TrialScheduler.CONTINUE)
        self._stopped(digest, reason)
        return str(TrialScheduler.CONTINUE if digest in self._gentle else TrialScheduler.STOP)
