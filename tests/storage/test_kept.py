"""Kept epochs and soups in a workspace: what `gc` frees, what an object store has of them and when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from workspaces import WEIGHT_BYTES, finish, study_of, write_plan

from detector.checkpoint import CONFIG, META, WEIGHTS
from detector.config import Config
from detector.files import write_bytes, write_json
from orchestrator.__main__ import main
from orchestrator.evaluation.map_cache import hold
from orchestrator.evaluation.maps import digest_of
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Trial
from orchestrator.records import EpochRow
from orchestrator.storage.mirror import mirror_of
from orchestrator.storage.s3 import S3Store

KEPT_BYTES = 700
DIGEST = "00ff00ff00ff00ff"
TRIAL = Trial(DIGEST, "p/e-01", "p", "e", Config())


def write_model(folder: Path, digest: str, size: int) -> None:
    write_bytes(folder / WEIGHTS, bytes(size))
    write_json(folder / CONFIG, {})
    write_json(folder / META, {"format": 1, "digest": digest})


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Trials that ended with soups, and one that was pruned with the epochs it had kept."""
    path = write_plan(tmp_path)
    study, ledger, trials = study_of(path)
    assert study.datasets is not None
    for level, (name, trial) in enumerate(sorted(trials.items()), start=2):
        finish(study, ledger, trial, level, "pruned" if name == "one/b" else "finished")
        if name == "one/b":
            write_model(ledger.folder(trial.digest) / "kept" / "0", "0" * 32, KEPT_BYTES)
            continue
        weights = f"{level:016x}{trial.digest}"
        write_model(ledger.folder(trial.digest) / "soup", weights, WEIGHT_BYTES)
        maps = ledger.workspace / "maps" / f"{weights[:16]}-{digest_of(study.datasets.val)}"
        hold(maps).close()
        write_json(maps / "index.json", {})
        (key,) = (key for key in ledger.score_names(trial.digest) if key.startswith("val-"))
        ledger.put_scores(trial.digest, f"soup-{key}", ledger.scores(trial.digest, key))
    return path


def gc(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main(["gc", *(str(word) for word in words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_kept_epochs_go_with_the_state_and_soups_with_the_weights(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = gc(capsys, plan, "--keep", "2", "--yes")
    assert found["freed"] == found["bytes"]
    _, ledger, trials = study_of(plan)
    items = {(item["kind"], item["trial"]): item for item in found["items"]}
    folder = ledger.folder(trials["one/b"].digest)
    assert str(folder / "kept" / "0" / WEIGHTS) in items["state", "one/b"]["paths"]
    assert not (folder / "kept" / "0" / WEIGHTS).exists()
    gone, stays = (ledger.folder(trials[name].digest) for name in ("one/a-seed0", "one/a-seed3"))
    assert items["weights", "one/a-seed0"]["bytes"] == 2 * WEIGHT_BYTES
    assert not (gone / "soup" / WEIGHTS).exists() and (gone / "soup" / META).exists()
    assert (stays / "soup" / WEIGHTS).stat().st_size == WEIGHT_BYTES
    assert len(ledger.maps(trials["one/a-seed3"].digest)) == 2 and not ledger.maps(trials["one/a-seed0"].digest)
    assert gc(capsys, plan, "--keep", "2")["items"] == []


def test_a_trial_that_was_pruned_keeps_no_epochs(plan: Path) -> None:
    _, ledger, trials = study_of(plan)
    digest = trials["one/b"].digest
    ledger.set_state(digest, "queued", "interrupted")
    assert (ledger.folder(digest) / "kept" / "0" / WEIGHTS).exists()
    ledger.set_state(digest, "pruned", "rung")
    assert not (ledger.folder(digest) / "kept").exists()


def test_a_soup_that_is_not_scored_stays(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, ledger, trials = study_of(plan)
    for path in (ledger.folder(trials["one/a-seed0"].digest) / "scores").glob("soup-*"):
        path.unlink()
    assert gc(capsys, plan, "--keep", "1")["kept"]["one/a-seed0"] == "its soup is not scored yet"


def test_a_store_has_the_kept_epochs_while_they_are_needed_and_the_soup_after(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(mirror_of(s3_url))
    folder, store = ledger.folder(DIGEST), S3Store(s3_url)

    def names() -> set[str]:
        return {Path(listed.name).parts[2] for listed in store.list(f"trials/{DIGEST}/")}

    with ledger.drive():
        ledger.register(TRIAL)
        with ledger.claim(DIGEST):
            ledger.set_state(DIGEST, "running")
            for number in (1, 2):  # what `fit` does at an epoch's end, in its order
                write_model(folder / "best", f"{number:032x}", 10)
                write_model(folder / "kept" / str(number), f"{number:032x}", KEPT_BYTES)
                ledger.append_epoch(DIGEST, EpochRow(number, {"hmean": number / 10}, 1.0, number, True))
                write_bytes(folder / "last.safetensors", b"state %d" % number)
            monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "other"))
            there = Ledger.open(mirror_of(s3_url)).fetch(DIGEST)  # another machine that goes on
            assert {path.name for path in (there / "kept").iterdir()} == {"1", "2"}
            assert (there / "kept" / "1" / WEIGHTS).stat().st_size == KEPT_BYTES
            assert (there / "last.safetensors").read_bytes() in (b"state 1", b"state 2")
            for path in sorted((folder / "kept").rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            write_model(folder / "soup", "f" * 32, WEIGHT_BYTES)
            write_json(folder / "soup.json", {"epochs": [2, 1]})
            ledger.set_state(DIGEST, "finished")
    assert names() >= {"best", "soup", "soup.json", "state.json"} and "kept" not in names()
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "third"))
    later = Ledger.open(mirror_of(s3_url))
    assert later.model(DIGEST, soup=True) == "f" * 32 and not (later.folder(DIGEST) / "soup" / WEIGHTS).exists()
    assert (later.checkpoint(DIGEST, soup=True) / WEIGHTS).stat().st_size == WEIGHT_BYTES
