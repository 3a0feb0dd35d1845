"""Outcomes written back into a roadmap's tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.errors import InputError
from orchestrator.evaluation.decisions import Decision, Outcome
from orchestrator.evaluation.statistics import Interval
from orchestrator.report.roadmap import write_outcomes

SCORES = {"hmean": 0.979, "precision": 0.98, "recall": 0.978}
DECISION = Decision(
    phase="phase1",
    baseline="phase1/baseline",
    best="phase1/early",
    scores=None,
    outcomes=(
        Outcome("baseline", "", "train", "phase1/baseline", {**SCORES, "hmean": 0.975}, 1, None, (), None),
        Outcome("early", "", "train", "phase1/early", SCORES, 1, Interval(0.004, 0.001, 0.007), (), "confirmed"),
        Outcome("late", "", "train", None, None, 0, None, (), None, "not trained yet"),
    ),
    targets=(),
    gate=None,
)
ROADMAP = """\
# Receipts
## Phase 1: Quick wins
| experiment | expected |
|---|---|
| baseline | |
| Early | +.003 |
| late | |
| unknown | +.1 |

Words stay.
"""


def test_measured_scores_and_verdicts_stand_in_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "ROADMAP.md"
    path.write_text(ROADMAP)
    assert write_outcomes(path, [DECISION]) == 3
    assert (
        path.read_text()
        == """\
# Receipts
## Phase 1: Quick wins
| experiment | expected | measured | verdict |
| --- | --- | --- | --- |
| baseline |  | 0.9750 | - |
| Early | +.003 | 0.9790 (+0.0040 [+0.0010, +0.0070]) | confirmed |
| late |  | not trained yet | - |
| unknown | +.1 |  |  |

Words stay.
"""
    )
    once = path.read_text()
    write_outcomes(path, [DECISION])
    assert path.read_text() == once


def test_a_roadmap_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ROADMAP.md"
    path.write_text(ROADMAP.replace("Phase 1", "Phase 2"))
    with pytest.raises(InputError, match="no table has a row of this plan's phases"):
        write_outcomes(path, [DECISION])
    with pytest.raises(InputError, match="cannot be read"):
        write_outcomes(tmp_path / "none.md", [DECISION])
