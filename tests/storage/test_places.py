"""What travels between machines that mirror a store: ledgers, pages, words to ranks, submissions, answers."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workspaces import finish, study_of, write_plan

from detector.data.index import PageIndex
from detector.files import write_bytes, write_text
from orchestrator.__main__ import main
from orchestrator.execution.training import send_datasets
from orchestrator.execution.words import Word, forget, heard, say
from orchestrator.ledger import Ledger
from orchestrator.records import EpochRow
from orchestrator.storage.mirror import mirror_of
from orchestrator.storage.places import Place, send
from orchestrator.storage.s3 import S3Store

DIGEST = "00ff00ff00ff00ff"


def arrive(data: bytes) -> Any:
    """What Ray does in a process of another machine."""
    return pickle.loads(data)  # noqa: S301 - our own bytes


class Elsewhere:
    """This process as another machine: the folder of its mirrors is another one."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch, self._folder = patch, folder

    def __call__(self, name: str) -> None:
        self._patch.setenv("ORCHESTRATOR_CACHE", str(self._folder / name))


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Elsewhere:
    return Elsewhere(monkeypatch, tmp_path)


def test_a_ledger_is_the_same_workspace_wherever_it_arrives(s3_url: str, tmp_path: Path, on: Elsewhere) -> None:
    folder = Ledger.open(tmp_path / "w")
    assert arrive(pickle.dumps(folder)) == folder
    here = Ledger.open(mirror_of(s3_url))
    data = pickle.dumps(here)
    on("b")
    there = arrive(data)
    assert there.url == here.url and there.workspace == mirror_of(s3_url) != here.workspace
    assert there.workspace.is_relative_to(tmp_path / "b")


@dataclass(frozen=True)
class Load:
    inside: Path
    outside: Path
    numbers: tuple[int, ...]


def test_what_is_sent_is_brought_and_its_paths_are_the_other_machines(
    s3_url: str, tmp_path: Path, on: Elsewhere
) -> None:
    place = Place.of(mirror_of(s3_url))
    write_bytes(place.workspace / "trials" / "a" / "best" / "model.safetensors", b"w")
    write_text(place.workspace / "data" / "x" / "page.txt", "page")
    write_text(tmp_path / "nfs" / "image.txt", "image")
    load = Load(place.workspace / "trials" / "a" / "best", tmp_path / "nfs" / "image.txt", (1, 2))
    reads = [load.inside, place.workspace / "data" / "x" / "page.txt", load.outside]
    data = pickle.dumps(send(load, place, reads))
    on("b")
    opened = arrive(data).open()
    there = mirror_of(s3_url)
    assert opened == Load(there / "trials" / "a" / "best", load.outside, (1, 2))
    assert (opened.inside / "model.safetensors").read_bytes() == b"w"
    assert (there / "data" / "x" / "page.txt").read_text() == "page"


def test_in_a_folder_that_all_see_nothing_is_packed(tmp_path: Path) -> None:
    load = Load(tmp_path / "a", tmp_path / "b", ())
    assert send(load, Place.of(tmp_path), [tmp_path / "a"]).open() is load


def test_pages_of_a_plan_come_along(s3_url: str, tmp_path: Path, on: Elsewhere) -> None:
    on("a")
    study, ledger, _ = study_of(write_plan(tmp_path, workspace=s3_url))
    assert study.datasets is not None
    data = pickle.dumps(send_datasets(study.datasets, ledger))
    (tmp_path / "a").rename(tmp_path / "unseen")
    on("b")
    opened = arrive(data).open()
    assert isinstance(opened.train, PageIndex) and opened.digest == study.datasets.digest
    assert opened.train.path.is_relative_to(tmp_path / "b")
    (tmp_path / "unseen").rename(tmp_path / "a")
    for mine, theirs in zip(study.datasets.val, opened.val, strict=True):
        assert theirs.path.is_relative_to(tmp_path / "b") and theirs.path.read_bytes() == mine.path.read_bytes()
        assert [word.id for word in mine.words] == [word.id for word in theirs.words]
        for one, other in zip(mine.words, theirs.words, strict=True):
            np.testing.assert_array_equal(one.polygon_V2, other.polygon_V2)


def test_words_reach_ranks_on_another_machine(s3_url: str, on: Elsewhere) -> None:
    on("a")
    driver = Ledger.open(mirror_of(s3_url))
    driver.set_state(DIGEST, "running")
    on("b")
    rank = Ledger.open(mirror_of(s3_url))
    assert heard(rank, DIGEST, 1) is None
    say(driver, DIGEST, 1, Word.GO)
    assert heard(rank, DIGEST, 1) is Word.GO and heard(rank, DIGEST, 2) is None
    say(driver, DIGEST, 2, Word.STOP)
    assert heard(rank, DIGEST, 2) is Word.STOP
    forget(rank, DIGEST)
    assert heard(rank, DIGEST, 1) is None


def test_a_row_is_told_after_the_state_of_the_epoch_before_it_is_safe(s3_url: str) -> None:
    ledger = Ledger.open(mirror_of(s3_url))
    for number in (1, 2):  # no thread keeps it meanwhile: the trial is not claimed
        ledger.append_epoch(DIGEST, EpochRow(number, {"hmean": 0.5}, 1.0, number))
        write_bytes(ledger.folder(DIGEST) / "last.safetensors", b"state %d" % number)
    assert S3Store(s3_url).read(f"trials/{DIGEST}/last.safetensors") == b"state 1"


def test_a_driver_does_not_put_its_old_rows_over_another_machines(s3_url: str, on: Elsewhere) -> None:
    on("a")
    driver = Ledger.open(mirror_of(s3_url))
    driver.append_epoch(DIGEST, EpochRow(1, {"hmean": 0.5}, 1.0, 1))
    write_text(driver.folder(DIGEST) / "epochs.jsonl", "")  # never kept: of a trial that was killed here
    on("b")
    trial = Ledger.open(mirror_of(s3_url))
    trial.append_epoch(DIGEST, EpochRow(2, {"hmean": 0.6}, 1.0, 2))
    driver.set_state(DIGEST, "pruned", "rung 2")
    assert (S3Store(s3_url).read(f"trials/{DIGEST}/epochs.jsonl") or b"").count(b"\n") == 2


def test_submissions_are_in_the_store_at_once_and_numbered_once(
    s3_url: str, tmp_path: Path, on: Elsewhere, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = write_plan(tmp_path, workspace=s3_url)
    for number, machine in enumerate(("a", "b", "a"), start=1):
        on(machine)
        file = tmp_path / f"{number}.csv"
        file.write_text(f"filename,polygons\na.jpg,0 0 {number} 0 {number} {number}\n")
        words = ["--hmean", "0.9", "--precision", "0.9", "--recall", "0.9"]
        assert main(["submissions", "add", str(file), "--plan", str(plan), *words]) == 0
        assert f"#{number}: public" in capsys.readouterr().out
        assert S3Store(s3_url).names("submissions") == [f"{known:06d}.json" for known in range(1, number + 1)]


def test_of_two_machines_that_add_at_once_each_gets_a_number(s3_url: str, tmp_path: Path) -> None:
    # the folders are made by hand: the environment is one for both threads
    places = [tmp_path / name / "w" for name in ("a", "b")]
    for place in places:
        write_text(place / ".store" / "url", s3_url)

    def create(place: Path) -> list[bool]:
        return [Place.of(place).store.create(f"submissions/{number:06d}.json", b"{}") for number in range(1, 6)]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(create, places)
    assert [one != other for one, other in zip(first, second, strict=True)] == [True] * 5


def test_an_answer_is_in_the_store_at_once(
    s3_url: str, tmp_path: Path, on: Elsewhere, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = "    gate: {pass: hmean(best) >= 0.99, otherwise: ask}\n"
    gate += "  - {id: two, needs: [one], experiments: [{id: c, set: {seed: 9}}]}"
    plan = write_plan(tmp_path, workspace=s3_url, more=gate)
    on("a")
    study, ledger, trials = study_of(plan)
    with ledger.drive():
        for level, trial in enumerate(trials.values(), start=3):
            if trial.phase == "one":
                finish(study, ledger, trial, level)
    on("b")
    assert main(["answer", str(plan), "one", "stop", "--because", "not worth it"]) == 0
    assert b"not worth it" in (S3Store(s3_url).read("answers/one.json") or b"")
    on("a")
    assert main(["answer", str(plan), "one", "go-on"]) == 0
    assert (S3Store(s3_url).read("answers/one.json") or b"").count(b'"word"') == 2
