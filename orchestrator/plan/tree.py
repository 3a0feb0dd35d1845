"""A YAML 1.2 document as a tree in which every key and value knows its file, line and column.

Scalars are resolved here by the core schema of YAML 1.2 (section 10.3.2), so that `1e-4` is a number, `no` a string and
`017` seventeen; `plan.parsing` makes trees of text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from orchestrator.errors import Fault

Scalar: TypeAlias = str | int | float | bool | None
Loc: TypeAlias = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; line and column count from 1, line 0 means the whole `file` (a `--set` argument, say)."""

    file: str
    line: int = 0
    column: int = 0

    def fault(self, where: Loc | str, message: str) -> Fault:
        return Fault(self.file, self.line, self.column, where if isinstance(where, str) else dotted(where), message)


@dataclass(frozen=True, slots=True)
class Tree:
    """A value with its place: a mapping, a sequence or a scalar.

    Attributes:
        value: `dict[str, Tree]`, `list[Tree]` or a scalar.
        mark: where the value starts.
        key: where its key starts; the value's own place for items of a sequence.
        raw: the scalar as written (`+0.0025` keeps its sign); None for mappings, sequences and quoted scalars.
        under: what stood here before a plan that extends, or a `--set`, replaced it.
    """

    value: dict[str, Tree] | list[Tree] | Scalar
    mark: Mark
    key: Mark
    raw: str | None = None
    under: Tree | None = field(default=None, compare=False, repr=False)

    def get(self, *loc: str | int) -> Tree | None:
        """The tree at `loc`, or None."""
        node: Tree | None = self
        for part in loc:
            node = node._step(part) if node is not None else None
        return node

    def near(self, loc: Loc) -> Tree:
        """The tree at `loc`, or its deepest parent that exists."""
        node = self
        for part in loc:
            child = node._step(part)
            if child is None:
                break
            node = child
        return node

    def by_id(self, loc: Loc, identity: str) -> Loc:
        """Where in the sequence at `loc` the item with this `id` stands; `loc` itself if there is none."""
        for index, child in enumerate(self.near(loc).elements()):
            name = child.get("id")
            if name is not None and name.value == identity:
                return (*loc, index)
        return loc

    def _step(self, part: str | int) -> Tree | None:
        if isinstance(self.value, dict):
            return self.value.get(str(part))
        if isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def items(self) -> Iterator[tuple[str, Tree]]:
        """Keys and values of a mapping; nothing for the rest."""
        if isinstance(self.value, dict):
            yield from self.value.items()

    def elements(self) -> Sequence[Tree]:
        """Items of a sequence; nothing for the rest."""
        return self.value if isinstance(self.value, list) else ()

    def plain(self, *, signed: bool = False) -> Any:
        """The value as dicts, lists and scalars. Below a key `expect` numbers stay as written, for their sign."""
        if isinstance(self.value, dict):
            return {key: child.plain(signed=signed or key == "expect") for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain(signed=signed) for child in self.value]
        return self.raw if signed and self.raw is not None else self.value


def dotted(loc: Loc) -> str:
    """`('phases', 0, 'id')` as `phases[0].id`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def scalar(text: str) -> Scalar:
    """A plain scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def merge(base: Tree, over: Tree, loc: Loc = ()) -> Tree:
    """`over` laid upon `base`: mappings key by key, `phases` and `experiments` by id, all else replaced.

    A null in `over` removes the key of `base`. Places stay with the file that they came from.
    """
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        merged = dict(base.value)
        for name, child in over.value.items():
            if child.value is None and name in merged:
                del merged[name]
            else:
                merged[name] = merge(merged[name], child, (*loc, name)) if name in merged else child
        return replace(over, value=merged)
    if isinstance(base.value, list) and isinstance(over.value, list) and loc and loc[-1] in ("phases", "experiments"):
        return replace(over, value=_merge_by_id(base.value, over.value, loc))
    return replace(over, under=base)


def _merge_by_id(base: list[Tree], over: list[Tree], loc: Loc) -> list[Tree]:
    merged = list(base)
    # Twice the same id is left to the schema to report, so only the first of each is merged upon.
    homes = {identity: index for index, child in reversed(list(enumerate(base))) if (identity := _id(child))}
    for child in over:
        home = homes.pop(_id(child) or "", None)
        if home is None:
            merged.append(child)
        else:
            merged[home] = merge(merged[home], child, (*loc, home))
    return merged


def _id(tree: Tree) -> str | None:
    found = tree.get("id")
    return found.value if found is not None and isinstance(found.value, str) else None
