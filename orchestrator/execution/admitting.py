"""Keeps a search within the plan's budget and deadline: asks the policy (`plan.allowance`), says why, keeps the record.

A trial that is left out stays `queued` in the ledger, with the reason; the same command with a larger budget starts it.
What of a sweep that proposes is left out, is so until the limits change: the proposals that follow depend on it, and a
driver that goes on after another's death knows more of what trainings take than that one did.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from orchestrator.execution.proposing import Proposing, forget_left_out, keep_left_out
from orchestrator.ledger import Ledger
from orchestrator.pasts import past_of, pasts_of
from orchestrator.plan.allowance import LEFT_OUT, Admission, Allowance, LeaveOut, Start, Wait, now
from orchestrator.plan.proposals import LeftOut, read_left_out
from orchestrator.plan.study import Experiment, Study, Trial
from orchestrator.records import TrialRecord

REST = ""  # stands for the digests of all that a sweep has not proposed yet


class Guard:
    """The limits of a plan while it runs.

    Args:
        study: the plan's own phases, without those of other plans of its roadmap.
        say: takes a line for people.

    Attributes:
        say: the same.
        left_out: by digest, or by name where a trial was not made yet, why it was left out.
    """

    def __init__(
        self, study: Study, ledger: Ledger, say: Callable[[str], None], clock: Callable[[], datetime] = now
    ) -> None:
        limited = study.budget_gpu_h is not None or study.deadline is not None
        self._allowance = Allowance(study, pasts_of(ledger) if limited else (), study.data, clock)
        self._study, self._ledger, self.say = study, ledger, say
        self._owners: dict[str, tuple[Experiment, Trial]] = {}
        self._waits: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    def know(self, owned: Iterable[tuple[Experiment, Trial]]) -> None:
        """Whose trial is whose; one that a fixed experiment wants as well runs to its end."""
        for experiment, trial in owned:
            old = self._owners.get(trial.digest)
            if old is None or old[0].asha is not None:
                self._owners[trial.digest] = (_as_planned(experiment), trial)

    def saw(self, record: TrialRecord) -> None:
        """An epoch or an end of a trial, as the ledger has it."""
        if self._allowance.limited:
            self._allowance.saw(past_of(self._ledger, record))

    def admit(self, digest: str, running: Collection[str]) -> Admission:
        """Whether a trial may start beside those that run; one that may not is noted in the ledger."""
        experiment, trial = self._owners[digest]
        found = self._admit(experiment, trial, digest, running)
        if isinstance(found, LeaveOut):
            self.left_out[digest] = found.reason
            self._ledger.set_state(digest, "queued", LEFT_OUT + found.reason)
            self.say(f"{trial.name}  {LEFT_OUT}{found.reason}")
        elif isinstance(found, Wait) and digest not in self._waits:
            self.say(f"{trial.name}  waits: {found.reason}")
            self._waits[digest] = found.reason
        elif isinstance(found, Start) and self._allowance.limited:
            self.left_out.pop(digest, None)
        return found

    def admit_next(self, sweep: Proposing, running: Collection[str]) -> Admission:
        """Whether a trial that a sweep is still to propose may start, by the one that a random search would draw."""
        experiment, trial = _as_planned(sweep.experiment), sweep.stand_in
        found = self._admit(experiment, trial, REST, running)
        if isinstance(found, LeaveOut):
            self.left_out[trial.name] = found.reason
            self.say(f"{trial.name} and all that its sweep would propose  {LEFT_OUT}{found.reason}")
        return found

    def _admit(self, experiment: Experiment, trial: Trial, digest: str, running: Collection[str]) -> Admission:
        """What the policy says; of a sweep that proposes, what it said under these limits, if it left this out."""
        rule = experiment.proposals
        if rule is None or not self._allowance.limited:
            return self._allowance.admit(experiment, trial, running)
        limits = self._limits(experiment, trial)
        kept = {one.digest: one for one in read_left_out(self._ledger.proposals(rule.sweep))}
        if digest in kept and kept[digest].limits == limits:
            return LeaveOut(kept[digest].reason)
        found = self._allowance.admit(experiment, trial, running)
        if isinstance(found, LeaveOut):
            keep_left_out(self._ledger, experiment, LeftOut(digest, limits, found.reason))
        elif isinstance(found, Start) and digest in kept:
            forget_left_out(self._ledger, experiment, digest)
        return found

    def _limits(self, experiment: Experiment, trial: Trial) -> Mapping[str, Any]:
        """What a person can change so that a trial fits."""
        return {
            "gpu_hours": self._study.budget_gpu_h,
            "deadline": self._study.deadline,
            "cost": experiment.cost_gpu_h,
            "gpus": trial.resources.gpus,
        }


def _as_planned(experiment: Experiment) -> Experiment:
    """A sweep without what it has proposed: what its trials are expected to cost must not depend on when a driver
    began."""
    rule = experiment.proposals
    return experiment if rule is None else replace(experiment, trials=experiment.trials[: rule.starts])


def left_out(experiment: Experiment, ledger: Ledger) -> list[str]:
    """What of an experiment a run has left out and none has started since, each with the reason."""
    records = [(trial, ledger.record(trial.digest)) for trial in experiment.trials]
    found = [
        f"{trial.name}: {record.reason.removeprefix(LEFT_OUT)}"
        for trial, record in records
        if record.state == "queued" and record.reason.startswith(LEFT_OUT)
    ]
    rule = experiment.proposals
    if rule is not None and experiment.unproposed:
        rest = [one.reason for one in read_left_out(ledger.proposals(rule.sweep)) if one.digest == REST]
        name = f"{experiment.phase}/{experiment.id} ({len(experiment.unproposed)} to be proposed)"
        found += [f"{name}: {reason}" for reason in rest]
    return found
