"""The command that answers a gate which asks."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from orchestrator import planning
from orchestrator.commands import Answer


def answer(arguments: Namespace) -> Answer:
    """Answer a gate that asks: run what needs its phase all the same, or not."""
    from orchestrator.report.asking import answer_gate

    return answer_gate(arguments.plan, arguments.phase, arguments.word, arguments.because, arguments.set), 0


def arguments(parser: ArgumentParser) -> None:
    """Add what `answer` takes."""
    parser.add_argument("plan", metavar="PLAN", help="plan file (YAML)")
    parser.add_argument("phase", metavar="PHASE", help="whose gate did not pass and says `otherwise: ask`")
    parser.add_argument("word", choices=("go-on", "stop"), help="whether the phases that need it run")
    parser.add_argument("--because", default="", metavar="TEXT", help="the reason, kept with your name and the numbers")
    planning.set_argument(parser)
