"""The command line: `python -m orchestrator plans/x.yaml` runs a plan; other commands look, predict, score, serve.

Exit codes: 0 done; 1 a trial failed, a gate did not pass, or `data check` found problems; 2 the input is wrong;
130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from detector.errors import InputError
from orchestrator import (
    answering,
    commands,
    data_commands,
    exporting,
    freeing,
    fusing,
    listing,
    planning,
    predicting,
    submissions,
)

TIPS = """\
Tip: begin with `python -m orchestrator check plans/quickstart.yaml`, then leave `check` out to run it. The same command
again carries on where it was, and re-runs nothing that is finished.
Exit codes: 0 done; 1 a trial failed, a gate did not pass, or `data check` found problems; 2 the input is wrong;
130 interrupted."""
Handler = Callable[[argparse.Namespace], commands.Answer]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser, names = _parser()
    if words and words[0] not in names and not words[0].startswith("-"):
        if not _is_path(words[0]):
            close = difflib.get_close_matches(words[0], names, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(names)}"
            return _refuse(f"{words[0]}: neither a command nor a plan file; {hint}")
        words = ["run", *words]
    if not words:
        parser.print_help()
        return 0
    arguments = parser.parse_args(words)
    handler: Handler = arguments.handler
    try:
        text, code = handler(arguments)
        if text:
            print(text, flush=True)
        return code
    except InputError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command carries on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python must not complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _is_path(word: str) -> bool:
    return word.endswith((".yaml", ".yml")) or os.sep in word or Path(word).is_file()


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator",
        description="Plans of text-detection experiments: run, looked at, reported.",
        epilog=TIPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, handler: Handler, *, json_: bool = False) -> argparse.ArgumentParser:
        text = (handler.__doc__ or "").strip()
        made = sub.add_parser(name, help=text.rstrip("."), description=text)
        made.set_defaults(handler=handler)
        if json_:
            made.add_argument("--json", action="store_true", help="for machines")
        return made

    _plan_arguments(command("run", commands.run))
    made = command("check", planning.check, json_=True)
    _plan_arguments(made)
    planning.gpus_argument(made)
    planning.explain_arguments(command("explain", planning.explain, json_=True))
    planning.import_arguments(command("import", planning.import_roadmap))
    planning.diff_arguments(command("diff", planning.diff, json_=True))
    answering.arguments(command("answer", answering.answer))
    made = command("runs", listing.runs, json_=True)
    _plan_arguments(made, what="plan file (YAML), or workspace folder")
    listing.arguments(made)
    made = command("gc", freeing.gc, json_=True)
    _plan_arguments(made, only=False)
    freeing.arguments(made)
    made = command("report", commands.report)
    _plan_arguments(made, only=False)
    made.add_argument("--roadmap", metavar="ROADMAP.md", help="write measured scores and verdicts into its tables")
    predicting.arguments(command("predict", predicting.predict))
    exporting.arguments(command("export", exporting.export))
    fusing.arguments(command("fuse", fusing.fuse))
    text = "Check submissions; keep and compare leaderboard scores"
    submissions.arguments(sub.add_parser("submissions", help=text, description=f"{text}."))
    _score_arguments(command("score", commands.score, json_=True))
    made = command("schema", commands.schema)
    made.add_argument("-o", "--output", metavar="FILE", help="write it there")
    made = command("ui", commands.ui)
    made.add_argument("plan", metavar="PLAN", help="plan file, or workspace folder")
    made.add_argument("--port", type=int, default=5000, help="0 takes any free one (default 5000)")
    made = command("sync", commands.sync)
    made.add_argument("plan", metavar="PLAN", help="plan file, or workspace folder")
    data_commands.arguments(sub.add_parser("data", help="Make and check data", description="Make and check data."))
    return parser, list(sub.choices)


def _plan_arguments(parser: argparse.ArgumentParser, *, only: bool = True, what: str = "plan file (YAML)") -> None:
    parser.add_argument("plan", metavar="PLAN", help=what)
    planning.set_argument(parser)
    if only:
        planning.choice_arguments(parser)


def _score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictions", metavar="PREDICTIONS", help="submission .csv, or .json in the annotations' form")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help=".json in the competition's format")
    parser.add_argument("--variant", choices=("competition", "official"), default="competition", help="CLEval's rules")


if __name__ == "__main__":
    sys.exit(main())
