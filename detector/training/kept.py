"""Which epochs of a training are kept for a soup: the best K, in K + 1 slots, one of which is always free.

    <folder>/kept/<slot>/     a checkpoint

A new epoch goes to the free slot, and the resumable state that is saved after it says which epoch lies where. So
nothing that the last state names is ever written over: a training that is killed at any point goes on with the epochs
that it had kept, and keeps the same ones as a training that was left alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KEPT: Final = "kept"
SOUP, RECORD = "soup", "soup.json"  # what `detector.training.soup` makes of them


@dataclass(frozen=True, slots=True)
class Kept:
    """An epoch whose weights are kept: its validation `hmean`, and its slot."""

    epoch: int
    hmean: float
    slot: int


def with_epoch(kept: Sequence[Kept], epoch: int, hmean: float, most: int) -> tuple[Kept, ...]:
    """The best `most` of those kept and of a new epoch, best first; of equal ones the earlier is better.

    Args:
        kept: at most `most`, in slots below `most + 1`.
    """
    free = min(set(range(most + 1)) - {one.slot for one in kept})
    ranked = sorted([*kept, Kept(epoch, hmean, free)], key=lambda one: (-one.hmean, one.epoch))
    return tuple(ranked[:most])


def place_of(one: Kept) -> str:
    """Where the checkpoint of a kept epoch lies in its training's folder."""
    return f"{KEPT}/{one.slot}"


def forget_kept(folder: Path) -> None:
    """Remove all of them."""
    shutil.rmtree(folder / KEPT, ignore_errors=True)
