"""What each command does. A handler takes the parsed arguments and returns its answer: text for stdout, exit code.

A handler imports its room when it runs: `check`, `runs` and `score` load neither torch nor ray nor mlflow.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from detector.errors import InputError

Answer: TypeAlias = tuple[str, int]


def run(arguments: Namespace) -> Answer:
    """Run a plan, or carry on with it."""
    from orchestrator.run import run as run_plan

    return "", run_plan(arguments.plan, overrides=arguments.set, only=chosen(arguments))


def score(arguments: Namespace) -> Answer:
    """Score predictions against annotations."""
    from detector.metrics.report import score_files

    result = score_files(Path(arguments.predictions), Path(arguments.annotations), arguments.variant)
    if arguments.json:
        return as_json(result.as_json()), 0
    sets = (("CLEval macro", result.macro), ("CLEval micro", result.micro), ("IoU > 0.5", result.iou))
    cells = [
        (f"{len(result.counts)} images, {result.variant}", "H", "P", "R"),
        *((name, f"{s.hmean:.4f}", f"{s.precision:.4f}", f"{s.recall:.4f}") for name, s in sets),
    ]
    return "\n".join(aligned(cells)), 0


def schema(arguments: Namespace) -> Answer:
    """The JSON Schema of plan files."""
    from detector.files import write_text
    from orchestrator.plan.json_schema import json_schema

    content = as_json(json_schema())
    if arguments.output is None:
        return content, 0
    write_text(Path(arguments.output), content + "\n")
    return f"-> {arguments.output}", 0


def synth(arguments: Namespace) -> Answer:
    """Make synthetic receipts."""
    from detector.data.synthetic import make_pages

    folder = Path(arguments.folder)
    if (folder / "annotations.json").exists() and not arguments.force:
        raise InputError(f"{folder}: holds annotations already; choose another folder or give --force")
    reading = make_pages(folder, arguments.count, seed=arguments.seed, size=arguments.size)
    words = sum(len(page.words) for page in reading.pages)
    return f"{len(reading.pages)} pages, {words} words -> {folder / 'images'}, {folder / 'annotations.json'}", 0


def ui(arguments: Namespace) -> Answer:
    """Serve MLflow's pages over the workspace."""
    from orchestrator.tracking.views import ui as serve

    return "", serve(workspace_of(arguments), arguments.port, say=print_now)


def sync(arguments: Namespace) -> Answer:
    """Send what MLflow does not have yet."""
    from orchestrator.tracking.shipper import ship

    status = ship(workspace_of(arguments))
    return str(status), 0 if status.complete else 1


def report(arguments: Namespace) -> Answer:
    """Write the report again from the ledger."""
    from orchestrator.report.page import report as write_report

    roadmap = None if arguments.roadmap is None else Path(arguments.roadmap)
    paths = [*write_report(arguments.plan, overrides=arguments.set, roadmap=roadmap), *([roadmap] if roadmap else [])]
    return "\n".join(f"-> {path}" for path in paths), 0


def progress(items: Iterable[Any], what: str, total: int) -> Any:
    """The items one by one, with a bar on a terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description=what, total=total, console=Console(stderr=True))


def print_now(line: str) -> None:
    """A line on stdout at once, before a command that lasts is over."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# --- plans and ledgers -----------------------------------------------------------------------------------------------


def known(study: Any) -> Any:
    """The study with the trials that its sweeps have proposed so far."""
    from orchestrator.ledger import Ledger
    from orchestrator.plan.proposals import with_proposals

    return with_proposals(study, Ledger.open(study.workspace).proposals)


def chosen(arguments: Namespace) -> Sequence[str]:
    """What `--only`, `--skip` and `--from` leave of a plan, as arguments of `--only`; empty for all of it."""
    from orchestrator.plan.choice import choose
    from orchestrator.plan.expand import expand
    from orchestrator.plan.loading import load

    only: Sequence[str] = arguments.only
    if not arguments.skip and arguments.start is None:
        return only
    study = expand(load(arguments.plan, arguments.set, only), require_data=False, pages=False)
    return choose(study, arguments.skip, arguments.start)


def workspace_of(arguments: Namespace) -> Path:
    """The workspace of a plan, the folder itself, or what mirrors an s3:// URL here; a mirror is up to date then."""
    from orchestrator.plan import expand
    from orchestrator.plan.loading import load
    from orchestrator.storage.mirror import Mirror, is_url, mirror_of

    given = Path(arguments.plan)
    if is_url(arguments.plan):
        place = mirror_of(arguments.plan)
    else:
        place = given if given.is_dir() else expand.workspace_of(load(given, getattr(arguments, "set", ())))
    if (mirror := Mirror.of(place)) is not None:
        mirror.bring()
    return place


def states_of(study: Any) -> dict[str, str]:
    """State of every trial that the ledger knows."""
    from orchestrator.ledger import Ledger
    from orchestrator.plan.rows import digests

    ledger = Ledger.open(study.workspace)
    return {key: ledger.record(key).state for key in digests(study) if ledger.trial(key) is not None}


# --- text ------------------------------------------------------------------------------------------------------------


def as_json(value: Any) -> str:
    """A value as JSON for stdout."""
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)


def aligned(cells: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, columns one below the other."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))] if cells else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
