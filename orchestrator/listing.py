"""`runs`: the trials of a plan or of a whole workspace, filtered and in order.

H, P and R are those of a trial's best epoch, as its training reported them; `last H` is that of its last epoch. The
cost is what it occupied: seconds of its GPUs, or of its CPUs where it used none, over all attempts. The age counts
from the last thing that happened to it.
"""

from __future__ import annotations

import argparse
import math
import operator
import re
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from detector.errors import InputError
from orchestrator.commands import Answer, aligned, as_json, known, workspace_of
from orchestrator.ledger import Ledger
from orchestrator.plan.spelling import nearest
from orchestrator.records import State, TrialRecord
from orchestrator.storage.mirror import is_url

SCORES: Final = ("hmean", "precision", "recall")
NUMBERS: Final = (*SCORES, "epochs", "attempts", "seconds", "cost", "age")  # what --where compares
SORTS: Final = ("name", "state", "experiment", *NUMBERS)
TIMES: Final = frozenset({"seconds", "cost", "age"})
UNITS: Final[Mapping[str, float]] = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
DESCRIPTION: Final = """\
List every trial with its state, best scores, cost and age.

Examples:
  runs plans/x.yaml --state failed
  runs plans/x.yaml --where "hmean>=0.95" --where "cost<2h" --sort hmean
  runs workspace/receipts --where "age<1d" --json"""
Row = dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `runs` takes beside the plan and `--json`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    states = ", ".join(get_args(State))
    parser.add_argument("--state", action="append", default=[], metavar="STATE", help=f"only these: {states}")
    parser.add_argument(
        "--experiment", action="append", default=[], metavar="ID", help="only these: a phase, id or phase.experiment"
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="RULE",
        help=f"NAME, one of {' '.join(COMPARISONS)}, and a value, e.g. hmean>=0.95, cost<2h, age>7d; "
        f"names: {', '.join(NUMBERS)}; several must all hold",
    )
    parser.add_argument(
        "--sort", metavar="NAME", help=f"by one of {', '.join(SORTS)}; scores: best first, others: least first"
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N only")


def runs(arguments: Namespace) -> Answer:
    """List every trial with its state, best scores, cost and age."""
    from orchestrator.plan.wording import search_text

    if Path(arguments.plan).is_dir() or is_url(arguments.plan):
        study, rows = None, _all(Ledger.open(workspace_of(arguments)))
    else:
        study = study_of(arguments)
        rows = _of_study(study)
    rows = _chosen(rows, arguments)
    if arguments.json:
        return as_json(rows), 0
    head = ("trial", "digest", "state", "epochs", "H", "P", "R", "last H", "time", "cost", "age", "")
    table = aligned([head, *(_cells(row) for row in rows)]) if rows else ["no trials"]
    experiments = [item for phase in study.phases for item in phase.experiments] if study is not None else []
    return "\n".join([*table, *(f"{e.phase}/{e.id}: {text}" for e in experiments if (text := search_text(e)))]), 0


def study_of(arguments: Namespace) -> Any:
    """The study of a plan without its pages, with what its sweeps have proposed so far."""
    from orchestrator.commands import chosen
    from orchestrator.plan.expand import expand
    from orchestrator.plan.loading import load

    return known(expand(load(arguments.plan, arguments.set, chosen(arguments)), require_data=False, pages=False))


def _of_study(study: Any) -> list[Row]:
    """The plan's trials in its order, and those that were derived from a source while it ran."""
    from orchestrator.plan.rows import trials

    ledger = Ledger.open(study.workspace)
    records = {record.digest: record for record in ledger.records()}
    known = trials(study)
    digests = {trial.digest for trial in known}
    waiting = {(e.phase, e.id) for phase in study.phases for e in phase.experiments if e.derive is not None}
    listed = [
        _row(ledger, records.get(t.digest) or TrialRecord(t.digest, "queued"), t.phase, t.experiment, t.name)
        for t in known
    ]
    derived = [row for row in _all(ledger) if row["digest"] not in digests]
    return listed + [row for row in derived if (row["phase"], row["experiment"]) in waiting]


def _all(ledger: Ledger) -> list[Row]:
    """Every trial of a workspace, by name."""
    rows = []
    for record in ledger.records():
        kept = ledger.trial(record.digest) or {}
        rows.append(
            _row(ledger, record, kept.get("phase", ""), kept.get("experiment", ""), kept.get("name", record.digest))
        )
    return sorted(rows, key=lambda row: (row["name"], row["digest"]))


def _row(ledger: Ledger, record: TrialRecord, phase: str, experiment: str, name: str) -> Row:
    best = record.best
    cost, unit = record.cost
    last_ms = record.ended_ms or (record.epochs[-1].time_ms if record.epochs else record.started_ms)
    return {
        "phase": phase,
        "experiment": experiment,
        "name": name,
        "digest": record.digest,
        "state": record.state,
        "epochs": len(record.epochs),
        "best": None if best is None else {key: _finite(best.get(key)) for key in SCORES},
        "best_epoch": record.best_epoch,
        "last": None if record.last is None else {key: _finite(record.last.get(key)) for key in SCORES},
        "seconds": record.seconds,
        "cost": cost,
        "cost_unit": f"{unit}_s",
        "age": None if last_ms is None else max(0.0, time.time() - last_ms / 1000),
        "attempts": record.attempts,
        "host": record.host,
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "reason": record.reason,
        "incidents": [str(incident) for incident in record.incidents],
        "folder": str(ledger.folder(record.digest)),
        "scores": list(ledger.score_names(record.digest)),
        "maps": [str(path) for path in ledger.maps(record.digest)],
    }


# --- choosing --------------------------------------------------------------------------------------------------------


def _chosen(rows: Sequence[Row], arguments: Namespace) -> list[Row]:
    """What is left by `--state`, `--experiment` and `--where`, in the order of `--sort`.

    Raises:
        InputError: a name, value or number that cannot be; the nearest right one is told.
    """
    for state in arguments.state:
        _known("--state", state, get_args(State))
    names = {name for row in rows for name in _names(row)}
    for name in arguments.experiment:
        _known("--experiment", name, names)
    rules = [_rule(text) for text in arguments.where]
    if arguments.limit is not None and arguments.limit < 1:
        raise InputError(f"--limit {arguments.limit}: must be 1 or more")
    found = [
        row
        for row in rows
        if (not arguments.state or row["state"] in arguments.state)
        and (not arguments.experiment or set(arguments.experiment) & _names(row))
        and all(rule(row) for rule in rules)
    ]
    if arguments.sort is not None:
        _known("--sort", arguments.sort, SORTS)
        found = _sorted(found, arguments.sort, arguments.reverse)
    elif arguments.reverse:
        found.reverse()
    return found[: arguments.limit]


def _names(row: Row) -> set[str]:
    return {row["phase"], row["experiment"], f"{row['phase']}.{row['experiment']}"}


def _known(switch: str, name: str, names: Any) -> None:
    if name not in names:
        raise InputError(f"{switch} {name}: there is no such{nearest(name, names)}")


def _rule(text: str) -> Callable[[Row], bool]:
    """What `--where` says; rows without the value are left out."""
    found = re.fullmatch(r"\s*([a-z_]+)\s*(>=|<=|>|<|=)\s*([0-9.eE+-]+?)\s*([a-z]*)\s*", text)
    if found is None:
        raise InputError(f"--where {text}: must be a name, one of {' '.join(COMPARISONS)}, and a number, as cost<2h")
    name, comparison, number, unit = found.groups()
    _known("--where", name, NUMBERS)
    if unit not in (UNITS if name in TIMES else {""}):
        units = "s, min, h or d" if name in TIMES else "no unit"
        raise InputError(f"--where {text}: {name} takes {units}, got {unit!r}")
    try:
        limit = float(number) * UNITS[unit]
    except ValueError:
        raise InputError(f"--where {text}: {number!r} is no number") from None

    def holds(row: Row) -> bool:
        value = _number(row, name)
        return value is not None and COMPARISONS[comparison](value, limit)

    return holds


def _sorted(rows: Sequence[Row], name: str, reverse: bool) -> list[Row]:
    """Rows without the value last, whatever the direction; ties by name."""
    rows = sorted(rows, key=lambda row: (row["name"], row["digest"]))
    if name not in NUMBERS:
        return sorted(rows, key=lambda row: str(row[name]), reverse=reverse)
    there = [row for row in rows if _number(row, name) is not None]
    there.sort(key=lambda row: _number(row, name) or 0.0, reverse=(name in SCORES) != reverse)
    return there + [row for row in rows if _number(row, name) is None]


def _number(row: Row, name: str) -> float | None:
    value = (row["best"] or {}).get(name) if name in SCORES else row[name]
    return None if value is None else float(value)


# --- cells -----------------------------------------------------------------------------------------------------------


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _cells(row: Row) -> tuple[str, ...]:
    best = row["best"] or {}
    last = (row["last"] or {}).get("hmean")
    scores = [f"{best[key]:.4f}" if best.get(key) is not None else "" for key in SCORES]
    scores += ["" if last is None else f"{last:.4f}"]
    why = "; ".join([row["reason"], *row["incidents"]] if row["reason"] else row["incidents"])
    spent = _clock(row["seconds"])
    cost = f"{_clock(row['cost'])} {row['cost_unit'][:3].upper()}" if row["cost"] else ""
    age = "" if row["age"] is None else _rough(row["age"])
    return row["name"], row["digest"], row["state"], str(row["epochs"]), *scores, spent, cost, age, why


def _clock(seconds: float) -> str:
    """`3:07`, `2:03:07`; empty for nothing."""
    if not seconds:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _rough(seconds: float) -> str:
    """`40 s`, `12 min`, `5 h`, `3 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
