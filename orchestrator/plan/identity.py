"""Identity of a training: a digest of everything that changes its result, and of nothing else."""

from __future__ import annotations

import json
from hashlib import blake2b

from detector.config import Config
from detector.version import TRAINING

# Settings that came later: at this value trainings are what they were without them.
ADDED = {"patience_from": 0, "keep_epochs": 0}
UNKNOWN_DATA = "?"  # stands for the data's digest where the data is not there; such a digest matches no record


def digest(config: Config, data: str, fold: int | None = None, workers: int = 1, folds: str = "") -> str:
    """16 hex digits (64 bits) over config, data, fold, workers and the version of the training code.

    Args:
        config: resolved, defaults and seed included.
        data: digest of the pages that are learned from and validated on.
        fold: the fold left out, or None.
        workers: DDP ranks; they change the effective batch.
        folds: digest of which page is in which fold; it counts only with a fold.
    """
    settings = {k: v for k, v in config.model_dump(mode="json").items() if k not in ADDED or v != ADDED[k]}
    parts = {
        "config": settings,
        "data": data,
        "fold": None if fold is None else [fold, folds],
        "workers": workers,
        "training": TRAINING,
    }
    return short(json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode())


def short(content: bytes) -> str:
    """16 hex digits: among 10,000 trials two are equal by chance with probability 3e-12."""
    return blake2b(content, digest_size=8).hexdigest()
