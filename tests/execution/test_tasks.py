"""Pieces of work on a real cluster of two CPUs: what is under way when one of them fails."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from orchestrator.execution.tasks import run_tasks

PIECES = 50


@dataclass(frozen=True, slots=True)
class Note:
    number: int
    folder: Path
    fails: bool = False


def write(note: Note, on_gpu: bool) -> None:
    (note.folder / f"{note.number:02d}-began").touch()
    time.sleep(0.2)
    if note.fails:
        raise ValueError(f"piece {note.number} cannot be done")
    (note.folder / f"{note.number:02d}-ended").touch()


@pytest.fixture(scope="module", autouse=True)
def notes_travel(two_cpus: None) -> None:
    """Ray's workers cannot import a test's module."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def notes_in(folder: Path, state: str) -> list[int]:
    return sorted(int(path.name[:2]) for path in folder.glob(f"*-{state}"))


@pytest.mark.parametrize("failing", [0, 7])
def test_a_fault_begins_nothing_more_and_waits_for_what_is_under_way(tmp_path: Path, failing: int) -> None:
    pieces = [Note(number, tmp_path, fails=number == failing) for number in range(PIECES)]
    done: list[int] = []
    with pytest.raises(ValueError, match=f"^piece {failing} cannot be done$"):
        run_tasks(write, pieces, lambda piece: done.append(piece.number))
    began, ended = notes_in(tmp_path, "began"), notes_in(tmp_path, "ended")
    assert len(began) < PIECES
    assert ended == [number for number in began if number != failing]
    assert set(done) <= set(ended)
    time.sleep(0.5)
    assert notes_in(tmp_path, "began") == began


def test_at_most_so_many_are_under_way(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(piece: Note) -> None:
        seen.append(len(notes_in(tmp_path, "began")) - len(notes_in(tmp_path, "ended")))

    run_tasks(write, [Note(number, tmp_path) for number in range(4)], look, at_most=1)
    assert seen == [0] * 4
    assert notes_in(tmp_path, "ended") == list(range(4))
