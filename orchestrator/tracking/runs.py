"""A run as MLflow should show it: plain values, and the small conversions into them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Status = Literal["RUNNING", "FINISHED", "KILLED", "FAILED"]
SCORES: Final = ("hmean", "precision", "recall")


@dataclass(frozen=True, slots=True)
class Point:
    """A metric's value; NaN allowed. `time_ms` comes from the journal, never from the clock of the shipper."""

    name: str
    value: float
    time_ms: int
    step: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A file or folder to copy to artifact `path`: `source` (relative to the workspace, or absolute), or `text`."""

    path: str
    source: str | None = None
    text: str | None = None


@dataclass(slots=True)
class Run:
    """One run as it should be now; `points` and `uploads` hold what was not yet taken."""

    key: str
    name: str
    parent: str | None
    start_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    dataset: tuple[str, str] | None = None  # name, digest
    status: Status = "RUNNING"
    end_ms: int | None = None
    points: list[Point] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"optimizer": {"lr": 1e-3}}` as `{"optimizer.lr": "0.001"}`; lists as JSON."""
    found: dict[str, str] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            found |= flat(item, f"{prefix}{name}.")
        else:
            text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
            found[f"{prefix}{name}"] = text
    return found


def points(metrics: Mapping[str, float | None], time_ms: int, step: int) -> list[Point]:
    """One point a metric; None, which stands for NaN in the journal, becomes NaN again."""
    values = {name: math.nan if value is None else float(value) for name, value in metrics.items()}
    return [Point(name, value, time_ms, step) for name, value in values.items()]


def best_points(metrics: Mapping[str, float | None], time_ms: int, step: int) -> list[Point]:
    """`best_hmean`, `best_precision`, `best_recall`: the columns that every kind of run has in common."""
    return points({f"best_{name}": metrics[name] for name in SCORES if name in metrics}, time_ms, step)


def to_json(value: Any) -> str:
    """As a person reads it in MLflow's file view."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
