"""What a person sees while a plan runs: a live table on a terminal, dated plain lines anywhere else.

Both tell the same: trials done, the running ones with their epoch and H, the best so far, the time that is left. What
the ledger had before is counted, not told again.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, TextIO

from orchestrator.incidents import Incident
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Study, Trial
from orchestrator.records import EpochRow, TrialRecord

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MAPS: Final = "probability maps"
MAPS_EVERY_S: Final = 10.0
BAR_WIDTH: Final = 12


@dataclass(slots=True)
class _Phase:
    """The count of one phase. `left` holds, by digest, the epochs that a trial may still run; `to_come`, by experiment,
    those of each trial that is still to be proposed."""

    trials: dict[str, Trial]
    left: dict[str, int]
    ended: set[str] = field(default_factory=set)
    failed: int = 0
    to_come: dict[str, list[int]] = field(default_factory=dict)


class Progress:
    """A context manager; it is the `Events` of execution.

    Args:
        study: tells how many trials and epochs there are.
        ledger: tells which of them are done already.
        stream: where to write; standard output by default.
    """

    def __init__(self, study: Study, ledger: Ledger, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._ledger = ledger
        self._began_ms = time.time_ns() // 1_000_000
        self._phases = {phase.id: _Phase({}, {}) for phase in study.phases}
        for phase in study.phases:
            for experiment in phase.experiments:
                for trial in experiment.trials:
                    self._know(trial)
                epochs = [trial.config.max_epochs for trial in experiment.unproposed]
                self._phases[phase.id].to_come[experiment.id] = epochs
        self._running: dict[str, tuple[Trial, EpochRow | None]] = {}
        self._incidents: set[Incident] = set()  # told already
        self._phase = ""
        self._best: tuple[float, str] | None = None
        self._epoch_s: list[float] = []
        self._maps = ""
        self._maps_told_s = 0.0
        self._lock = threading.Lock()  # the live table is drawn by a thread of its own
        self._live: _Live | None = None

    def __enter__(self) -> Progress:
        if self._stream.isatty():
            self._live = _Live(self, self._stream)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.close()
            self._live = None

    # --- events -----------------------------------------------------------------------------------------------------

    def trial_started(self, trial: Trial) -> None:
        """A trial begins or goes on."""
        with self._lock:
            self._know(trial)
            self._maps = ""
            if trial.phase != self._phase:
                self._phase = trial.phase
                if self._live is None:
                    self._line(f"phase {trial.phase}: {self._count()}")
            self._running[trial.digest] = (trial, None)
            self._tell_incidents(trial)

    def epoch(self, trial: Trial, row: EpochRow) -> None:
        """An epoch ended."""
        with self._lock:
            phase = self._know(trial)
            phase.left[trial.digest] = max(0, trial.config.max_epochs - row.number)
            self._tell_incidents(trial)
            if trial.digest in self._running:
                self._running[trial.digest] = (trial, row)
            value = row.metrics.get("hmean")
            if value is not None and (self._best is None or value > self._best[0]):
                self._best = (value, trial.name)
            if row.time_ms < self._began_ms:  # told by an earlier run
                return
            self._epoch_s.append(row.seconds)
            if self._live is None:
                self._line(
                    f"{trial.name}  epoch {_epoch(trial, row)}  {_scores(row)}  {row.seconds:.1f} s  {self._tail()}"
                )

    def trial_ended(self, trial: Trial, record: TrialRecord) -> None:
        """A trial finished, was pruned or failed."""
        with self._lock:
            phase = self._know(trial)
            self._running.pop(trial.digest, None)
            phase.ended.add(trial.digest)
            phase.left[trial.digest] = 0
            phase.failed += record.state == "failed"
            if record.ended_ms is not None and record.ended_ms < self._began_ms:
                return
            best = _best(record)
            line = f"{trial.name}  {record.state} ({record.reason})  {best}  {duration(record.seconds)}  {self._tail()}"
            if self._live is None or record.state == "failed":
                self._line(line)

    def note(self, text: str) -> None:
        """A line that is no trial's progress."""
        with self._lock:
            self._line(text)

    def maps(self, done: int, total: int, what: str = MAPS) -> None:
        """Probability maps computed so far, or `what` else is done page by page, stage after stage."""
        with self._lock:
            self._maps = f"{what} {done}/{total}" if done < total else ""
            # A search has dozens of stages: their ends are told no oftener than their middles.
            due = time.monotonic() - self._maps_told_s > MAPS_EVERY_S or (done == total and what == MAPS)
            if self._live is None and total and due:
                self._maps_told_s = time.monotonic()
                self._line(f"{what} {done}/{total}")

    # --- words ------------------------------------------------------------------------------------------------------

    def _know(self, trial: Trial) -> _Phase:
        phase = self._phases.setdefault(trial.phase, _Phase({}, {}))
        if trial.digest not in phase.trials:
            phase.trials[trial.digest] = trial
            if to_come := phase.to_come.get(trial.experiment):
                to_come.pop()
            record = self._ledger.record(trial.digest)
            over = record.state in ("finished", "pruned")
            phase.left[trial.digest] = 0 if over else max(0, trial.config.max_epochs - len(record.epochs))
            if over:
                phase.ended.add(trial.digest)
        return phase

    def _tell_incidents(self, trial: Trial) -> None:
        for incident in self._ledger.record(trial.digest).incidents:
            if incident.time_ms >= self._began_ms and incident not in self._incidents:
                self._incidents.add(incident)
                self._line(f"{trial.name}  {incident}")

    def _count(self) -> str:
        phase = self._phases.get(self._phase, _Phase({}, {}))
        failed = f", {phase.failed} failed" if phase.failed else ""
        every = len(phase.trials) + sum(map(len, phase.to_come.values()))
        return f"{len(phase.ended)}/{every} trials{failed}"

    def _tail(self) -> str:
        best = f"  best H {self._best[0]:.4f} ({self._best[1]})" if self._best else ""
        left = self.left_s()
        return f"[{self._count()}{best}{'' if left is None else f'  about {duration(left)} left'}]"

    def left_s(self) -> float | None:
        """Seconds until this phase's trials are through if none is stopped early; None before the first epoch."""
        phase = self._phases.get(self._phase)
        if phase is None or not self._epoch_s:
            return None
        recent = self._epoch_s[-20:]
        epochs = sum(phase.left.values()) + sum(map(sum, phase.to_come.values()))
        return epochs * sum(recent) / len(recent) / max(1, len(self._running))

    def _line(self, text: str) -> None:
        if self._live is not None:
            self._live.say(text)
            return
        encoding = self._stream.encoding or "utf-8"
        line = f"{datetime.now():%H:%M:%S}  {text}\n"
        self._stream.write(line.encode(encoding, "replace").decode(encoding))
        self._stream.flush()

    def head(self) -> str:
        """The first line of the table."""
        best = f"best H {self._best[0]:.4f} ({self._best[1]})" if self._best else ""
        left = self.left_s()
        eta = "" if left is None else f"about {duration(left)} left"
        phase = f"phase {self._phase}" if self._phase else "starting"
        return "   ".join(part for part in (phase, self._count() if self._phase else "", best, eta, self._maps) if part)

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Name, bar, epoch and scores of each running trial."""
        for trial, row in self._running.values():
            number = row.number if row else 0
            filled = round(BAR_WIDTH * number / trial.config.max_epochs)
            bar = "#" * filled + "." * (BAR_WIDTH - filled)
            yield trial.name, bar, f"{number}/{trial.config.max_epochs}", _scores(row) if row else "starting"

    def snapshot(self) -> tuple[str, list[tuple[str, str, str, str]]]:
        """`head` and `rows` of one instant."""
        with self._lock:
            return self.head(), list(self.rows())


class _Live:
    """The table on a terminal, drawn four times a second."""

    def __init__(self, progress: Progress, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console: Console = Console(file=stream)
        self._progress = progress
        self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=4)
        self._live.start()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._live.stop()

    def _table(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        head, rows = self._progress.snapshot()
        table = Table.grid(padding=(0, 2))
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        return Group(Text(head, style="bold"), table)


def duration(seconds: float) -> str:
    """`7 s`, `12 min` or `3.5 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def _epoch(trial: Trial, row: EpochRow) -> str:
    return f"{row.number}/{trial.config.max_epochs}"


def _scores(row: EpochRow) -> str:
    shown = (("H", "hmean"), ("P", "precision"), ("R", "recall"), ("loss", "train_loss"))
    return "  ".join(f"{label} {row.metrics[name]:.4f}" for label, name in shown if name in row.metrics)


def _best(record: TrialRecord) -> str:
    value = (record.best or {}).get("hmean")
    last = (record.last or {}).get("hmean")
    then = "" if last is None or record.epochs[-1].number == record.best_epoch else f", last {last:.4f}"
    return "no score" if value is None else f"best H {value:.4f} at epoch {record.best_epoch}{then}"
