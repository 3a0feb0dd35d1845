"""Which trial starts next: by priority, once its resources are free; those of a sweep that proposes are made then.

Tune asks a searcher of its own for the next trial. Tune alone would stage all of them and take whichever fits: one that
needs two workers then waits until all the small ones are through, and one whose ranks are placed by Ray Train is not
counted at all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from orchestrator.execution import cluster
from orchestrator.execution.admitting import Guard
from orchestrator.execution.asha import Sweep, Unsaved, past_of
from orchestrator.execution.cluster import Capacity, Need
from orchestrator.execution.proposing import Proposing
from orchestrator.execution.retries import again
from orchestrator.execution.training import Job, Made
from orchestrator.plan.allowance import LeaveOut, Wait
from orchestrator.plan.study import Trial

CAPACITY_AGE_S: Final = 2.0


class Watch(Protocol):
    """Who is told of trials that need no training."""

    def started(self, digest: str) -> None: ...

    def ended(self, digest: str) -> None: ...


class Making:
    """What all parts of a search share, and how a trial that is proposed while it runs joins it.

    Attributes:
        job: as sent to the trials' processes when the search began; here its mappings grow.
        sweeps: the sweep that may stop a trial, by digest.
        gentle: trials of several workers, which end by themselves when they are told to.

    Args:
        rungs: the sweep of each experiment that has one, by the experiment's `id()`.
    """

    def __init__(
        self,
        trials: dict[str, Trial],
        job: Job,
        have: Capacity,
        sweeps: dict[str, Sweep],
        rungs: dict[int, Sweep],
        watch: Watch,
        guard: Guard,
    ) -> None:
        self.job, self.sweeps = job, sweeps
        self.needs = dict(job.needs)
        self.gentle = {digest for digest, need in self.needs.items() if need.workers > 1}
        self._trials, self._have, self._rungs, self._watch = trials, have, rungs, watch
        self.guard = guard

    def need(self, sweep: Proposing) -> Need:
        """What a trial that is still to be made will take, at most."""
        return max((self._have.need(trial) for trial in sweep.experiment.unproposed), key=lambda need: need.total)

    def make(self, proposing: Proposing) -> str | None:
        """The next trial of a sweep, ready to start; None where another experiment has trained it or will."""
        trial, ledger = proposing.make(), self.job.ledger
        ledger.register(trial)
        digest, rungs = trial.digest, self._rungs.get(id(proposing.experiment))
        if digest in self._trials:
            if rungs is None:
                self.sweeps.pop(digest, None)  # this experiment wants it to run to its end
            return None
        self._trials[digest] = trial
        self.guard.know([(proposing.experiment, trial)])
        if rungs is not None:
            rungs.add(trial)
            rungs.replay(past_of([ledger.record(digest)]))
            self.sweeps[digest] = rungs
        if ledger.done(digest):
            self._watch.started(digest)
            self._watch.ended(digest)
            return None
        ledger.set_state(digest, "queued")
        self.needs[digest] = need = self._have.need(trial)
        if need.workers > 1:
            self.gentle.add(digest)
        return digest

    def config(self, digest: str) -> dict[str, Any]:
        """What Tune gives the trial's process."""
        if digest in self.job.needs:
            return {"digest": digest}
        return {"digest": digest, "made": Made(self._trials[digest], self.needs[digest], digest in self.sweeps)}

    def again(self, digest: str) -> bool:
        """Whether a trial whose process ended is to be started again."""
        return again(self.job.ledger, digest, self.job.run, self.job.retries)


class Queue:
    """Hands Tune the next trial once its resources are free, so that trials start in the order of their priority."""

    def __init__(self, waiting: Sequence[str | Proposing], making: Making, concurrent: int | None) -> None:
        self._waiting, self._making, self._concurrent = list(waiting), making, concurrent
        self._handed: set[str] = set()
        self._have, self._asked_s = cluster.capacity(), time.monotonic()

    def asked(self) -> list[Need]:
        """What each of those that wait will take, the ones included that are still to be made."""
        found: list[Need] = []
        for item in self._waiting:
            if isinstance(item, Proposing):
                found += [self._making.need(item)] * item.left
            else:
                found.append(self._making.needs[item])
        return found

    def living(self, trials: Iterable[Any]) -> None:
        """Tune's trials as they are now: those that ended have given their resources back."""
        self._handed = {trial.config["digest"] for trial in trials if trial.status not in ("TERMINATED", "ERROR")}

    def again(self, digest: str) -> None:
        """Start a trial anew before all that waits: what a sweep proposes next may depend on it."""
        self._waiting.insert(0, digest)

    def next(self) -> str | None:
        """The next trial, or None where there is no room for it now; see `empty`."""
        while self._waiting and not (self._concurrent and len(self._handed) >= self._concurrent):
            item = self._waiting[0]
            if isinstance(item, str):
                if not self._fits(self._making.needs[item]):
                    return None
                admission = self._making.guard.admit(item, self._handed)
                if isinstance(admission, Wait):
                    return None
                self._waiting.pop(0)
                if isinstance(admission, LeaveOut):
                    continue
                self._handed.add(item)
                return item
            if not item.left:
                self._waiting.pop(0)
                continue
            if not self._fits(self._making.need(item)):
                return None
            admission = self._making.guard.admit_next(item, self._handed)
            if isinstance(admission, Wait):
                return None
            if isinstance(admission, LeaveOut):
                self._waiting.pop(0)
            elif (digest := self._making.make(item)) is not None:
                self._waiting.insert(0, digest)
        return None

    @property
    def empty(self) -> bool:
        """Whether nothing waits any more."""
        return not any(isinstance(item, str) or item.left for item in self._waiting)

    def _fits(self, need: Need) -> bool:
        if time.monotonic() - self._asked_s > CAPACITY_AGE_S:
            self._have, self._asked_s = cluster.capacity(), time.monotonic()
        totals = [need.total, *(self._making.needs[one].total for one in self._handed)]
        cpus, gpus = (sum(column) for column in zip(*totals, strict=True))
        return not self._handed or (cpus <= self._have.cpus + 1e-6 and gpus <= self._have.gpus + 1e-6)

    def searcher(self) -> Any:
        """A searcher of Tune's that hands out this queue."""
        from ray.tune.search import Searcher

        queue = self

        class Ask(Unsaved, Searcher):  # type: ignore[misc]  # Ray is untyped
            def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
                digest = queue.next()
                if digest is not None:
                    return queue._making.config(digest)
                return str(Searcher.FINISHED) if queue.empty else None

            def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
                pass

            def save(self, checkpoint_path: str) -> None:
                pass  # the ledger is what a run resumes from

            def restore(self, checkpoint_path: str) -> None:
                pass

        return Ask(metric=None, mode=None)
