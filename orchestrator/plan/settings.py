"""Keys of `defaults`, `set` and `sweep.space`: the knobs of `detector.config.Config`, plus `workers` and `resources`.

They may be written nested or dotted (`optimizer: {lr: 1e-3}` or `optimizer.lr: 1e-3`); a loaded plan has them nested.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from detector.config import Config, Settings
from orchestrator.plan.study import Resources

# Known before a trial starts to change how fast it learns or how long its schedule is, so that ASHA's comparison at
# one epoch misleads (docs/design: measured by simulation, "better configs learning slower").
SPEED = (
    "optimizer.lr",
    "optimizer.weight_decay",
    "optimizer.betas",
    "batch_size",
    "accumulate",
    "max_epochs",
    "workers",
)
SPEED_PREFIXES = ("schedule.",)
FROM_TOP = ("metric",)  # set by the plan's `metric`, for all trials alike


def _gpus(value: Any) -> float | None:
    if value is None or value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"`auto` or a number of GPUs >= 0 expected, got {value!r}")
    return float(value)


class ResourceSettings(Settings):
    """Where and how each worker of a trial computes; it changes no result but by rounding."""

    cpus: float = Field(1.0, gt=0.0, description="CPU cores a worker")
    gpus: Annotated[
        float | None,
        BeforeValidator(_gpus),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "minimum": 0}]}),
    ] = Field(
        None, description="GPUs a worker; `auto`: one, a share of one where workers outnumber the cluster's, or none"
    )
    compile: bool = Field(
        False, description="torch.compile: minutes at the start, rounding differs; no gain was measured on CPUs"
    )


class TrialSettings(Config):
    """All that a plan may set for a training."""

    workers: int = Field(1, ge=1, description="DDP ranks; the effective batch is batch_size x accumulate x workers")
    resources: ResourceSettings = ResourceSettings()

    def config(self) -> Config:
        """The detector's part."""
        return Config.model_validate(self.model_dump(exclude={"workers", "resources"}))

    def reserve(self) -> Resources:
        """The cluster's part."""
        return Resources(**self.resources.model_dump())


def validate(data: Mapping[str, Any]) -> TrialSettings:
    """Nested settings, checked strictly: no text for numbers, no true for 1. Raises pydantic's ValidationError."""
    # By way of JSON, since strict Python input refuses lists for tuples.
    return TrialSettings.model_validate_json(json.dumps(data), strict=True)


@cache
def leaves() -> Mapping[str, type]:
    """Dotted key -> its annotated type, for every knob that a plan may set."""
    return dict(_leaves(TrialSettings, ""))


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            if name not in FROM_TOP:
                yield from _leaves(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info.annotation


def groups() -> frozenset[str]:
    """Dotted keys that hold further keys: `optimizer`, `schedule`, ..."""
    return frozenset(key.rpartition(".")[0] for key in leaves() if "." in key)


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def flat_knobs(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys, down to the knobs: what a `space` says of one may be a mapping of its own."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        below = isinstance(value, Mapping) and prefix + key not in leaves()
        out |= flat_knobs(value, f"{prefix}{key}.") if below else {prefix + key: value}
    return out


def nested(data: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested settings."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        *parents, last = key.split(".")
        home = out
        for parent in parents:
            home = home.setdefault(parent, {})
        home[last] = value
    return out


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested `over` upon nested `base`, key by key."""
    return nested(flat(base) | flat(over))


def changes_speed(key: str) -> bool:
    """Whether a knob changes the speed of learning or the length of the schedule."""
    return key in SPEED or key.startswith(SPEED_PREFIXES)
