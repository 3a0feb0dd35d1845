"""The journal's file: one event a line, appended and synced, so that a crash costs at most the line being written.

A line is a JSON object {"seq", "time_ms", "kind", "key", ...payload}: `seq` counts from 1 without gaps, `time_ms` is
Unix time in milliseconds, and a (kind, key) stands in a journal once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.errors import LedgerError

JOURNAL = "journal.jsonl"
HEAD = frozenset({"seq", "time_ms", "kind", "key"})


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        seq: its number in the journal, from 1.
        time_ms: when it was written, Unix time in ms.
        kind: what happened: `journal`, `study`, `environment`, `data`, `attempt`, `phase`, `experiment`,
            `trial_started`, `epoch`, `trial_ended`, `pictures`, `ensemble`, `folds`, `decision`, `submission`,
            `finished`.
        key: unique within its kind.
        payload: plain JSON values.
    """

    seq: int
    time_ms: int
    kind: str
    key: str
    payload: Mapping[str, Any]

    def line(self) -> bytes:
        """The event as it stands in the file, newline included."""
        head = {"seq": self.seq, "time_ms": self.time_ms, "kind": self.kind, "key": self.key}
        if taken := HEAD & self.payload.keys():
            raise ValueError(
                f"payload of {self.kind} {self.key}: {sorted(taken)} are the event's own names; rename them"
            )
        return json.dumps(head | dict(self.payload), ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Events from byte `offset` on, each with the offset behind it; a torn last line is left out.

    Raises:
        LedgerError: a line other than the last is not an event.
    """
    if not path.exists():
        return
    with path.open("rb") as stream:
        stream.seek(offset)
        end = offset
        broken = False
        for line in stream:
            if broken:
                raise LedgerError(
                    f"{path}: byte {end}: a journal holds one JSON event a line, and this line is none although others "
                    "follow it; restore the file from a backup, or move it away: a new one is then begun"
                )
            event = _parse(line)
            if event is None:
                broken = True  # torn if nothing follows, damage if something does
                continue
            end += len(line)
            yield event, end


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: dataclasses and models as objects, paths as text, NaN and infinities as None.

    Raises:
        TypeError: a value of another kind.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, (Path, date)):
        return str(value)
    if callable(convert := getattr(value, "tolist", None)):  # numpy's scalars and arrays, without importing numpy
        return plain(convert())
    raise TypeError(f"a journal holds plain values, got {type(value).__name__}: {value!r}")


def _parse(line: bytes) -> Event | None:
    if not line.endswith(b"\n"):
        return None
    try:
        value = json.loads(line)
        head = {name: value.pop(name) for name in ("seq", "time_ms", "kind", "key")}
        return Event(int(head["seq"]), int(head["time_ms"]), str(head["kind"]), str(head["key"]), value)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
