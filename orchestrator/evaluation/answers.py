"""What people answered to gates that ask, in the workspace: who, when, why, and on which numbers.

    <workspace>/answers/<phase>.json     a list, oldest first; the last one given on the numbers of today counts

An answer belongs to the condition and its values. Where either has changed since (a trial more, other data, another
gate), it settles nothing any more and the question is asked again; it stays in the file.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from detector.errors import DataError
from detector.files import read_json, write_json

Word = Literal["go-on", "stop"]
WORDS: Final[tuple[Word, ...]] = get_args(Word)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        word: `go-on` lets the phases that need this one run; `stop` lets them wait for good.
        by: the user's name on that machine.
        at: ISO 8601 with its offset.
        because: the reason, one line; may be empty.
        expression, state, numbers: the gate as it stood.
    """

    word: Word
    by: str
    at: str
    because: str
    expression: str
    state: str
    numbers: str

    def __str__(self) -> str:
        reason = f": {self.because}" if self.because else ""
        return f"answered {self.word} by {self.by}, {self.at}{reason}"


def give(
    workspace: Path, phase: str, word: Word, because: str, gate: tuple[str, str, str], by: str = "", at: str = ""
) -> Answer:
    """Record an answer.

    Args:
        gate: expression, state and numbers that the person saw.
        by: this process's user unless told; `at` now.
    """
    now = at or datetime.now().astimezone().isoformat(timespec="seconds")
    answer = Answer(word, by or user(), now, " ".join(because.split()), *gate)
    write_json(_path(workspace, phase), [*(asdict(old) for old in answers(workspace, phase)), asdict(answer)])
    return answer


def answers(workspace: Path, phase: str) -> tuple[Answer, ...]:
    """All answers on a phase, oldest first.

    Raises:
        DataError: the file is damaged.
    """
    path = _path(workspace, phase)
    if not path.exists():
        return ()
    found = read_json(path)
    if not isinstance(found, list):
        raise DataError(f"{path}: a list of answers expected; remove the file to be asked again")
    return tuple(_read(value, path) for value in found)


def standing(workspace: Path, phase: str, expression: str, numbers: str) -> Answer | None:
    """The last answer, if it was given on this condition with these values."""
    given = answers(workspace, phase)
    if not given or (given[-1].expression, given[-1].numbers) != (expression, numbers):
        return None
    return given[-1]


def user() -> str:
    """Who runs this process, by name where the machine knows one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return f"uid {os.getuid()}"


def _read(value: Any, path: Path) -> Answer:
    try:
        answer = Answer(**value) if isinstance(value, Mapping) else None
    except TypeError:
        answer = None
    if answer is None or answer.word not in WORDS:
        raise DataError(f"{path}: not an answer: {value!r}; remove the file to be asked again")
    return answer


def _path(workspace: Path, phase: str) -> Path:
    return workspace / "answers" / f"{phase}.json"
