"""What progress says, on a pipe and on a terminal."""

from __future__ import annotations

import io
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from studies import make_experiment, make_study, make_trial

from orchestrator.execution.progress import Progress, duration
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Phase, Study, Trial
from orchestrator.records import EpochRow


@pytest.fixture
def trials() -> tuple[Trial, Trial]:
    return make_trial(1, epochs=4), make_trial(2, epochs=4)


@pytest.fixture
def study(ledger: Ledger, trials: tuple[Trial, Trial]) -> Study:
    phase = Phase("p", "what", (), (make_experiment(*trials),), {})
    return replace(make_study(ledger), phases=(phase,))


def row(number: int, hmean: float, time_ms: int | None = None) -> EpochRow:
    return EpochRow(number, {"hmean": hmean, "precision": 0.5}, 10.0, time_ms or time.time_ns() // 1_000_000)


def play(progress: Progress, ledger: Ledger, first: Trial, second: Trial) -> None:
    progress.trial_started(first)
    progress.epoch(first, row(1, 0.5))
    progress.trial_started(second)
    progress.epoch(second, row(1, 0.25))
    ledger.append_epoch(second.digest, row(1, 0.25))
    ledger.set_state(second.digest, "failed", "loss is nan")
    progress.trial_ended(second, ledger.record(second.digest))


def test_plain_lines_when_piped(study: Study, ledger: Ledger, trials: tuple[Trial, Trial]) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    with Progress(study, ledger, out) as progress:
        play(progress, ledger, replace(trials[0], name="p/영수증"), trials[1])
        progress.maps(3, 3)
    out.seek(0)
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in out.read().splitlines()]
    # After the first epoch 3 + 4 epochs of 10 s are left for one running trial; after the second 3 + 3 for two; at the
    # end 3 for one. A name that the stream cannot say is not a reason to fall.
    assert lines == [
        "phase p: 0/2 trials",
        "p/???  epoch 1/4  H 0.5000  P 0.5000  10.0 s  [0/2 trials  best H 0.5000 (p/???)  about 70 s left]",
        "p/e-02  epoch 1/4  H 0.2500  P 0.5000  10.0 s  [0/2 trials  best H 0.5000 (p/???)  about 30 s left]",
        "p/e-02  failed (loss is nan)  best H 0.2500 at epoch 1  10 s  "
        "[1/2 trials, 1 failed  best H 0.5000 (p/???)  about 30 s left]",
        "probability maps 3/3",
    ]


def test_what_an_earlier_run_did_is_counted_and_not_told(
    study: Study, ledger: Ledger, trials: tuple[Trial, Trial]
) -> None:
    first, second = trials
    ledger.append_epoch(first.digest, row(1, 0.9, time_ms=1))
    ledger.set_state(first.digest, "finished", "budget")
    record = replace(ledger.record(first.digest), ended_ms=2)
    out = io.StringIO()
    with Progress(study, ledger, out) as progress:
        progress.trial_started(first)
        progress.epoch(first, record.epochs[0])
        progress.trial_ended(first, record)
        progress.trial_started(second)
        progress.epoch(second, row(1, 0.25))
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("phase p: 1/2 trials")
    assert "[1/2 trials  best H 0.9000 (p/e-01)" in lines[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_live_table_on_a_terminal(
    study: Study, ledger: Ledger, trials: tuple[Trial, Trial], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    with Progress(study, ledger, out) as progress:
        play(progress, ledger, replace(trials[0], name="p/[red]"), trials[1])
        head, rows = progress.snapshot()
        assert head == "phase p   1/2 trials, 1 failed   best H 0.5000 (p/[red])   about 30 s left"
        assert rows == [("p/[red]", "###.........", "1/4", "H 0.5000  P 0.5000")]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "p/e-02  failed (loss is nan)" in text
    assert "###.........  1/4  H 0.5000  P 0.5000" in text


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (99, "99 s"), (120, "2 min"), (9000, "2.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
