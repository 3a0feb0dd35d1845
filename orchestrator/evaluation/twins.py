"""Trainings that should differ in fold or seed and came to the same weights: something has ignored the one or other.

Their average would be one model under several names. A network starts from its seed, so folds whose data nobody read
end exactly equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from detector.checkpoint import META, WEIGHTS, load_meta
from detector.errors import InputError
from orchestrator.evaluation.scores import Board
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Trial


def refuse_twins(trials: Sequence[Trial], ledger: Ledger, board: Board) -> None:
    """Compare the weights that the finished ones of these trainings came to.

    Raises:
        InputError: two are equal to the last bit.
    """
    first: dict[str, Trial] = {}
    for trial in trials:
        weights = _weights(trial, ledger) if trial.digest in board.scores else None
        if weights is None:
            continue
        twin = first.setdefault(weights, trial)
        if twin.digest != trial.digest:
            apart = [f"fold {one.fold}, seed {one.config.seed} ({one.digest})" for one in (twin, trial)]
            raise InputError(
                f"{ledger.workspace}: {twin.name} and {trial.name} came to the same weights, to the last bit, though "
                f"one is {apart[0]} and the other {apart[1]}: they are one training under two names, so something "
                "has ignored a fold or a seed; find it, then remove the folders of both below `trials` and run again"
            )


def _weights(trial: Trial, ledger: Ledger) -> str | None:
    """A digest of the tensors alone (a checkpoint's own covers its config, and so the seed, too); kept in the ledger.

    None where the weights were freed before anybody looked, or there are none.
    """
    folder = ledger.folder(trial.digest) / "best"
    if not (folder / META).is_file():
        return None
    key = f"weights-{load_meta(folder)['digest'][:16]}"
    saved = ledger.scores(trial.digest, key)
    if saved is not None:
        return str(saved["blake2b"])
    place = folder / WEIGHTS
    if ledger.url and not place.exists():
        place = ledger.best(trial.digest) / WEIGHTS
    if not place.exists():
        return None
    with place.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    try:
        ledger.put_scores(trial.digest, key, {"blake2b": found})
    except OSError:  # a report by someone who may not write here
        return found
    return found
