"""What a ledger knows of its trainings, as `plan.pace` wants it: their epochs, seconds, devices and settings."""

from __future__ import annotations

from orchestrator.ledger import Ledger
from orchestrator.plan.pace import Past
from orchestrator.records import TrialRecord


def pasts_of(ledger: Ledger) -> tuple[Past, ...]:
    """Every training of a ledger."""
    return tuple(past_of(ledger, record) for record in ledger.records())


def past_of(ledger: Ledger, record: TrialRecord) -> Past:
    """One of them."""
    kept = ledger.trial(record.digest) or {}
    return Past(
        digest=record.digest,
        phase=kept.get("phase", ""),
        experiment=kept.get("experiment", ""),
        state=record.state,
        epochs=len(record.epochs),
        seconds=record.seconds,
        workers=kept.get("workers", 1),
        gpus=kept.get("resources", {}).get("gpus"),
        fold=kept.get("fold"),
        config=kept.get("config", {}),
    )
