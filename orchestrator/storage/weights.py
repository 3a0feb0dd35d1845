"""Weights that `gc` may have freed."""

from __future__ import annotations

from pathlib import Path

from detector.checkpoint import META, WEIGHTS
from orchestrator.errors import LedgerError


def weights_in(checkpoint: Path) -> Path:
    """`checkpoint`, unless its weights were freed: LedgerError then."""
    if (checkpoint / META).is_file() and not (checkpoint / WEIGHTS).exists():
        raise LedgerError(
            f"{checkpoint}: these weights are needed again (by a new ensemble, or to score under other rules), but "
            f"`gc` has freed them; remove {checkpoint.parent} to train that trial anew, or leave it out of the pool"
        )
    return checkpoint
