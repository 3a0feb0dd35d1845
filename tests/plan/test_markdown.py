"""Roadmaps in Markdown: tables to a plan that loads, and outcomes back into the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.__main__ import main
from orchestrator.plan.loading import load
from orchestrator.plan.markdown import sections, slug, to_plan, with_outcomes
from orchestrator.plan.study import Effect

ROADMAP = """\
# Receipts roadmap

Baseline: H .9755, P .9833, R .9688

## Phase 1: Quick wins

Target: H .9780, R .9720

| Experiment | Settings | Expected H | Cost | Priority | Why |
|:---|---|---|---:|---|---|
| baseline | | | 1.5h | | |
| Early stopping | `patience=3` | +.003..+.005 | 90min | 1 | 17 epochs: whatever happens |
| **1024 px** | image_size=1024, optimizer.lr: 1e-3 | (+.0025) | 1h | P2 | a \\| b |

Gate: `ci_low(best - baseline) > 0`

Some words | that are no table.

## Phase 2: Architecture
Needs: Phase 1

| name | change | settings | effect | remarks |
|---|---|---|---|---|
| resnet | ResNet50 instead of HRNet | encoder=resnet50, augment.scale=[0.9, 1.1] | .9800 – .9810 | new |
| best | | seed=1 | .9820+ | |
"""


@pytest.fixture
def plan_path(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("data: {synthetic: {train: 2, val: 1}}\n")
    (tmp_path / "ROADMAP.md").write_text(ROADMAP)
    return tmp_path / "plan.yaml"


def test_a_roadmap_becomes_a_plan_that_loads(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["import", str(plan_path.parent / "ROADMAP.md"), "-o", str(plan_path)]
    assert main([*words, "--extends", "base.yaml"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"-> {plan_path}",
        "  phase2: column `remarks` is left out",
        f"Next: python -m orchestrator check {plan_path}",
    ]
    plan = load(plan_path)
    assert (plan.roadmap, plan.baseline.given()) == (
        "receipts_roadmap",
        {"hmean": 0.9755, "precision": 0.9833, "recall": 0.9688},
    )
    one, two = plan.phases
    assert (one.id, one.what, one.target.given()) == ("phase1", "Quick wins", {"hmean": 0.978, "recall": 0.972})
    assert one.gate is not None and one.gate.condition == "ci_low(best - baseline) > 0"
    assert (two.id, two.needs) == ("phase2", ("phase1",))
    rows = {item.id: item for phase in plan.phases for item in phase.experiments}
    assert list(rows) == ["baseline", "early_stopping", "1024_px", "resnet", "best"]
    early = rows["early_stopping"]
    assert (early.what, early.why, early.cost) == ("Early stopping", "17 epochs: whatever happens", 1.5)
    assert (early.changes, early.expect) == ({"patience": 3}, (Effect("hmean", 0.003, 0.005, True),))
    assert rows["1024_px"].changes == {"image_size": 1024, "optimizer": {"lr": 1e-3}}
    assert (rows["1024_px"].priority, rows["1024_px"].why) == (2, "a | b")
    assert rows["resnet"].changes == {"encoder": "resnet50", "augment": {"scale": [0.9, 1.1]}}
    assert rows["resnet"].expect == (Effect("hmean", 0.98, 0.981, False),)
    assert rows["best"].expect == (Effect("hmean", 0.982, 1.0, False),)
    assert main(words) == 2 and "--force" in capsys.readouterr().err


def test_what_is_not_understood_is_said_with_its_row(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = (
        "| id | set | expect | cost |\n|---|---|---|---|\n| a | faster | much | days |\n| | x | | |\n| b | lr=1 | | |\n"
    )
    (plan_path.parent / "ROADMAP.md").write_text(table)
    assert main(["import", str(plan_path.parent / "ROADMAP.md"), "-o", str(plan_path), "--extends", "base.yaml"]) == 0
    told = capsys.readouterr().out.splitlines()[1:-1]
    assert told == [
        "  phase1.a: `key=value, key=value` expected as settings, got 'faster'",
        "  phase1.a: +0.003..+0.005 or >= 0.982 expected as effect, got 'much'",
        "  phase1.a: GPU-hours such as 4h, 90min or 1.5 expected, got 'days'",
        "  phase1: a row without a name is left out:  | x |  | ",
        f"  {plan_path}:10:15: phases[0].experiments[1].set.lr: unknown key `lr`; did you mean `optimizer.lr`?",
    ]


def test_a_text_without_tables_says_so(plan_path: Path) -> None:
    text, notes = to_plan("# x\nwords\n", "x")
    assert "phases:" in text and notes[-1] == "no table with a column `experiment` was found"
    assert main(["import", str(plan_path.parent / "none.md"), "-o", str(plan_path)]) == 2


def test_outcomes_are_written_into_the_rows_they_belong_to() -> None:
    outcomes = {"phase1": {"early_stopping": (".9790 | +.0035", "confirmed"), "1024_px": (".9750", "refuted")}}
    text, filled = with_outcomes(ROADMAP, outcomes)
    assert filled == 2
    (table,) = next(part for part in sections(text) if slug(part.title) == "phase1").tables
    assert table.header[-2:] == ["measured", "verdict"]
    assert [cells[-2:] for _, cells in table.rows] == [
        ["", ""],
        [".9790 | +.0035", "confirmed"],
        [".9750", "refuted"],
    ]
    # Again with other outcomes: the same columns; all else stands as it was.
    again, _ = with_outcomes(text, {"phase1": {"early_stopping": (".9791", "undecided")}})
    (table,) = next(part for part in sections(again) if slug(part.title) == "phase1").tables
    assert table.header.count("measured") == 1
    assert [cells[-2:] for _, cells in table.rows][1:] == [[".9791", "undecided"], [".9750", "refuted"]]
    outside = [line for line in ROADMAP.splitlines() if not line.startswith("|")]
    assert [line for line in again.splitlines() if not line.startswith("|")] == outside
    assert to_plan(again, "x", "base.yaml") == to_plan(ROADMAP, "x", "base.yaml")


@given(st.text(max_size=200))
def test_any_text_is_read_without_a_failure(text: str) -> None:
    to_plan(text, "x")
    assert with_outcomes(text, {}) == (text, 0)
