"""What driver and ranks tell each other by files in a trial's folder: stop or go on, and where the ranks are."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from detector.files import read_json, write_json
from orchestrator.ledger import Ledger

EPOCH, VALUE = "epoch", "hmean"  # what a trial reports to Tune


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
    ledger.remove(_word_path(ledger, digest))


def note_group(ledger: Ledger, digest: str, group: Any) -> None:
    """Keep the placement group of a trial's ranks, with the cluster that it belongs to."""
    import ray

    cluster = ray.get_runtime_context().gcs_address
    path = _group_path(ledger, digest)
    write_json(path, {"cluster": cluster, "group": group.id.hex()})
    ledger.keep(path)


def free_group(ledger: Ledger, digest: str) -> None:
    """Free the resources of a group that was noted; nothing happens where it is gone, or its cluster is."""
    path = _group_path(ledger, digest)
    ledger.bring(digest, path.name, ended=True)
    if not path.is_file():
        return
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    value = read_json(path)
    if value["cluster"] == ray.get_runtime_context().gcs_address:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(value["group"])))
    ledger.remove(path)


def _group_path(ledger: Ledger, digest: str) -> Path:
    return ledger.folder(digest) / "group.json"


def _word_path(ledger: Ledger, digest: str) -> Path:
    return ledger.folder(digest) / "word.json"
