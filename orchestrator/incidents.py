"""What befell a trial on its way, beside its epochs: half a batch at a time, and each time that it was started again.

    <workspace>/trials/<digest>/incidents.jsonl

One line each, appended and synced. None of it changes what is identified or compared; it says how a result came about.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["memory", "retry"]


@dataclass(frozen=True, slots=True)
class Incident:
    """One of them.

    Attributes:
        kind: `memory`: half a batch from here on; `retry`: started again after a failure that may not come again.
        epoch: epochs that the trial had then.
        reason: what failed, in one line.
        run: of the driver, in which retries are counted.
        time_ms: when.
    """

    kind: Kind
    epoch: int
    reason: str
    run: str = ""
    time_ms: int = 0

    def __str__(self) -> str:
        if self.kind == "memory":
            return self.reason
        return f"started again after epoch {self.epoch}: {self.reason}"


def append(folder: Path, incident: Incident) -> None:
    """Keep an incident of the trial in `folder`, with the time of now."""
    value = asdict(incident) | {"time_ms": time.time_ns() // 1_000_000, "reason": " ".join(incident.reason.split())}
    path = _path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            torn = stream.read(1) != b"\n"  # the trace of a kill: what follows must not become part of it
        else:
            torn = False
        stream.write(b"\n" * torn + json.dumps(value, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read(folder: Path) -> tuple[Incident, ...]:
    """The incidents of the trial in `folder`, in their order; a torn line is passed over."""
    path = _path(folder)
    found: list[Incident] = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            found.append(Incident(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return tuple(found)


def summary(incidents: Sequence[Incident]) -> str:
    """In one line, for tables; empty without any."""
    return "; ".join(str(incident) for incident in incidents)


def _path(folder: Path) -> Path:
    return folder / "incidents.jsonl"
