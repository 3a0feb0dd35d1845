"""The commands that look at plans: `check`, `explain`, `diff`, and the switches that say which part of one is meant."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import datetime
from pathlib import Path
from typing import Final

from detector.errors import InputError
from orchestrator import commands
from orchestrator.commands import Answer
from orchestrator.errors import PlanError

GPUS: Final = (1, 8, 64, 1000)  # cluster sizes that `check` tries where none are asked for


def check(arguments: Namespace) -> Answer:
    """Say what would run, what it costs and what is wrong; start nothing."""
    from orchestrator.evaluation.scatter import SCORES_FORMAT, scatter
    from orchestrator.ledger import Ledger
    from orchestrator.pasts import pasts_of
    from orchestrator.plan import preview
    from orchestrator.plan.advice import faint
    from orchestrator.plan.data import missing
    from orchestrator.plan.expand import expand
    from orchestrator.plan.forecast import forecast
    from orchestrator.plan.limits import limits
    from orchestrator.plan.loading import load
    from orchestrator.plan.pace import speaks_for
    from orchestrator.plan.preflight import preflight

    plan = load(arguments.plan, arguments.set, commands.chosen(arguments))
    study = commands.known(expand(plan, require_data=False, pages=False))
    ledger = Ledger.open(study.workspace)
    pasts = pasts_of(ledger) if study.data is not None else ()
    now = datetime.now().astimezone()
    coming = forecast(study, pasts, arguments.gpus, now)
    synthetic = plan.data.synthetic
    images = study.data.val if study.data is not None else synthetic.val if synthetic is not None else 0
    own = [ledger.folder(past.digest) for past in pasts if past.state == "finished" and speaks_for(past, study.data)]
    spread = scatter(own, images, f"-{plan.metric.variant}-{SCORES_FORMAT}") if images else {}
    smallest = {stat: found.smallest(images) for stat, found in spread.items()}
    doubts = (*faint(plan, images, smallest), *limits(plan, study, coming, now))
    looked = preflight(plan.data, study.workspace) if study.data is not None else None
    states = {past.digest: past.state for past in pasts}
    told = study, states, coming, doubts, missing(plan.data), looked
    return (commands.as_json(preview.as_json(*told)) if arguments.json else preview.text(*told)), 0


def explain(arguments: Namespace) -> Answer:
    """Say what a setting of an experiment is, and which line set it."""
    from orchestrator.plan.explain import explain as layers_of
    from orchestrator.plan.loading import load

    found = layers_of(load(arguments.plan, arguments.set), arguments.experiment, arguments.key)
    if arguments.json:
        return commands.as_json([item.as_json() for item in found]), 0
    return "\n".join(str(item) for item in found), 0


def diff(arguments: Namespace) -> Answer:
    """Compare two plans: which trainings would be reused, new, dropped."""
    from orchestrator.plan.difference import difference
    from orchestrator.plan.expand import expand
    from orchestrator.plan.loading import load

    old, new = (
        commands.known(expand(load(path, overrides), require_data=False, pages=False))
        for path, overrides in ((arguments.old, ()), (arguments.new, arguments.set))
    )
    found = difference(old, new, commands.states_of(new) if new.data is not None else {})
    return (commands.as_json(found.as_json()) if arguments.json else str(found)), 0


def import_roadmap(arguments: Namespace) -> Answer:
    """Make a plan file of a roadmap in Markdown tables."""
    from detector.files import write_text
    from orchestrator.plan.loading import load
    from orchestrator.plan.markdown import to_plan

    path, out = Path(arguments.roadmap), Path(arguments.output)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); check the path") from error
    if out.exists() and not arguments.force:
        raise InputError(f"-o {out}: exists already; choose another name or give --force")
    plan, notes = to_plan(text, path.stem, arguments.extends)
    write_text(out, plan)
    try:
        load(out)
    except PlanError as error:
        notes += str(error).splitlines()
    told = [f"-> {out}", *(f"  {note}" for note in notes)]
    return "\n".join([*told, f"Next: python -m orchestrator check {out}"]), 0


def import_arguments(parser: ArgumentParser) -> None:
    """Add what `import` takes."""
    parser.add_argument("roadmap", metavar="ROADMAP.md", help="headings are phases, rows of tables are experiments")
    parser.add_argument("-o", "--output", required=True, metavar="PLAN", help="the plan file to write (.yaml)")
    parser.add_argument("--extends", metavar="BASE", help="plan file with data and defaults, relative to PLAN")
    parser.add_argument("--force", action="store_true", help="write over an existing file")


def gpus_argument(parser: ArgumentParser) -> None:
    """Add `--gpus`."""
    parser.add_argument(
        "--gpus",
        type=_sizes,
        default=GPUS,
        metavar="N,N",
        help=f"sizes of the cluster to play the schedule through on (default {','.join(map(str, GPUS))})",
    )


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(","))
    if min(sizes) < 1:
        raise ArgumentTypeError(f"numbers of GPUs such as 1,8 expected, got {text!r}")
    return sizes


def explain_arguments(parser: ArgumentParser) -> None:
    """Add what `explain` takes."""
    parser.add_argument("plan", metavar="PLAN", help="plan file (YAML)")
    parser.add_argument("experiment", metavar="EXPERIMENT", help="its id, or phase.experiment")
    parser.add_argument(
        "key", metavar="KEY", nargs="?", help="optimizer.lr, optimizer, cost, ...; default: all settings"
    )
    set_argument(parser)


def diff_arguments(parser: ArgumentParser) -> None:
    """Add what `diff` takes."""
    parser.add_argument("old", metavar="A", help="plan file (YAML)")
    parser.add_argument("new", metavar="B", help="plan file (YAML); may be A again, with --set")
    set_argument(parser, of=" of B")


def set_argument(parser: ArgumentParser, of: str = "") -> None:
    """Add `--set`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"change a value{of}: phase2.unet.image_size=1280, phase2.*.max_epochs=2, defaults.batch_size=2, seed=1",
    )


def choice_arguments(parser: ArgumentParser) -> None:
    """Add `--only`, `--skip` and `--from`."""
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="ID",
        help="keep a phase, an experiment, or phase.experiment; may be given several times",
    )
    parser.add_argument("--skip", action="append", default=[], metavar="ID", help="leave one out; several times, too")
    parser.add_argument("--from", dest="start", metavar="ID", help="begin there; what runs before it is left out")
