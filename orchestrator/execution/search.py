"""One phase as one Ray Tune run over what is missing: by priority, ASHA inside each sweep, results in the ledger.

Tune is used as it is; what is said to it is the order (`_Queue`), the stops (`asha.PerSweep`) and what one trial is
(`training.run_trial`). It remembers nothing: killed at any instant, the same call goes on from the ledger.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from orchestrator.execution import cluster
from orchestrator.execution.asha import EPOCH, PerSweep, Sweep, Unsaved, past_of
from orchestrator.execution.cluster import Need
from orchestrator.execution.training import Job, Train, run_trial, scratch
from orchestrator.execution.words import Word, group_path, say
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Experiment, Study, Trial
from orchestrator.records import ENDED, Events

STARTS: Final = 3  # how often a trial is started in one search before a process that dies counts as a failure
HEAD_BYTES: Final = 1 << 20
CAPACITY_AGE_S: Final = 2.0


def search(
    phase_trials: Sequence[tuple[Experiment, Trial]],
    study: Study,
    ledger: Ledger,
    events: Events,
    train: Train | None = None,
) -> None:
    """Run what the ledger does not have as finished or pruned; results are read from the ledger.

    A trial that fails does not stop the others. Epochs that were written while no driver watched are told to `events`
    as well, and so are the trials that are done already.

    Args:
        phase_trials: in the order of their priority; a digest that comes twice is trained once.
        train: instead of `detector.fit.fit`.

    Raises:
        ClusterError: a trial could never start on this cluster; nothing was started.
        KeyboardInterrupt: Ctrl-C or SIGTERM; running trials are `queued` again and go on from their last epoch.
    """
    if study.datasets is None:
        raise ValueError("a study without datasets can be checked, not run")
    trials: dict[str, Trial] = {}
    for _, trial in phase_trials:
        trials.setdefault(trial.digest, trial)
    for trial in trials.values():
        ledger.register(trial)
    watch = _Watch(ledger, events, trials)
    sweeps, stops = _sweeps(phase_trials, ledger)
    for digest, reason in stops.items():
        ledger.set_state(digest, "pruned", reason)
    for digest in trials:
        if ledger.done(digest):
            watch.started(digest)
            watch.ended(digest)
    missing = [digest for digest in trials if not ledger.done(digest)]
    if not missing:
        return
    cluster.connect()
    have = cluster.capacity()
    cluster.preflight([trials[digest] for digest in missing], have)
    for digest in missing:
        ledger.set_state(digest, "queued")  # a failure of an earlier run is forgotten once it is tried again
    needs = {digest: have.need(trials[digest]) for digest in missing}
    job = Job(trials, needs, frozenset(sweeps), study.datasets, ledger, train)
    try:
        for _ in range(STARTS):
            _tune(missing, job, sweeps, watch, study.concurrent)
            missing = [digest for digest in missing if ledger.record(digest).state not in ENDED]
            if not missing:
                break
    finally:
        for digest in missing:
            if ledger.record(digest).state == "running":
                ledger.set_state(digest, "queued", "interrupted")
    for digest in missing:
        ledger.set_state(digest, "failed", f"its process died {STARTS} times; see Ray's logs for out-of-memory kills")
        watch.ended(digest)


def _sweeps(
    phase_trials: Sequence[tuple[Experiment, Trial]], ledger: Ledger
) -> tuple[dict[str, Sweep], dict[str, str]]:
    """The sweep of each trial that may be stopped, its rungs filled from the ledger; and stops that are still due."""
    of: dict[str, list[Experiment]] = {}
    for experiment, trial in phase_trials:
        of.setdefault(trial.digest, []).append(experiment)
    made = {id(e): (e, Sweep(e)) for e, _ in phase_trials if e.asha is not None and e.trials}
    due: dict[str, str] = {}
    for experiment, sweep in made.values():
        due |= sweep.replay(past_of([ledger.record(trial.digest) for trial in experiment.trials]))
    # A training that a fixed experiment wants as well must run to its end.
    sweeps = {
        digest: made[id(owners[0])][1]
        for digest, owners in of.items()
        if all(id(owner) in made for owner in owners) and digest in made[id(owners[0])][1].budgets
    }
    return sweeps, {digest: why for digest, why in due.items() if digest in sweeps and not ledger.done(digest)}


class _Watch:
    """Tells events what the ledger says, each epoch once, in order."""

    def __init__(self, ledger: Ledger, events: Events, trials: dict[str, Trial]) -> None:
        self._ledger, self._events, self._trials = ledger, events, trials
        self._told: dict[str, int] = {}
        self._ended: set[str] = set()

    def started(self, digest: str) -> None:
        self._events.trial_started(self._trials[digest])
        self.epochs(digest)

    def epochs(self, digest: str) -> None:
        for row in self._ledger.record(digest).epochs:
            if row.number > self._told.get(digest, 0):
                self._told[digest] = row.number
                self._events.epoch(self._trials[digest], row)

    def ended(self, digest: str) -> None:
        record = self._ledger.record(digest)
        if record.state in ENDED and digest not in self._ended:
            self._ended.add(digest)
            self.epochs(digest)
            self._events.trial_ended(self._trials[digest], record)


def _tune(digests: Sequence[str], job: Job, sweeps: dict[str, Sweep], watch: _Watch, concurrent: int | None) -> None:
    """One Tune run over `digests`, in this order. Trials that end badly are left to the ledger."""
    from ray import tune
    from ray.tune.execution.placement_groups import PlacementGroupFactory

    needs = job.needs  # of its own, so that Tune does not send the job with this function

    def resources(config: dict[str, Any]) -> PlacementGroupFactory:
        need: Need = needs[config["digest"]]
        if need.workers == 1:
            return PlacementGroupFactory([need.bundle()])
        # Ray Train places its ranks itself, in CPUs and GPUs that _Queue has kept free for them; so Tune's process for
        # the trial must take none; but a placement group must hold something.
        return PlacementGroupFactory([{"memory": HEAD_BYTES}])

    def pruned(digest: str, reason: str) -> None:
        job.ledger.set_state(digest, "pruned", reason)

    gentle = {digest for digest in digests if job.needs[digest].workers > 1}
    name = f"search-{uuid.uuid4().hex[:8]}"
    folder = scratch(job.ledger)
    queue = _Queue(digests, job.needs, concurrent)
    cluster.ask_for([job.needs[digest] for digest in digests[:concurrent]])
    try:
        with _interruptible() as interrupted:
            tune.Tuner(
                tune.with_resources(tune.with_parameters(run_trial, job=job), resources),
                tune_config=tune.TuneConfig(
                    search_alg=queue.searcher(),
                    num_samples=len(digests),
                    scheduler=PerSweep(sweeps, pruned, gentle),
                    reuse_actors=True,  # the next trial saves the start of a process and the import of torch
                    trial_dirname_creator=lambda trial: str(trial.config["digest"]),
                ),
                run_config=tune.RunConfig(
                    name=name,
                    storage_path=str(folder),
                    verbose=0,
                    stop=_stopper(interrupted),
                    callbacks=[_callback(queue, job, watch)],
                ),
            ).fit()
        if interrupted.is_set():
            raise KeyboardInterrupt
    finally:
        cluster.ask_for([])
        for digest in gentle:
            cluster.remove_group(group_path(job.ledger, digest))
        shutil.rmtree(folder, ignore_errors=True)


class _Queue:
    """Hands Tune the next trial once its resources are free, so that trials start in the order of their priority.

    Tune alone would stage all of them and take whichever fits: one that needs two workers then waits until all the
    small ones are through, and one whose ranks are placed by Ray Train is not counted at all.
    """

    def __init__(self, digests: Sequence[str], needs: Any, concurrent: int | None) -> None:
        self._waiting, self._needs, self._concurrent = list(digests), needs, concurrent
        self._handed: set[str] = set()
        self._have, self._asked_s = cluster.capacity(), time.monotonic()

    def living(self, trials: Sequence[Any]) -> None:
        """Tune's trials as they are now: those that ended have given their resources back."""
        ended = {trial.config["digest"] for trial in trials if trial.status in ("TERMINATED", "ERROR")}
        self._handed -= ended

    def next(self) -> str | None:
        if not self._waiting or (self._concurrent and len(self._handed) >= self._concurrent):
            return None
        if time.monotonic() - self._asked_s > CAPACITY_AGE_S:
            self._have, self._asked_s = cluster.capacity(), time.monotonic()
        digest = self._waiting[0]
        totals = [self._needs[one].total for one in (*self._handed, digest)]
        cpus, gpus = (sum(column) for column in zip(*totals, strict=True))
        if self._handed and (cpus > self._have.cpus + 1e-6 or gpus > self._have.gpus + 1e-6):
            return None
        self._handed.add(self._waiting.pop(0))
        return digest

    def searcher(self) -> Any:
        from ray.tune.search import Searcher

        queue = self

        class Ask(Unsaved, Searcher):  # type: ignore[misc]  # Ray is untyped
            def suggest(self, trial_id: str) -> dict[str, Any] | None:
                digest = queue.next()
                return None if digest is None else {"digest": digest}

            def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
                pass

            def save(self, checkpoint_path: str) -> None:
                pass  # the ledger is what a run resumes from

            def restore(self, checkpoint_path: str) -> None:
                pass

        return Ask(metric=None, mode=None)


def _callback(queue: _Queue, job: Job, watch: _Watch) -> Any:
    from ray.tune import Callback

    class Forward(Unsaved, Callback):  # type: ignore[misc]  # Ray is untyped
        """From Tune to events, by way of the ledger."""

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            queue.living(trials)

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            watch.started(trial.config["digest"])

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            digest = trial.config["digest"]
            watch.epochs(digest)
            if digest in job.judged and job.needs[digest].workers > 1:
                say(job.ledger, digest, int(result[EPOCH]), Word.STOP if job.ledger.done(digest) else Word.GO)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            watch.ended(trial.config["digest"])

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            cluster.remove_group(group_path(job.ledger, trial.config["digest"]))
            watch.ended(trial.config["digest"])

    return Forward()


def _stopper(interrupted: threading.Event) -> Any:
    from ray.tune import Stopper

    class OnSignal(Unsaved, Stopper):  # type: ignore[misc]  # Ray is untyped
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return interrupted.is_set()

    return OnSignal()


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second signal raises KeyboardInterrupt at once."""
    event = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in old.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
