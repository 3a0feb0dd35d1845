"""Keeps a search within the plan's budget and deadline: asks the policy (`plan.allowance`), says why, keeps the record.

A trial that is left out stays `queued` in the ledger, with the reason; the same command with a larger budget starts it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from orchestrator.ledger import Ledger
from orchestrator.pasts import past_of, pasts_of
from orchestrator.plan.allowance import LEFT_OUT, Admission, Allowance, LeaveOut, Start, Wait, now
from orchestrator.plan.study import Experiment, Study, Trial
from orchestrator.records import TrialRecord


class Guard:
    """The limits of a plan while it runs.

    Args:
        study: the plan's own phases, without those of other plans of its roadmap.
        say: takes a line for people.

    Attributes:
        left_out: by digest, or by name where a trial was not made yet, why it was left out.
    """

    def __init__(
        self, study: Study, ledger: Ledger, say: Callable[[str], None], clock: Callable[[], datetime] = now
    ) -> None:
        limited = study.budget_gpu_h is not None or study.deadline is not None
        self._allowance = Allowance(study, pasts_of(ledger) if limited else (), study.data, clock)
        self._ledger, self._say = ledger, say
        self._owners: dict[str, tuple[Experiment, Trial]] = {}
        self._waits: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    def know(self, owned: Iterable[tuple[Experiment, Trial]]) -> None:
        """Whose trial is whose; one that a fixed experiment wants as well runs to its end."""
        for experiment, trial in owned:
            old = self._owners.get(trial.digest)
            if old is None or old[0].asha is not None:
                self._owners[trial.digest] = (experiment, trial)

    def saw(self, record: TrialRecord) -> None:
        """An epoch or an end of a trial, as the ledger has it."""
        if self._allowance.limited:
            self._allowance.saw(past_of(self._ledger, record))

    def admit(self, digest: str, running: Collection[str]) -> Admission:
        """Whether a trial may start beside those that run; one that may not is noted in the ledger."""
        experiment, trial = self._owners[digest]
        found = self._allowance.admit(experiment, trial, running)
        if isinstance(found, LeaveOut):
            self.left_out[digest] = found.reason
            self._ledger.set_state(digest, "queued", LEFT_OUT + found.reason)
            self._say(f"{trial.name}  {LEFT_OUT}{found.reason}")
        elif isinstance(found, Wait) and digest not in self._waits:
            self._say(f"{trial.name}  waits: {found.reason}")
            self._waits[digest] = found.reason
        elif isinstance(found, Start) and self._allowance.limited:
            self.left_out.pop(digest, None)
        return found

    def admit_next(self, experiment: Experiment, running: Collection[str]) -> Admission:
        """Whether a trial that a sweep is still to propose may start, by one that a random search would draw."""
        trial = experiment.unproposed[0]
        found = self._allowance.admit(experiment, trial, running)
        if isinstance(found, LeaveOut):
            self.left_out[trial.name] = found.reason
            self._say(f"{trial.name} and all that its sweep would propose  {LEFT_OUT}{found.reason}")
        return found


def left_out(experiment: Experiment, ledger: Ledger) -> list[str]:
    """The trials of an experiment that a run has left out and none has started since, each with the reason."""
    records = [(trial, ledger.record(trial.digest)) for trial in experiment.trials]
    return [
        f"{trial.name}: {record.reason.removeprefix(LEFT_OUT)}"
        for trial, record in records
        if record.state == "queued" and record.reason.startswith(LEFT_OUT)
    ]
