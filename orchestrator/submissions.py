"""The `submissions` commands: check a file, keep a leaderboard's score of it, hold that against the local one."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.errors import InputError
from orchestrator import commands
from orchestrator.commands import Answer, workspace_of

if TYPE_CHECKING:
    from detector.data.word_counts import WordCounts
    from detector.types import Page
    from orchestrator.evaluation.following import Agreement, Budget
    from orchestrator.evaluation.plausible import Shown
    from orchestrator.evaluation.submitted import Submission


def arguments(parser: ArgumentParser) -> None:
    """Add the commands under `submissions`."""
    sub = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _check_arguments(sub.add_parser("check", help="look a file over before it is sent", description=check.__doc__))
    _add_arguments(sub.add_parser("add", help="keep a leaderboard's score of a file", description=add.__doc__))
    made = sub.add_parser("list", help="local scores against the leaderboard's", description=list_.__doc__)
    made.set_defaults(handler=list_)
    made.add_argument("plan", metavar="PLAN", help="plan file (with its `budget.submissions`), or workspace folder")
    made.add_argument("--json", action="store_true", help="for machines")


def _check_arguments(parser: ArgumentParser) -> None:
    parser.set_defaults(handler=check)
    parser.add_argument("file", metavar="FILE", help="submission .csv")
    parser.add_argument("--images", metavar="DIR", help="the test images; default: those of the plan")
    parser.add_argument("--plan", metavar="PLAN", help="whose training set the number of boxes is held against")
    parser.add_argument("--json", action="store_true", help="for machines; all findings")


def _add_arguments(parser: ArgumentParser) -> None:
    parser.set_defaults(handler=add)
    parser.add_argument("file", metavar="FILE", help="the .csv that was submitted")
    parser.add_argument("--plan", required=True, metavar="PLAN", help="plan file, or workspace folder")
    for name in ("hmean", "precision", "recall"):
        parser.add_argument(f"--{name}", required=True, type=_score, metavar="0..1", help="as the leaderboard shows it")
    board = parser.add_mutually_exclusive_group()
    board.add_argument("--public", dest="board", action="store_const", const="public", default="public", help="default")
    board.add_argument("--private", dest="board", action="store_const", const="private")
    parser.add_argument("--note", default="", metavar="TEXT", help="kept with it")
    parser.add_argument("--at", type=_time, metavar="TIME", help="ISO 8601 with offset; default: now")
    parser.add_argument("--force", action="store_true", help="another score than the one that is kept: the last counts")


def check(arguments: Namespace) -> Answer:
    """Look a submission over: every image, integers, inside the image, numbers of boxes. Exit code 1 on faults."""
    from detector.data.check_submission import check_submission

    path = Path(arguments.file)
    if path.suffix.lower() == ".json":
        raise InputError(f"{path}: a submission is a .csv file; `predict -o NAME.csv` writes one")
    pages, training = _set_of(arguments)
    checked = check_submission(path, pages, training)
    code = 0 if checked.sound else 1
    if arguments.json:
        findings = [{**asdict(finding), "fault": finding.is_fault} for finding in checked.findings]
        head = {"file": str(path), "images": checked.images, "rows": checked.rows, "boxes": checked.boxes}
        return commands.as_json({**head, "sound": checked.sound, "findings": findings}), code
    word = "nothing is wrong" if checked.sound else "must not be sent so"
    head_line = f"{path}: {checked.rows} rows for {checked.images} images, {checked.boxes} boxes: {word}"
    return "\n".join([*checked.lines(), head_line]), code


def add(arguments: Namespace) -> Answer:
    """Keep what a leaderboard said of a file, with the model that made it and that model's scores here."""
    from orchestrator.evaluation.answers import user
    from orchestrator.evaluation.local import local_of, outoffold_of
    from orchestrator.evaluation.plausible import implausible
    from orchestrator.evaluation.submitted import Submission, add_submission, file_facts, find_made, submissions

    path, workspace = Path(arguments.file), workspace_of(arguments)
    facts = file_facts(path)
    made = find_made(workspace, facts)
    at = (arguments.at or datetime.now().astimezone()).isoformat(timespec="seconds")
    new = Submission(
        0,
        at,
        arguments.board,
        str(path),
        facts,
        arguments.hmean.value,
        arguments.precision.value,
        arguments.recall.value,
        " ".join(arguments.note.split()),
        user(),
        made,
        None if made is None else local_of(workspace, made.model),
        None if made is None else outoffold_of(workspace, made.model),
    )
    doubt = implausible(arguments.hmean, arguments.precision, arguments.recall)
    told = [f"! {doubt}; look at the numbers again (--force corrects them)"] if doubt else []
    old = [one for one in submissions(workspace) if (one.file.sha256, one.board) == (facts.sha256, new.board)]
    if old and (old[-1].hmean, old[-1].precision, old[-1].recall) == (new.hmean, new.precision, new.recall):
        return f"#{old[-1].number}: is kept already, with these scores", 0
    if old and not arguments.force:
        was = old[-1]
        raise InputError(
            f"{path}: has a {new.board} score already (#{was.number}, H {was.hmean:.4f} P {was.precision:.4f} R "
            f"{was.recall:.4f}, {was.at}); give --force if that one was wrong: both stay, the last counts"
        )
    kept = add_submission(workspace, new)
    told += [f"#{kept.number}: {kept.board} H {kept.hmean:.4f}; {_about(kept)}", *_tell(workspace)]
    spent = _spent(submissions(workspace), _budget(arguments.plan))
    return "\n".join([*told, str(spent)]), 0


def list_(arguments: Namespace) -> Answer:
    """Compare scores here with the leaderboard's: their ranks, what is left of the budget, choices that follow it."""
    from detector.inference.described import describe
    from orchestrator.evaluation.champion import read_champion
    from orchestrator.evaluation.following import warnings
    from orchestrator.evaluation.submitted import submissions

    workspace = workspace_of(arguments)
    found, budget = submissions(workspace), _budget(arguments.plan)
    champion = read_champion(workspace)
    folder = None if champion is None else workspace / champion.path
    told = warnings(found, describe(folder).digest if folder is not None and folder.is_dir() else None, budget)
    spent = _spent(found, budget)
    ranks = _ranks(found)
    if arguments.json:
        value = {
            "submissions": [one.as_json() for one in found],
            "ranks": {board: asdict(kinds["local"]) for board, kinds in ranks.items()},
            "ranks_outoffold": {board: asdict(kinds["outoffold"]) for board, kinds in ranks.items()},
            "budget": {
                "used": spent.total,
                "left": spent.left,
                "used_today": spent.today,
                "left_today": spent.left_today,
                **asdict(budget),
            },
            "warnings": told,
        }
        return commands.as_json(value), 0
    if not found:
        return f"no submissions yet; {spent}", 0
    scores = ("local H", "board - local", "oof H", "board - oof")
    head = ("#", "submitted", "board", "H", "P", "R", *scores, "model", "note")
    lines = [*commands.aligned([head, *(_cells(one) for one in found)]), ""]
    for board, kinds in ranks.items():
        lines.append(f"{board} against local H: {kinds['local']}")
        if kinds["outoffold"].count:
            lines.append(f"{board} against out-of-fold H: {kinds['outoffold']}")
    lines.append(str(spent))
    return "\n".join([*lines, *(f"! {text}" for text in told)]), 0


# --- what stands behind them -----------------------------------------------------------------------------------------


def _set_of(arguments: Namespace) -> tuple[Sequence[Page], WordCounts | None]:
    """The images that a file is for, and what is known of the training set."""
    from detector.data.formats import read_images
    from detector.data.word_counts import word_counts
    from orchestrator.plan.data import read_datasets
    from orchestrator.plan.expand import workspace_of as workspace_of_plan
    from orchestrator.plan.loading import load

    pages: Sequence[Page] = () if arguments.images is None else read_images(Path(arguments.images))
    if arguments.plan is None:
        if not pages:
            raise InputError("submissions check: of which images? give --images DIR, or --plan PLAN")
        return pages, None
    if Path(arguments.plan).is_dir():
        raise InputError(f"--plan {arguments.plan}: a plan file expected: a workspace does not say which data it is of")
    plan = load(arguments.plan)
    datasets = read_datasets(plan.data, workspace_of_plan(plan))
    return pages or datasets.test or datasets.val, word_counts(datasets.train)


def _budget(plan: str) -> Budget:
    from orchestrator.evaluation.following import Budget
    from orchestrator.plan.loading import load

    if not Path(plan).is_file():
        return Budget()
    spec = load(plan).budget.submissions
    return Budget() if spec is None else Budget(spec.total, spec.per_day, spec.public_images)


def _spent(found: Sequence[Submission], budget: Budget) -> Any:
    from orchestrator.evaluation.following import spent

    return spent(found, budget, datetime.now().astimezone())


def _ranks(found: Sequence[Submission]) -> dict[str, dict[str, Agreement]]:
    """Of each board that has scores, against both kinds of scores here."""
    from orchestrator.evaluation.following import agreements

    boards = [board for board in ("public", "private") if any(one.board == board for one in found)]
    return {
        board: {"local": agreements(found, board, "local"), "outoffold": agreements(found, board, "outoffold")}
        for board in boards
    }


def _about(one: Submission) -> str:
    if one.made is None:
        return "no model of this workspace is known to have made this file: kept without settings and local score"
    rule = one.made.model["postprocess"]
    model = f"made by {one.made.origin} ({one.made.model['digest'][:16]}, thresh {rule['thresh']:g})"
    known = []
    if one.local is not None:
        known.append(f"local H {one.local}, board - local {one.difference:+.4f}")
    if one.outoffold is not None:
        images = f"on {one.outoffold.count} training images"
        known.append(f"out-of-fold H {one.outoffold} {images}, board - out-of-fold {one.difference_outoffold:+.4f}")
    return "; ".join([model, *(known or ["it has no score on the validation images"])])


def _tell(workspace: Path) -> list[str]:
    """Let the journal have what it does not know yet; a running plan, which holds it, does so when it begins again."""
    from orchestrator.errors import LedgerError
    from orchestrator.evaluation.submitted import tell_submissions
    from orchestrator.ledger import Ledger
    from orchestrator.tracking.events import JOURNAL
    from orchestrator.tracking.journal import Journal

    if not (workspace / JOURNAL).is_file():
        return []
    ledger = Ledger.open(workspace)
    try:
        # A journal in a store is of all machines: its one writer is the driver, whose lease this holds meanwhile.
        with ledger.drive() if ledger.url else nullcontext(), Journal(workspace) as journal:
            tell_submissions(journal, workspace)
    except LedgerError as error:
        return [f"not in the journal yet ({error}); the next `submissions add` or run tells it"]
    return []


def _cells(one: Submission) -> tuple[str, ...]:
    shown = tuple(f"{value:.4f}" for value in (one.hmean, one.precision, one.recall))
    for score, difference in ((one.local, one.difference), (one.outoffold, one.difference_outoffold)):
        shown += ("" if score is None else f"{score.hmean:.4f}", "" if difference is None else f"{difference:+.4f}")
    model = "unknown" if one.made is None else f"{one.made.origin} {one.made.model['digest'][:8]}"
    return str(one.number), one.at[:16].replace("T", " "), one.board, *shown, model, one.note


def _score(text: str) -> Shown:
    from orchestrator.evaluation.plausible import Shown

    try:
        found = Shown.read(text)
    except ValueError:
        found = Shown(-1.0, 0.0)
    if not 0.0 <= found.value <= 1.0:
        hint = f"; write {found.value / 100:g}" if 1.0 < found.value <= 100.0 else ""
        raise ArgumentTypeError(f"a number in 0..1 expected, got {text}{hint}")
    return found


def _time(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"ISO 8601 such as 2026-12-01T18:00+09:00 expected, got {text}") from error
    return value if value.tzinfo is not None else value.astimezone()
