"""YAML 1.2 text to a `Tree`, with all that is wrong with it.

`ruamel.yaml` parses; scalars are resolved by `tree.scalar`. Twice the same key, merge keys, tags and `loguniform(a, b)`
torn apart by the commas of flow style are faults, not surprises.
"""

from __future__ import annotations

import os
import re

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from orchestrator.errors import Fault
from orchestrator.plan.tree import Loc, Mark, Tree, scalar

_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")  # what plain scalars resolve to
_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


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
