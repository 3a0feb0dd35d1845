"""The commands that look at plans: `check`, `explain`, `diff`, and the switches that say which part of one is meant."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from orchestrator import commands
from orchestrator.commands import Answer


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
        expand(load(path, overrides), require_data=False, pages=False)
        for path, overrides in ((arguments.old, ()), (arguments.new, arguments.set))
    )
    found = difference(old, new, commands.states_of(new) if new.data is not None else {})
    return (commands.as_json(found.as_json()) if arguments.json else str(found)), 0


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
