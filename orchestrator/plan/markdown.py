"""Roadmaps as people write them, headings and tables of Markdown: read into a plan file, and filled in with outcomes.

    # receipts                                        -> roadmap: receipts
    Baseline: H .9755, P .9833, R .9688
    ## Phase 1: Quick wins                            -> a phase `phase1`
    Target: H .9780, R .9720
    | experiment | settings | expected H | cost | priority | why |
    |---|---|---|---|---|---|
    | early stopping | patience=3 | +.003..+.005 | 1.5h | 1 | 17 epochs whatever happens |

Further lines below a heading are `Needs: phase1` and `Gate: ci_low(best - baseline) > 0`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.plan.expressions import NUMBER, cost_gpu_h, effect
from orchestrator.plan.tree import scalar

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {  # key of an experiment -> what a column may be called
    "id": ("id", "experiment", "experiments", "name"),
    "what": ("what", "description", "idea", "change"),
    "why": ("why", "reason", "reasoning", "hypothesis", "notes"),
    "set": ("set", "setting", "settings", "config", "parameters"),
    "expect": ("expect", "expected", "expectation", "expected h", "effect", "effect on h", "expected effect"),
    "cost": ("cost", "gpu-h", "gpu hours", "gpu-hours", "hours", "time"),
    "priority": ("priority", "prio"),
    "from": ("from", "source"),
    "folds": ("folds",),
    "seeds": ("seeds",),
}
OUTCOMES: Final = ("measured", "verdict")  # columns that `report` writes
_STATS: Final = {"h": "hmean", "p": "precision", "r": "recall"}
_SCORE = re.compile(rf"\b(hmean|precision|recall|H|P|R)\b\s*[:=]?\s*({NUMBER})", re.IGNORECASE)
_HEADING = re.compile(r"(#+)\s+(.*?)\s*#*")
_LINE = re.compile(r"(baseline|target|needs|gate)\s*:\s*(.+)", re.IGNORECASE)
_SETTING = re.compile(r"\s*([A-Za-z_][\w.]*)\s*[=:]\s*(\[[^\]]*\]|[^,;]+)\s*(?:[,;]|$)")


@dataclass
class Table:
    """One table: its header and rows as cells, and the line (from 0) that each row stands in."""

    header: list[str]
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    first: int = 0

    def column(self, key: str) -> int | None:
        """Where the column of an experiment's key is."""
        names = [name.strip("* ").lower() for name in self.header]
        return next((index for index, name in enumerate(names) if name in COLUMNS.get(key, (key,))), None)


@dataclass
class Section:
    """A heading with what stands below it."""

    title: str
    level: int
    said: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """The headings of a document; the first has no title."""
    found, table = [Section("", 0)], None
    for number, line in enumerate(text.split("\n")):
        heading = _HEADING.fullmatch(line.strip())
        if line.lstrip().startswith("|"):
            cells = _cells(line)
            if table is None:
                table = Table(cells, first=number)
                found[-1].tables.append(table)
            elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                table.rows.append((number, cells))
            continue
        table = None
        if heading:
            found.append(Section(heading[2], len(heading[1])))
        elif said := _LINE.fullmatch(line.strip(" -*")):
            found[-1].said[said[1].lower()] = said[2].strip()
    return found


def _cells(line: str) -> list[str]:
    return [
        cell.strip().replace("\\|", "|")
        for cell in re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    ]


def slug(text: str) -> str:
    """An id from a name: `Early stopping (3)` -> `early_stopping_3`; `Phase 1: Quick wins` -> `phase1`."""
    numbered = re.match(r"\W*(phase)\s*(\d+)", text, re.IGNORECASE)
    if numbered:
        return f"{numbered[1].lower()}{numbered[2]}"
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:60]


# --- to a plan -------------------------------------------------------------------------------------------------------


def to_plan(text: str, name: str, extends: str | None = None) -> tuple[str, list[str]]:
    """A plan file's text, and what was not understood.

    Args:
        name: the roadmap's, where no heading of level 1 says it.
        extends: plan file that holds data and defaults; without it the data is a place holder.
    """
    found, notes = sections(text), list[str]()
    title = next((slug(part.title) for part in found if part.level == 1 and part.title), slug(name)) or "roadmap"
    lines = ["# yaml-language-server: $schema=plan.schema.json", "", *([f"extends: {extends}"] if extends else [])]
    lines.append(f"roadmap: {title}")
    said = {key: value for part in found for key, value in part.said.items() if key == "baseline"}
    if "baseline" in said:
        lines.append(f"baseline: {_scores(said['baseline'])}")
    if extends is None:
        lines += [
            "data:",
            *(f"  {part}: {{images: data/images, annotations: data/{part}.json}}" for part in ("train", "val")),
        ]
        notes.append("`data` is a place holder: say where the images and annotations are, or give --extends")
    lines.append("phases:")
    for part in found:
        if any(table.column("id") is not None for table in part.tables):
            lines += _phase(part, notes)
    if lines[-1] == "phases:":
        notes.append("no table with a column `experiment` was found")
    return "\n".join(lines) + "\n", notes


def _phase(part: Section, notes: list[str]) -> list[str]:
    name = slug(part.title) or "phase1"
    what = part.title.partition(":")[2].strip() or (part.title if slug(part.title) != part.title else "")
    lines = [f"  - id: {name}", *([f"    what: {_text(what)}"] if what else [])]
    if "needs" in part.said:
        lines.append(f"    needs: [{', '.join(slug(item) for item in part.said['needs'].split(','))}]")
    if "target" in part.said:
        lines.append(f"    target: {_scores(part.said['target'])}")
    lines.append("    experiments:")
    for table in part.tables:
        if table.column("id") is None:
            continue
        known = {index for key in (*COLUMNS, *OUTCOMES) if (index := table.column(key)) is not None}
        notes += [f"{name}: column `{table.header[i]}` is left out" for i in range(len(table.header)) if i not in known]
        for _, cells in table.rows:
            lines += _experiment(name, table, cells, notes)
    if "gate" in part.said:
        lines.append(f"    gate: {{pass: {_text(part.said['gate'].strip('`'))}, otherwise: ask}}")
    return lines


def _experiment(phase: str, table: Table, cells: Sequence[str], notes: list[str]) -> list[str]:
    given = {
        key: cells[index].strip("* ")
        for key in COLUMNS
        if (index := table.column(key)) is not None and index < len(cells) and cells[index].strip("*-– ")
    }
    name = slug(given.get("id", "").strip("`"))
    if not name:
        notes.append(f"{phase}: a row without a name is left out: {' | '.join(cells)}")
        return []
    where = f"{phase}.{name}"
    given.setdefault("what", given["id"] if given["id"].strip("`") != name else "")
    lines = [f"      - id: {name}"]
    lines += [f"        {key}: {_text(given[key])}" for key in ("what", "why") if given.get(key)]
    if "set" in given:
        pairs = _SETTING.findall(given["set"].replace("`", "").replace("<br>", ","))
        lines += [f"        set: {{{', '.join(f'{key}: {_value(value)}' for key, value in pairs)}}}"] if pairs else []
        if not pairs:
            notes.append(f"{where}: `key=value, key=value` expected as settings, got {given['set']!r}")
    elif "from" not in given and name != "baseline":
        notes.append(f"{where}: no settings; write `set`, `sweep`, `thresholds` or `ensemble`")
    if "expect" in given:
        effects = _effect(given["expect"])
        lines += [f"        expect: {{hmean: {effects}}}"] if effects else []
        if not effects:
            notes.append(f"{where}: +0.003..+0.005 or >= 0.982 expected as effect, got {given['expect']!r}")
    for key in ("from", "folds", "seeds"):
        lines += [f"        {key}: {_value(given[key].strip('`'))}"] if key in given else []
    if "cost" in given:
        try:
            lines.append(f"        cost: {cost_gpu_h(given['cost']):g}h")
        except ValueError as error:
            notes.append(f"{where}: {error}")
    if "priority" in given:
        lines.append(f"        priority: {given['priority'].lstrip('Pp#')}")
    return lines


def _scores(text: str) -> str:
    pairs = {_STATS.get(key.lower(), key.lower()): f"{float(value):g}" for key, value in _SCORE.findall(text)}
    return f"{{{', '.join(f'{key}: {value}' for key, value in pairs.items())}}}"


def _effect(text: str) -> str:
    """An effect as the plan language writes it, or nothing."""
    plain = re.sub(r"\s*(?:\.\.\.?|…|–|—|~|\bto\b)\s*", "..", text.strip("()` ")).replace("−", "-")
    plain = re.sub(rf"^({NUMBER})\+$", r">= \1", plain)  # .9820+
    try:
        effect("hmean", plain)
    except ValueError:
        return ""
    return json.dumps(plain) if plain.startswith(">") else plain


def _value(text: str) -> str:
    text = text.strip()
    return text if text.startswith("[") or not isinstance(scalar(text), str) else _text(text)


def _text(text: str) -> str:
    """A text as a YAML scalar, quoted where it must be."""
    plain = re.fullmatch(r"[A-Za-z][\w ./%+()-]*", text) and isinstance(scalar(text), str) and text == text.strip()
    return text if plain else json.dumps(text, ensure_ascii=False)


# --- and back --------------------------------------------------------------------------------------------------------


def with_outcomes(text: str, outcomes: Mapping[str, Mapping[str, tuple[str, str]]]) -> tuple[str, int]:
    """The document with the columns `measured` and `verdict` filled in, and how many rows that were.

    Args:
        outcomes: phase -> experiment -> (measured, verdict). Rows that it does not know keep what they say.
    """
    lines, filled = text.split("\n"), 0
    for part in sections(text):
        known = outcomes.get(slug(part.title) or "phase1", {})
        for table in part.tables:
            index = table.column("id")
            if index is None or not known:
                continue
            names = [slug(cells[index].strip("*` ")) if index < len(cells) else "" for _, cells in table.rows]
            if not any(name in known for name in names):
                continue
            header = [*table.header, *(name for name in OUTCOMES if table.column(name) is None)]
            places = [header.index(name) if table.column(name) is None else table.column(name) for name in OUTCOMES]
            lines[table.first] = _row(header)
            lines[table.first + 1] = _row(["---"] * len(header))
            for name, (number, cells) in zip(names, table.rows, strict=True):
                wide = [*cells, *[""] * (len(header) - len(cells))]
                for place, value in zip(places, known.get(name, ()), strict=False):
                    wide[place or 0] = value
                lines[number] = _row(wide)
                filled += name in known
    return "\n".join(lines), filled


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
