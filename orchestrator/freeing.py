"""`gc`: show what of a workspace nothing needs any more, and free it once told to."""

from __future__ import annotations

import argparse
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from detector.errors import InputError
from orchestrator.commands import Answer, aligned, as_json

if TYPE_CHECKING:
    from orchestrator.evaluation.freeing import Freeing

DESCRIPTION = """\
Free weights, resumable states and maps that nothing needs any more, after showing them.

What stays: the best --keep trials of each experiment, all members of ensembles, the champion, what the plan's own pools
would choose from, trials that may go on or are not scored yet; and every record, score and picture. So a finished plan
stays finished. Freed weights also go from MLflow's own store. An ensemble that is written later and wants freed weights
says so, with what to do."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `gc` takes beside the plan and `--json`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument(
        "--keep", type=int, default=3, metavar="K", help="weights of the best K of each experiment stay (default 3)"
    )
    parser.add_argument("--maps", action="store_true", help="free maps of what stays, too; they are computed again")
    parser.add_argument("--yes", action="store_true", help="remove it; without it nothing is removed")


def gc(arguments: Namespace) -> Answer:
    """Free weights, states and maps that nothing needs any more, after showing them."""
    from orchestrator.evaluation.freeing import free, freeing
    from orchestrator.evaluation.history import with_history
    from orchestrator.evaluation.review import review
    from orchestrator.ledger import Ledger
    from orchestrator.plan.expand import expand
    from orchestrator.plan.loading import load

    if arguments.keep < 1:
        raise InputError(f"--keep {arguments.keep}: must be 1 or more: the best of an experiment is what others need")
    study = expand(load(arguments.plan, arguments.set))
    ledger = Ledger.open(study.workspace)
    own = frozenset(phase.id for phase in study.phases)

    def decide() -> Freeing:
        return freeing(review(with_history(study, ledger), ledger, own), ledger, arguments.keep, maps=arguments.maps)

    found, freed = decide(), None
    if arguments.yes and found.items:
        with ledger.drive():  # no driver may count on what goes
            found = decide()
            freed = free(found, ledger)
    return (as_json(_json(found, freed)) if arguments.json else _text(found, freed)), 0


def _json(found: Freeing, freed: int | None) -> dict[str, Any]:
    items = [
        {"kind": i.kind, "trial": i.name, "bytes": i.size, "why": i.why, "paths": [str(path) for path in i.paths]}
        for i in found.items
    ]
    return {"bytes": found.size, "freed": freed, "items": items, "kept": dict(found.kept)}


def _text(found: Freeing, freed: int | None) -> str:
    if not found.items:
        return "nothing to free"
    rows = [(_bytes(item.size), item.kind, item.name, item.why) for item in found.items]
    kept = [("", "stays", name, why) for name, why in sorted(found.kept.items())]
    if freed is None:
        last = f"{_bytes(found.size)} would be free; nothing was removed yet: add --yes"
    else:
        last = f"{_bytes(freed)} freed"
        if freed < found.size:
            last += f"; {_bytes(found.size - freed)} are in use"
    return "\n".join([*aligned([*rows, *kept]), last])


def _bytes(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
