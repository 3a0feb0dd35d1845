"""Every plan in tests/plans/wrong against the exact messages beside it: all its faults, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load

WRONG = Path(__file__).resolve().parents[1] / "plans" / "wrong"


@pytest.mark.parametrize("name", sorted(path.stem for path in WRONG.glob("*.yaml")))
def test_wrong_plan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(WRONG)
    with pytest.raises(PlanError) as caught:
        expand(load(f"{name}.yaml"), require_data=False)
    assert str(caught.value) == (WRONG / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def test_every_message_belongs_to_a_plan() -> None:
    assert {path.stem for path in WRONG.glob("*.txt")} == {path.stem for path in WRONG.glob("*.yaml")}
