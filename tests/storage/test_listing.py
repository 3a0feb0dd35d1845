"""`runs`: what it lists, in which order, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workspaces import finish, study_of, write_plan

from orchestrator.__main__ import main
from orchestrator.records import TrialRecord


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = write_plan(tmp_path)
    study, ledger, trials = study_of(path)
    for name, level in (("one/a-seed0", 5), ("one/a-seed1", 8)):
        finish(study, ledger, trials[name], level)
    finish(study, ledger, trials["one/b"], 6, "failed")
    return path


def listed(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    assert main(["runs", *(str(word) for word in words), "--json"]) == 0
    return [row["name"].removeprefix("one/") for row in json.loads(capsys.readouterr().out)]


def test_filters_and_orders(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, plan) == ["a-seed0", "a-seed1", "a-seed2", "a-seed3", "b"]
    assert listed(capsys, plan, "--state", "finished", "--state", "failed") == ["a-seed0", "a-seed1", "b"]
    assert listed(capsys, plan, "--experiment", "b") == listed(capsys, plan, "--experiment", "one.b") == ["b"]
    # H of their best epochs: .5, .8, .6; the others have none and come last
    assert listed(capsys, plan, "--sort", "hmean") == ["a-seed1", "b", "a-seed0", "a-seed2", "a-seed3"]
    assert listed(capsys, plan, "--sort", "hmean", "--reverse") == ["a-seed0", "b", "a-seed1", "a-seed2", "a-seed3"]
    assert listed(capsys, plan, "--where", "hmean>=.6") == ["a-seed1", "b"]
    assert listed(capsys, plan, "--where", "hmean < 0.8", "--where", "epochs=1") == ["a-seed0", "b"]
    assert listed(capsys, plan, "--where", "age<1h") == ["a-seed0", "a-seed1", "b"]
    assert listed(capsys, plan, "--where", "age>1min", "--sort", "cost", "--limit", "1") == []
    assert listed(capsys, plan, "--where", "seconds=2s", "--limit", "1") == ["a-seed0"]


def test_a_workspace_lists_all_that_it_has(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, plan.parent / "w") == ["a-seed0", "a-seed1", "b"]


def test_a_row_says_where_things_lie_and_what_they_cost(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, ledger, trials = study_of(plan)
    with ledger.claim(trials["one/b"].digest, cpus=2):
        pass
    assert main(["runs", str(plan), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    done = rows["one/a-seed0"]
    assert done["maps"] == [str(path) for path in ledger.maps(done["digest"])] != []
    assert done["scores"] == list(ledger.score_names(done["digest"])) and len(done["scores"]) == 1
    assert Path(done["folder"]).is_dir()
    assert (rows["one/b"]["cost"], rows["one/b"]["cost_unit"]) == (
        ledger.record(rows["one/b"]["digest"]).cpu_s,
        "cpu_s",
    )
    assert TrialRecord("d", "finished", gpu_s=4.0, cpu_s=9.0).cost == (4.0, "gpu")
    assert main(["runs", str(plan)]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["trial", "digest", "state", "epochs", "H", "P", "R", "last", "H", "time", "cost", "age"]
    assert first.split()[:6] == ["one/a-seed0", done["digest"], "finished", "1", "0.5000", "1.0000"]
    assert done["last"] == done["best"] and done["incidents"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--state", "finishd"), "--state finishd: there is no such; did you mean `finished`?"),
        (("--experiment", "noe.a"), "--experiment noe.a: there is no such; did you mean `one.a`?"),
        (("--sort", "hmaen"), "--sort hmaen: there is no such; did you mean `hmean`?"),
        (("--where", "hmaen>1"), "--where hmaen: there is no such; did you mean `hmean`?"),
        (("--where", "hmean"), "--where hmean: must be a name, one of >= <= > < =, and a number, as cost<2h"),
        (("--where", "cost<2w"), "--where cost<2w: cost takes s, min, h or d, got 'w'"),
        (("--where", "hmean>1h"), "--where hmean>1h: hmean takes no unit, got 'h'"),
        (("--where", "cost<1-2"), "--where cost<1-2: '1-2' is no number"),
        (("--limit", "0"), "--limit 0: must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(
    plan: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str], told: str
) -> None:
    assert main(["runs", str(plan), *words]) == 2
    assert capsys.readouterr() == ("", told + "\n")
