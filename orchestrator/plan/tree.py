"""A YAML 1.2 document as a tree in which every key and value knows its file, line and column.

`ruamel.yaml` parses; scalars are resolved here by the core schema of YAML 1.2 (section 10.3.2), so that `1e-4` is a
number, `no` a string and `017` seventeen. Twice the same key, merge keys, tags and `loguniform(a, b)` torn apart by the
commas of flow style are faults, not surprises.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

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
_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")  # what plain scalars resolve to
_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


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


def parse(text: str, file: str, faults: list[Fault]) -> Tree:
    """The document in `text`; what is wrong with it is appended to `faults`."""
    empty = Tree({}, Mark(file, 1, 1), Mark(file, 1, 1))
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        faults.append(_syntax(error, text, file))
        return empty
    except YAMLError as error:
        faults.append(Fault(file, 1, 1, "", f"is not YAML ({error})"))
        return empty
    if node is None:
        faults.append(Fault(file, 1, 1, "", "is empty; a plan needs at least `roadmap`, `data` and `phases`"))
        return empty
    tree = _Grower(file, faults).grow(node, (), None)
    if not isinstance(tree.value, dict):
        faults.append(tree.mark.fault("", "a plan must be a mapping of keys to values"))
        return empty
    return tree


def _syntax(error: MarkedYAMLError, text: str, file: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    lines = text.splitlines()
    shown = lines[line] if line < len(lines) else ""
    remedy = "mend the line"
    if "${" in shown and re.search(r"[\[{].*\$\{", shown):
        remedy = 'within {...} and [...] write "${env:NAME}" in double quotes'
    elif "\t" in shown[: column + 1]:
        remedy = "indent with blanks, not tabs"
    problem = (error.problem or error.context or "cannot be read").replace("\n", " ")
    return Fault(file, line + 1, column + 1, "", f"is not YAML: {problem}; {remedy}")


class _Grower:
    """Nodes of the parser to trees, faults on the way."""

    def __init__(self, file: str, faults: list[Fault]) -> None:
        self.file, self.faults = file, faults
        self.open: list[int] = []

    def mark(self, node: Node) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def grow(self, node: Node, loc: Loc, key: Mark | None) -> Tree:
        mark = self.mark(node)
        if id(node) in self.open:
            self.faults.append(mark.fault(loc, "an anchor must not contain itself; write the value out"))
            return Tree(None, mark, key or mark)
        self.open.append(id(node))
        try:
            if isinstance(node, MappingNode):
                return Tree(self.mapping(node, loc), mark, key or mark)
            if isinstance(node, SequenceNode):
                children = [self.grow(child, (*loc, index), None) for index, child in enumerate(node.value)]
                return Tree(children, mark, key or mark)
            return self.leaf(node, loc, mark, key or mark)
        finally:
            self.open.pop()

    def mapping(self, node: MappingNode, loc: Loc) -> dict[str, Tree]:
        children: dict[str, Tree] = {}
        pairs = list(node.value)
        while pairs:
            key_node, value_node = pairs.pop(0)
            mark = self.mark(key_node)
            if not isinstance(key_node, ScalarNode):
                self.faults.append(mark.fault(loc, "keys must be plain words"))
                continue
            name = str(key_node.value)
            if name == "<<" and key_node.style is None:
                self.faults.append(mark.fault(loc, "merge keys `<<` are not part of YAML 1.2; use `extends`"))
                continue
            if name in children:
                first = children[name].key.line
                self.faults.append(
                    mark.fault((*loc, name), f"key `{name}` is given twice, first in line {first}; keep one")
                )
                continue
            if _torn(value_node) and pairs and _empty(pairs[0][1]):
                torn = str(value_node.value)
                while pairs and torn.count("(") > torn.count(")") and _empty(pairs[0][1]):
                    torn += f", {pairs.pop(0)[0].value}"
                self.faults.append(
                    self.mark(value_node).fault(
                        (*loc, name), f'within {{...}} the comma ends the value; write {name}: "{torn}" in quotes'
                    )
                )
                continue
            children[name] = self.grow(value_node, (*loc, name), mark)
        return children

    def leaf(self, node: Node, loc: Loc, mark: Mark, key: Mark) -> Tree:
        text, bare = str(node.value), getattr(node, "style", None) is None
        if str(node.tag).removeprefix("tag:yaml.org,2002:") not in _TAGS:
            self.faults.append(mark.fault(loc, f"tags such as `{node.tag}` are not read; remove it"))
        filled = fill(text, mark, loc, self.faults)
        # A value that is one reference takes the type of what it stands for, quoted or not.
        resolve = bare or (filled != text and _ENV.fullmatch(text) is not None)
        return Tree(scalar(filled) if resolve else filled, mark, key, filled if resolve else None)


def fill(text: str, mark: Mark, loc: Loc, faults: list[Fault]) -> str:
    """`text` with `${env:NAME}` and `${env:NAME:-default}` replaced; an unset name without default is a fault.

    As in a shell, an empty variable counts as unset where a default is given.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        found = os.environ.get(name)
        if found is None and default is None:
            faults.append(
                mark.fault(loc, f"environment variable `{name}` is not set; set it, or write ${{env:{name}:-default}}")
            )
        return found or default or ""

    filled = _ENV.sub(value, text)
    if "${" in _ENV.sub("", text):
        faults.append(mark.fault(loc, f"`${{env:NAME}}` or `${{env:NAME:-default}}` expected, got {text!r}"))
    return filled


def _torn(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.style is None and node.value.count("(") > node.value.count(")")


def _empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value == "" and node.style is None


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
