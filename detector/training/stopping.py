"""When a training ends by itself: pure functions of what validation said.

They stand apart from the loop, and load no torch, since a driver that may stop a training as well (ASHA) must know
which epoch is the last one anyway.
"""

from __future__ import annotations

from typing import Literal

from detector.config import Config

Over = Literal["budget", "patience"]


def improves(hmean: float, best: float | None, config: Config) -> bool:
    """Whether an epoch is the best so far: the first is, a later one by more than `min_delta`."""
    return best is None or hmean > best + config.min_delta


def over(epoch: int, best_epoch: int, config: Config) -> Over | None:
    """Why a training ends after `epoch` epochs, the best of which was `best_epoch`; None where it goes on."""
    if epoch >= config.max_epochs:
        return "budget"
    if config.patience and epoch - best_epoch >= config.patience and epoch >= config.patience_from:
        return "patience"
    return None
