"""One phase as one Ray Tune run over what is missing: by priority, ASHA inside each sweep, results in the ledger.

Tune is used as it is; what is said to it is the order (`queueing.Queue`), the stops (`asha.PerSweep`) and what one
trial is (`training.run_trial`). It remembers nothing: killed at any instant, the same call goes on from the ledger.
"""

from __future__ import annotations

import shutil
import signal
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from orchestrator.execution import cluster
from orchestrator.execution.admitting import Guard
from orchestrator.execution.asha import PerSweep, Sweep, Unsaved, past_of
from orchestrator.execution.cluster import Need
from orchestrator.execution.proposing import Proposing
from orchestrator.execution.queueing import Making, Queue
from orchestrator.execution.training import Job, Train, run_trial, scratch, send_datasets
from orchestrator.execution.watching import answers, stand_by, watched
from orchestrator.execution.words import EPOCH, Word, free_group, say
from orchestrator.ledger import Ledger
from orchestrator.plan.allowance import LeaveOut
from orchestrator.plan.study import Experiment, Study, Trial
from orchestrator.records import ENDED, Events

HEAD_BYTES: Final = 1 << 20


def search(
    phase_trials: Sequence[tuple[Experiment, Trial]],
    study: Study,
    ledger: Ledger,
    events: Events,
    train: Train | None = None,
    guard: Guard | None = None,
) -> None:
    """Run what the ledger does not have as finished or pruned; results are read from the ledger.

    A sweep that proposes trials is run to its last; those that it made are in the ledger afterwards. A trial that
    fails does not stop the others. Epochs that were written while no driver watched are told to `events` as well, and
    so are the trials that are done already.

    Args:
        phase_trials: in the order of their priority; a digest that comes twice is trained once. With all trials that
            their sweeps have proposed so far (`proposals.with_proposals`).
        train: instead of `detector.fit.fit`.
        guard: of the plan's budget and deadline; the study's unless given. It knows afterwards what was left out.

    Raises:
        ClusterError: a trial could never start on this cluster, or a machine of it does not reach the workspace's
            store, and nothing was started; or the cluster is gone, and the same call goes on from there.
        KeyboardInterrupt: Ctrl-C or SIGTERM; running trials are `queued` again and go on from their last epoch.
    """
    if study.datasets is None:
        raise ValueError("a study without datasets can be checked, not run")
    trials: dict[str, Trial] = {}
    for _, trial in phase_trials:
        trials.setdefault(trial.digest, trial)
    for trial in trials.values():
        ledger.register(trial)
    guard = guard or Guard(study, ledger, lambda line: None)
    guard.know(phase_trials)
    watch = _Watch(ledger, events, trials, guard)
    sweeps, rungs, stops = _sweeps(phase_trials, ledger)
    for digest, reason in stops.items():
        ledger.set_state(digest, "pruned", reason)
    for digest in trials:
        if ledger.done(digest):
            watch.started(digest)
            watch.ended(digest)
    missing = [digest for digest in trials if not ledger.done(digest)]
    waiting = [item for item in _waiting(phase_trials, missing, study, ledger) if _may_start(item, guard)]
    missing = [item for item in waiting if isinstance(item, str)]
    if not waiting:
        return
    cluster.connect()
    have = cluster.capacity()
    to_come = [trial for item in waiting if isinstance(item, Proposing) for trial in item.experiment.unproposed]
    cluster.preflight([*(trials[digest] for digest in missing), *to_come], have)
    cluster.preflight_store(ledger)
    for digest in missing:
        ledger.set_state(digest, "queued")  # a failure of an earlier run is forgotten once it is tried again
    needs = {digest: have.need(trials[digest]) for digest in missing}
    for line in cluster.doubts([trials[digest] for digest in missing], have):
        guard.say(line)
    datasets = send_datasets(study.datasets, ledger)
    job = Job(trials, needs, frozenset(sweeps), datasets, ledger, train, study.retries, uuid.uuid4().hex[:8])
    making = Making(trials, job, have, sweeps, rungs, watch, guard)
    try:
        for _ in range(job.retries + 2):  # again where processes died when nothing waited any more
            with watched():
                _tune(waiting, making, watch, study.concurrent)
            alive = [digest for digest in making.needs if digest not in guard.left_out]
            waiting = [digest for digest in alive if ledger.record(digest).state not in ENDED]
            if not waiting:
                break
    finally:
        for digest in making.needs:
            if ledger.record(digest).state == "running":
                ledger.set_state(digest, "queued", "interrupted")


def _may_start(item: str | Proposing, guard: Guard) -> bool:
    """Whether it fits into what is left, with nothing beside it; without such there is no need of a cluster."""
    found = guard.admit(item, ()) if isinstance(item, str) else guard.admit_next(item, ())
    return not isinstance(found, LeaveOut)


def _waiting(
    phase_trials: Sequence[tuple[Experiment, Trial]], missing: Sequence[str], study: Study, ledger: Ledger
) -> list[str | Proposing]:
    """What is to run, in order: trials that are missing, and after those of a sweep the ones that it is to propose."""
    last = {id(experiment): place for place, (experiment, _) in enumerate(phase_trials)}
    left, found = set(missing), list[str | Proposing]()
    for place, (experiment, trial) in enumerate(phase_trials):
        if trial.digest in left:
            left.remove(trial.digest)
            found.append(trial.digest)
        if place == last[id(experiment)] and experiment.unproposed:
            found.append(Proposing(experiment, study, ledger))
    return found


def _sweeps(
    phase_trials: Sequence[tuple[Experiment, Trial]], ledger: Ledger
) -> tuple[dict[str, Sweep], dict[int, Sweep], dict[str, str]]:
    """By digest the sweep that may stop a trial, its rungs filled from the ledger; by the experiment's `id()` all such
    sweeps; and stops that are still due."""
    of: dict[str, list[Experiment]] = {}
    for experiment, trial in phase_trials:
        of.setdefault(trial.digest, []).append(experiment)
    made = {id(e): Sweep(e) for e, _ in phase_trials if e.asha is not None and e.trials}
    # A training that a fixed experiment wants as well must run to its end.
    sweeps = {
        digest: made[id(owners[0])]
        for digest, owners in of.items()
        if all(id(owner) in made for owner in owners) and digest in made[id(owners[0])].configs
    }
    due: dict[str, str] = {}
    for sweep in made.values():
        mine = [digest for digest, judge in sweeps.items() if judge is sweep]
        due |= sweep.replay(past_of([ledger.record(digest) for digest in mine]))
    return sweeps, made, {digest: why for digest, why in due.items() if not ledger.done(digest)}


class _Watch:
    """Tells events what the ledger says, each epoch once, in order."""

    def __init__(self, ledger: Ledger, events: Events, trials: dict[str, Trial], guard: Guard) -> None:
        self._ledger, self._events, self._trials, self._guard = ledger, events, trials, guard
        self._told: dict[str, int] = {}
        self._ended: set[str] = set()

    def started(self, digest: str) -> None:
        self._events.trial_started(self._trials[digest])
        self.epochs(digest)

    def epochs(self, digest: str) -> None:
        self._ledger.bring(digest)
        record = self._ledger.record(digest)
        self._guard.saw(record)
        for row in record.epochs:
            if row.number > self._told.get(digest, 0):
                self._told[digest] = row.number
                self._events.epoch(self._trials[digest], row)

    def ended(self, digest: str) -> None:
        record = self._ledger.record(digest)
        if record.state in ENDED and digest not in self._ended:
            self._ended.add(digest)
            self.epochs(digest)
            self._events.trial_ended(self._trials[digest], record)


def _tune(waiting: Sequence[str | Proposing], making: Making, watch: _Watch, concurrent: int | None) -> None:
    """One Tune run over what waits, in this order. Trials that end badly are left to the ledger."""
    from ray import tune
    from ray.tune.execution.placement_groups import PlacementGroupFactory

    job, needs = making.job, dict(making.job.needs)  # of its own, so that Tune does not send the job with `resources`

    def resources(config: dict[str, Any]) -> PlacementGroupFactory:
        need: Need = config["made"].need if "made" in config else needs[config["digest"]]
        if need.workers == 1:
            return PlacementGroupFactory([need.bundle()])
        # Ray Train places its ranks itself, in CPUs and GPUs that _Queue has kept free for them; so Tune's process for
        # the trial must take none; but a placement group must hold something.
        return PlacementGroupFactory([{"memory": HEAD_BYTES}])

    def pruned(digest: str, reason: str) -> None:
        job.ledger.set_state(digest, "pruned", reason)

    name = f"search-{uuid.uuid4().hex[:8]}"
    folder = scratch(job.ledger)
    queue = Queue(waiting, making, concurrent)
    cluster.ask_for(queue.asked()[:concurrent])
    try:
        with _interruptible() as interrupted:
            tune.Tuner(
                tune.with_resources(tune.with_parameters(run_trial, job=job), resources),
                tune_config=tune.TuneConfig(
                    search_alg=queue.searcher(),
                    num_samples=(job.retries + 2) * len(queue.asked()),  # at most: the queue says when it is empty
                    scheduler=PerSweep(making.sweeps, pruned, making.gentle),
                    reuse_actors=True,  # the next trial saves the start of a process and the import of torch
                    trial_dirname_creator=lambda trial: f"{trial.config['digest']}-{trial.trial_id}",
                ),
                run_config=tune.RunConfig(
                    name=name,
                    storage_path=str(folder),
                    verbose=0,
                    stop=_stopper(interrupted),
                    callbacks=[_callback(queue, making, watch)],
                ),
            ).fit()
        if interrupted.is_set():
            raise KeyboardInterrupt
    finally:
        if answers():
            cluster.ask_for([])
            for digest in making.gentle:
                free_group(job.ledger, digest)
        shutil.rmtree(folder, ignore_errors=True)


def _callback(queue: Queue, making: Making, watch: _Watch) -> Any:
    from ray.tune import Callback

    job = making.job

    class Forward(Unsaved, Callback):  # type: ignore[misc]  # Ray is untyped
        """From Tune to events, by way of the ledger."""

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            queue.living(trials)

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            watch.started(trial.config["digest"])

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            digest = trial.config["digest"]
            watch.epochs(digest)
            if digest in making.sweeps and digest in making.gentle:
                say(job.ledger, digest, int(result[EPOCH]), Word.STOP if job.ledger.done(digest) else Word.GO)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            digest = trial.config["digest"]
            job.ledger.bring(digest, ended=True)  # what its process wrote on another machine, its costs included
            watch.ended(digest)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            digest = trial.config["digest"]
            stand_by()  # where the cluster is gone, no trial has failed
            free_group(job.ledger, digest)
            if making.again(digest):
                queue.again(digest)
            watch.ended(digest)

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
