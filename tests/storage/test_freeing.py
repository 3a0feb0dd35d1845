"""`gc`: what goes and what stays, nothing without --yes, and a finished plan that stays finished."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from workspaces import STATE_BYTES, WEIGHT_BYTES, finish, study_of, write_plan

from detector.checkpoint import META, WEIGHTS
from detector.files import write_json
from orchestrator.__main__ import main
from orchestrator.errors import LedgerError
from orchestrator.evaluation.map_cache import hold
from orchestrator.evaluation.maps import ensure_maps
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Trial

ROOT = Path(__file__).resolve().parents[2]
# importing one of them ends the program
BARRED = "import sys; sys.modules.update(ray=None, torch=None, mlflow=None); import orchestrator.__main__ as m; "
# H of a page is 2r / (1 + r) for recall r and precision 1: it rises with the level, so levels rank
LEVELS = {"one/a-seed0": 5, "one/a-seed1": 8, "one/a-seed2": 6, "one/a-seed3": 7, "one/b": 4}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = write_plan(tmp_path)
    study, ledger, trials = study_of(path)
    assert set(trials) == set(LEVELS)
    for name, level in LEVELS.items():
        finish(study, ledger, trials[name], level)
    return path


def gc(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    assert main(["gc", *(str(word) for word in words), "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def going(found: dict[str, object], kind: str) -> set[str]:
    return {item["trial"] for item in found["items"] if item["kind"] == kind}  # type: ignore[attr-defined]


def with_weights(plan: Path) -> set[str]:
    _, ledger, trials = study_of(plan)
    return {name for name, trial in trials.items() if (ledger.folder(trial.digest) / "best" / WEIGHTS).exists()}


def test_nothing_goes_without_yes(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path for path in plan.parent.rglob("*") if path.is_file())
    assert main(["gc", str(plan), "--keep", "1"]) == 0
    out = capsys.readouterr().out
    # 3 weights of 1 kB, 5 states of 3 kB, and the maps of the 3
    assert "kB would be free; nothing was removed yet: add --yes" in out
    assert "1.0 kB  weights  one/a-seed0  not of the best 1, no ensemble has it" in out
    assert "stays    one/a-seed1  of the best 1 of one/a" in out
    assert sorted(path for path in plan.parent.rglob("*") if path.is_file()) == before


def test_the_best_of_each_experiment_stay_and_the_plan_stays_finished(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = gc(capsys, plan, "--keep", "2")
    assert going(shown, "weights") == going(shown, "maps") == {"one/a-seed0", "one/a-seed2"}
    assert going(shown, "state") == set(LEVELS)
    freed = gc(capsys, plan, "--keep", "2", "--yes")
    assert freed["freed"] == freed["bytes"] == shown["bytes"]
    maps = sum(item["bytes"] for item in freed["items"] if item["kind"] == "maps")  # type: ignore[attr-defined]
    assert freed["freed"] == 2 * WEIGHT_BYTES + 5 * STATE_BYTES + maps
    assert with_weights(plan) == {"one/a-seed1", "one/a-seed3", "one/b"}
    assert gc(capsys, plan, "--keep", "2")["items"] == []

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = f"{BARRED}sys.exit(m.main(sys.argv[1:]))"
    again = subprocess.run(
        [sys.executable, "-c", code, str(plan)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing left to do" in again.stdout and "champion: one/a-seed1" in again.stdout


def test_what_a_pool_would_choose_from_and_members_and_the_champion_stay(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = """\
      - {id: e, ensemble: {pool: "top(one.a, 3)", max_members: 3}}
"""
    wider = write_plan(plan.parent, "wider.yaml", more)
    found = gc(capsys, wider, "--keep", "1")
    assert going(found, "weights") == {"one/a-seed0"}
    assert found["kept"]["one/a-seed2"] == "in the pool of one/e"  # type: ignore[index]
    _, ledger, trials = study_of(plan)
    write_json(
        ledger.workspace / "ensembles" / "one-x" / "scores.json",
        {"members": [{"trial": trials["one/a-seed0"].digest, "name": "one/a-seed0", "weight": 1.0}]},
    )
    champion = {
        **dict.fromkeys(("hmean", "precision", "recall"), 0.5),
        **{"path": f"singles/{trials['one/a-seed2'].digest}", "kind": "single", "name": "s", "why": ""},
        **{"images": "i", "plan": "p", "format": 1},
    }
    write_json(ledger.workspace / "champion.json", champion)
    kept = gc(capsys, plan, "--keep", "1")["kept"]
    assert kept == {
        "one/a-seed0": "member of the ensemble one-x",
        "one/a-seed1": "of the best 1 of one/a",
        "one/a-seed2": "the champion",
        "one/b": "of the best 1 of one/b",
    }


def test_what_goes_on_or_is_not_scored_stays_and_what_was_pruned_goes(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, ledger, trials = study_of(plan)
    zero, two, three = (trials[f"one/a-seed{seed}"] for seed in (0, 2, 3))
    ledger.set_state(zero.digest, "failed", "no luck")
    ledger.set_state(two.digest, "pruned", "rung")
    for path in (ledger.folder(three.digest) / "scores").iterdir():
        path.unlink()
    found = gc(capsys, plan, "--keep", "1")
    assert going(found, "weights") == {"one/a-seed2"}
    assert "one/a-seed0" not in going(found, "state")
    assert found["kept"] == {
        "one/a-seed0": "failed: it may go on",
        "one/a-seed1": "of the best 1 of one/a",
        "one/a-seed3": "not scored yet",
        "one/b": "of the best 1 of one/b",
    }


def test_maps_go_only_if_asked_and_never_those_in_use(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, ledger, trials = study_of(plan)
    assert going(gc(capsys, plan, "--keep", "4"), "maps") == set()
    (used,) = ledger.maps(trials["one/b"].digest)
    with hold(used):
        found = gc(capsys, plan, "--keep", "4", "--maps", "--yes")
        assert going(found, "maps") == set(LEVELS)
        assert used.exists() and found["freed"] < found["bytes"]  # type: ignore[operator]
    assert [path.name for path in (ledger.workspace / "maps").iterdir()] == [used.name]


def test_links_in_mlflow_go_with_the_weights(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, ledger, trials = study_of(plan)
    weights = ledger.folder(trials["one/a-seed0"].digest) / "best" / WEIGHTS
    artifact = ledger.workspace / "mlflow" / "artifacts" / "0" / "run" / "artifacts" / "checkpoint" / WEIGHTS
    artifact.parent.mkdir(parents=True)
    artifact.hardlink_to(weights)
    found = gc(capsys, plan, "--keep", "3", "--yes")
    (item,) = [item for item in found["items"] if item["kind"] == "weights"]  # type: ignore[attr-defined]
    assert item["bytes"] == WEIGHT_BYTES and item["paths"] == [str(weights), str(artifact)]
    assert not artifact.exists()


def test_a_driver_is_not_disturbed(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger.open(study_of(plan)[0].workspace).drive():
        assert main(["gc", str(plan), "--keep", "1", "--yes"]) == 2
        assert "one driver a workspace" in capsys.readouterr().err
    assert with_weights(plan) == set(LEVELS)
    assert main(["gc", str(plan), "--keep", "0"]) == 2
    assert "--keep 0: must be 1 or more" in capsys.readouterr().err


def test_freed_weights_that_are_needed_are_told(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gc(capsys, plan, "--keep", "1", "--yes")
    study, ledger, trials = study_of(plan)
    assert study.datasets is not None

    def best(trial: Trial) -> Path:
        return ledger.folder(trial.digest) / "best"

    freed, kept = best(trials["one/a-seed0"]), best(trials["one/a-seed1"])
    told = rf"{freed}: these weights are needed again .* `gc` has freed them; remove {freed.parent} to train"
    with pytest.raises(LedgerError, match=told):
        ensure_maps([kept, freed], study.datasets.val, ledger.workspace)
    with pytest.raises(LedgerError, match=told):
        ledger.checkpoint(trials["one/a-seed0"].digest)
    assert ledger.checkpoint(trials["one/a-seed1"].digest) == kept
    assert (freed / META).exists() and (kept / WEIGHTS).stat().st_size == WEIGHT_BYTES
