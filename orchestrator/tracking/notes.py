"""Descriptions for people, in Markdown, as MLflow shows them above a run.

Text of a plan is escaped: MLflow renders HTML inside Markdown, and a `|` would split a table's cell.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any


def escape(value: Any) -> str:
    """Any value as one line of Markdown without markup of its own."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def code(value: Any) -> str:
    """Any value as a code span, in which Markdown shows `<` and `&` as they are."""
    return "`" + " ".join(str(value).split()).replace("`", "'") + "`"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; empty without rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *[[escape(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def roadmap(study: Mapping[str, Any]) -> str:
    """Of the MLflow experiment."""
    baseline = ", ".join(f"{escape(name)} {value:.4f}" for name, value in study["baseline"].items())
    return _join(
        f"Roadmap **{escape(study['roadmap'])}**",
        f"Baseline: {baseline}" if baseline else "",
        "One run a phase, below it one an experiment, below that one a trial; tag `kind` tells them apart. "
        "`best_hmean` is the column to compare. Deeply nested runs are hidden from flat lists: filter with "
        "`tags.kind = 'trial'` to see all trials.",
    )


def phase(payload: Mapping[str, Any], decision: Mapping[str, Any] | None = None) -> str:
    """Of a phase: aim, gate, and the decision once there is one."""
    target = ", ".join(f"{escape(name)} ≥ {value:.4f}" for name, value in payload["target"].items())
    gate = payload["gate"]
    return _join(
        escape(payload["what"]),
        f"Target: {target}" if target else "",
        f"Gate: {code(gate['expression'])}, otherwise {escape(gate['otherwise'])}" if gate else "",
        f"Needs: {escape(', '.join(payload['needs']))}" if payload["needs"] else "",
        "### Decision\n\n" + decision["markdown"] if decision and decision["markdown"] else "",
    )


def experiment(payload: Mapping[str, Any]) -> str:
    """Of an experiment: question, expected effect, schedule."""
    effects = []
    for effect in payload["expect"]:
        sign = "+" if effect["relative"] else ""
        effects.append(f"{escape(effect['stat'])} {effect['low']:{sign}.4f} .. {effect['high']:{sign}.4f}")
    asha = payload["asha"]
    cost = payload["cost_gpu_h"]
    return _join(
        escape(payload["what"]),
        f"Expected: {'; '.join(effects)}" if effects else "",
        f"ASHA: grace {asha['grace']}, eta {asha['eta']}" if asha else "",
        f"Cost: {cost:g} GPU-hours" if cost is not None else "",
    )


def trial(payload: Mapping[str, Any]) -> str:
    """Of a trial: the experiment's question and what this trial sets."""
    return _join(escape(payload["what"]), table(("setting", "value"), list(payload["settings"].items())))


def ensemble(payload: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Of an ensemble or a search of thresholds: question, scores, members."""
    members = result["members"]
    columns = list(dict.fromkeys(name for member in members for name in member))
    return _join(
        experiment(payload),
        result["notes"],
        table(("metric", "value"), list(result["metrics"].items())),
        table(("setting", "value"), list(result["settings"].items())),
        table(columns, [[member.get(name, "") for name in columns] for member in members]),
    )


def _join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
