"""What driver and ranks tell each other by files in a trial's folder: stop or go on, and where the ranks are."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from detector.files import read_json, write_json
from orchestrator.ledger import Ledger


class Word(Enum):
    """ASHA's decision on one epoch."""

    GO = "go"
    STOP = "stop"


def say(ledger: Ledger, digest: str, epoch: int, word: Word) -> None:
    """The driver's decision on an epoch."""
    path = _word_path(ledger, digest)
    write_json(path, {"epoch": epoch, "word": word.value})
    ledger.keep(path)


def heard(ledger: Ledger, digest: str, epoch: int) -> Word | None:
    """The decision on `epoch`, or None while there is none."""
    path = _word_path(ledger, digest)
    ledger.bring(digest, path.name)  # where the driver is on another machine
    if not path.exists():
        return None
    value = read_json(path)
    return Word(value["word"]) if value["epoch"] >= epoch else None


def forget(ledger: Ledger, digest: str) -> None:
    """Drop the words of an earlier attempt, which may repeat epochs."""
    _word_path(ledger, digest).unlink(missing_ok=True)


def group_path(ledger: Ledger, digest: str) -> Path:
    """Where the placement group of a trial's ranks is noted."""
    return ledger.folder(digest) / "group.json"


def _word_path(ledger: Ledger, digest: str) -> Path:
    return ledger.folder(digest) / "word.json"
