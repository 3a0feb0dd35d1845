"""A budget and a deadline through the whole command: what `check` says before, what starts, what is told and kept.

The networks learn nothing in two epochs on two pages; their authors take them for dear. A kind of training of its own
for each (other widths) keeps each at its author's word, whatever the others turn out to take.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_run_path import command, states

PLAN = """
roadmap: tiny
data:
  synthetic: {train: 2, val: 2, size: 192}
budget: {gpu_hours: 8}
defaults:
  encoder: mobilenetv3_small_050
  encoder_weights: none
  inner_channels: 16
  output_channels: 16
  image_size: 192
  batch_size: 2
  max_epochs: 2
phases:
  - id: one
    experiments:
      - {id: cheap, cost: 2h}
      - {id: dear, set: {inner_channels: 24}, cost: 9h, priority: 2}
      - {id: last, set: {inner_channels: 32}, cost: 5h, priority: 3}
      - id: lr
        cost: 100h
        priority: 4
        set: {inner_channels: 40}
        sweep: {space: {optimizer.lr: "loguniform(1e-4, 1e-2)"}, trials: 4, search: {tpe: {starts: 2}}}
"""
PASSED = "budget.deadline=2020-01-01T00:00+00:00"
# 2 epochs for 9 h; 4 trials of 2 epochs for 100 h.
DEAR = "would cost 9.00 GPU-h (2 epochs of 16200.0 s, by its author's cost), and 0.00 of 8 GPU-h are spent"
LR = "would cost 25.00 GPU-h (2 epochs of 45000.0 s, by its author's cost), and 0.00 of 8 GPU-h are spent"
GO_ON = "  with a larger `budget` (--set budget.gpu_hours=...) the same command goes on"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.yaml").write_text(PLAN)
    return folder


def known(home: Path, *words: str) -> dict[str, Any]:
    """What `runs` lists, by the trials' names."""
    listed = json.loads(command(home, "runs", "tiny.yaml", "--json", *words).stdout)
    rows = listed["runs"] if isinstance(listed, dict) else listed
    return {row["name"]: row for row in rows}


def decisions(home: Path) -> list[dict[str, Any]]:
    lines = (home / "w" / "tiny" / "journal.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [event["decision"] for event in events if event["kind"] == "decision"]


def test_check_says_what_will_not_fit(home: Path) -> None:
    told = json.loads(command(home, "check", "tiny.yaml", "--json").stdout)
    # 2 + 9 + 5 + 100 h; alone beyond 8 h: dear, and each of the sweep's four
    assert (told["forecast"]["gpu_hours"], told["forecast"]["within_budget"]) == (pytest.approx(116), False)
    place = "tiny.yaml:5:21: budget.gpu_hours: "
    assert told["warnings"] == [
        f"{place}one/dear (9.00 GPU-h), one/lr-00 (25.00 GPU-h), one/lr-01 (25.00 GPU-h) and 2 more would cost more "
        "than the 8 GPU-h of the budget: left out whatever else runs",
        f"{place}116.00 GPU-h are expected, the budget is 8: by priority, what does not fit is left out",
    ]
    text = command(home, "check", "tiny.yaml", "--set", PASSED).stdout
    assert "budget 8 GPU-h: does not hold, 116.00 in all" in text
    assert "budget.deadline: 2020-01-01T00:00+00:00 has passed, so nothing starts any more" in text


def test_after_the_deadline_nothing_starts(home: Path) -> None:
    found = command(home, "tiny.yaml", "--set", PASSED)
    assert found.returncode == 1, found.stdout + found.stderr
    why = "the deadline 2020-01-01T00:00+00:00 has passed"
    assert f"! left out: one/cheap: {why}\n" in found.stdout
    assert f"! left out: one/lr (2 to be proposed): {why}\n" in found.stdout
    assert {json.loads(state)["attempts"] for state in states(home).values()} == {0}


def test_a_budget_lets_start_what_fits_by_priority(home: Path) -> None:
    found = command(home, "tiny.yaml")
    assert found.returncode == 1 and "Traceback" not in found.stderr, found.stdout + found.stderr
    # Told when it is decided, and at the end with the way on.
    assert f"one/dear  left out: {DEAR}\n" in found.stdout
    lines = found.stdout.splitlines()
    first = lines.index(f"! left out: one/dear: {DEAR}")
    assert lines[first + 1 : first + 5] == [
        f"! left out: one/lr-00: {LR}",
        f"! left out: one/lr-01: {LR}",
        f"! left out: one/lr (2 to be proposed): {LR}",
        GO_ON,
    ]
    rows = known(home)
    assert {name: row["state"] for name, row in rows.items()} == {
        "one/cheap": "finished",
        "one/last": "finished",  # behind one that does not fit
        "one/dear": "queued",
        "one/lr-00": "queued",
        "one/lr-01": "queued",
    }
    assert rows["one/dear"]["reason"] == f"left out: {DEAR}"
    gone = [f"one/dear: {DEAR}", f"one/lr-00: {LR}", f"one/lr-01: {LR}", f"one/lr (2 to be proposed): {LR}"]
    assert decisions(home)[-1]["left_out"] == gone
    report = (home / "w" / "tiny" / "report.md").read_text()
    assert "Left out: one/dear: would cost 9.00 GPU-h" in report and "Left out: one/lr (2 to be proposed)" in report
    (sweep,) = (home / "w" / "tiny" / "sweeps").iterdir()
    kept = json.loads(sweep.read_text())
    assert kept["proposals"] == [] and [one["reason"] for one in kept["left_out"]] == [LR] * 3
    assert kept["left_out"][0]["limits"]["gpu_hours"] == 8


def whole(home: Path) -> dict[str, tuple[str, int]]:
    """State and attempts of each trial; what is spent, and stands in reasons, depends on the machine."""
    found = {digest: json.loads(state) for digest, state in states(home).items()}
    return {digest: (state["state"], state["attempts"]) for digest, state in found.items()}


def test_the_same_command_starts_nothing_and_says_the_same(home: Path) -> None:
    before = whole(home)
    found = command(home, "tiny.yaml")
    assert found.returncode == 1 and "Traceback" not in found.stderr, found.stdout + found.stderr
    assert f"! left out: one/dear: {DEAR.partition(', and')[0]}" in found.stdout
    assert f"! left out: one/lr (2 to be proposed): {LR}" in found.stdout  # as it was decided
    assert whole(home) == before


@pytest.mark.slow  # tests/execution/test_limits.py asks the same of the search alone
def test_a_raised_budget_goes_on_and_trains_nothing_again(home: Path) -> None:
    before, rows = states(home), known(home)
    told = json.loads(command(home, "check", "tiny.yaml", "--json", "--set", "budget.gpu_hours=12").stdout)
    assert told["forecast"]["gpu_hours"] == pytest.approx(109)  # 9 + 100 h are left
    found = command(home, "tiny.yaml", "--set", "budget.gpu_hours=12")
    assert found.returncode == 1 and "Traceback" not in found.stderr, found.stdout + found.stderr
    assert known(home)["one/dear"]["state"] == "finished"
    done = [rows[name]["digest"] for name in ("one/cheap", "one/last")]
    assert all(states(home)[digest] == before[digest] for digest in done)
    assert "! left out: one/dear" not in found.stdout
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("! left out: one/lr (2 to be proposed)")]
    assert "would cost 25.00 GPU-h" in line and line.endswith("of 12 GPU-h are spent")
