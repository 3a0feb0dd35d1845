"""Every plan in tests/plans/doubtful is allowed, with exactly the warnings beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.evaluation.scatter import RHO, SD, STATS, Scatter
from orchestrator.plan.advice import faint
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load

DOUBTFUL = Path(__file__).resolve().parents[1] / "plans" / "doubtful"
# What `check` would compute without scores in the ledger: 2.80 x .03 x sqrt(.6 / 404) = .0032.
IMAGES, SMALLEST = 404, dict.fromkeys(STATS, Scatter(SD, RHO, 0).smallest(404))


def warnings(name: str) -> str:
    plan = load(f"{name}.yaml")
    return "\n".join([*expand(plan, require_data=False).warnings, *faint(plan, IMAGES, SMALLEST)])


@pytest.mark.parametrize("name", sorted(path.stem for path in DOUBTFUL.glob("*.yaml")))
def test_doubtful_plan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOUBTFUL)
    assert warnings(name) == (DOUBTFUL / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def test_every_warning_belongs_to_a_plan() -> None:
    assert {path.stem for path in DOUBTFUL.glob("*.txt")} == {path.stem for path in DOUBTFUL.glob("*.yaml")}
