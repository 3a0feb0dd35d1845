"""Pydantic's errors as faults of a plan: place, rule, value, remedy, and the nearest valid name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.errors import Fault
from orchestrator.plan.json_schema import json_schema
from orchestrator.plan.settings import groups, leaves
from orchestrator.plan.spelling import nearest
from orchestrator.plan.tree import Loc, Mark, Tree

_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "finite_number": "a finite number",
}
_SIGNS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


def unknown_setting(mark: Mark, loc: Loc, key: str) -> Fault:
    """A key of `defaults`, `set` or `space` that no training reads."""
    group = key.rpartition(".")[0]
    siblings = [leaf for leaf in leaves() if leaf.rpartition(".")[0] == group] if group in groups() else []
    hint = nearest(key, siblings or [*leaves(), *groups()])
    if key.split(".")[0] == "metric":
        return mark.fault(loc, "the metric is the same for all trainings; set it by the plan's own key `metric`")
    return mark.fault(loc, f"unknown key `{key}`{hint or '; `python -m orchestrator schema` lists all'}")


def from_pydantic(errors: Sequence[ErrorDetails], tree: Tree, prefix: Loc = ()) -> list[Fault]:
    """One fault per error; `prefix` is where the validated part stands in `tree`."""
    # A list of nothing but wrong items counts as empty for pydantic: the items have been reported.
    real = [error for error in errors if not (error["type"] == "too_short" and error["input"])]
    return [_fault(error, tree, (*prefix, *error["loc"])) for error in real]


def message_of(error: ValidationError) -> str:
    """The first error in words, with its key, for settings that stand in no file."""
    first = error.errors(include_url=False)[0]
    mark = Mark("")
    where = ".".join(str(part) for part in first["loc"])
    return f"{where + ': ' if where else ''}{_message(first, Tree(None, mark, mark))}"


def _fault(error: ErrorDetails, tree: Tree, loc: Loc) -> Fault:
    kind = error["type"]
    node = tree.near(loc)
    if kind == "missing":
        return node.mark.fault(loc, f"key `{loc[-1]}` is missing; {_missing(loc)}")
    if kind == "extra_forbidden":
        return node.key.fault(loc, _unknown(str(loc[-1]), loc))
    return node.mark.fault(loc, _message(error, node))


def _missing(loc: Loc) -> str:
    owner = "the plan" if len(loc) == 1 else f"each of `{_owner(loc)}`" if isinstance(loc[-2], int) else f"`{loc[-2]}`"
    return f"{owner} needs it"


def _owner(loc: Loc) -> str:
    return next((str(part) for part in reversed(loc[:-1]) if isinstance(part, str)), "plan")


def _unknown(key: str, loc: Loc) -> str:
    head = key.partition(".")[0]
    if key in leaves() or key in groups() or head in groups():
        if len(loc) == 1:
            return f"unknown key `{key}`: a setting of trainings; put it under `defaults`"
        if len(loc) >= 3 and loc[-3] == "experiments":
            return f"unknown key `{key}`: a setting of trainings; put it under `set`"
    hint = nearest(key, keys_at(loc[:-1]))
    if "did you mean" not in hint:
        setting = nearest(key, [*leaves(), *groups()])
        home = "`defaults`" if len(loc) == 1 else "`set`"
        if "did you mean" in setting and (len(loc) == 1 or (len(loc) >= 3 and loc[-3] == "experiments")):
            hint = f"{setting.removesuffix('?')} under {home}?"
    return f"unknown key `{key}`{hint}"


def _message(error: ErrorDetails, node: Tree) -> str:
    kind, context = error["type"], error.get("ctx", {})
    got = f"got {_shown(error['input'], node)}"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if kind in _KINDS:
        hint = "; write it without quotes" if _quoted_number(error["input"]) and "number" in _KINDS[kind] else ""
        return f"{_KINDS[kind]} expected, {got}{hint}"
    if kind in _SIGNS:
        sign, name = _SIGNS[kind]
        return f"`value {sign} {context[name]:g}` must hold, {got}"
    if kind == "multiple_of":
        return _multiple(error["input"], int(context["multiple_of"]), got)
    if kind == "literal_error":
        choices = [part.strip().strip("'") for part in str(context["expected"]).replace(" or ", ", ").split(",")]
        listed = " or ".join(f"`{choice}`" for choice in choices)
        hint = nearest(str(error["input"]), choices) if len(choices) > 1 else ""
        return f"{listed} expected, {got}{hint if 'did you mean' in hint else ''}"
    if kind == "string_pattern_mismatch":
        return f"letters, digits, `_` and `-` expected, beginning with a letter or digit, {got}"
    if kind in ("too_short", "string_too_short"):
        return f"must not be empty, {got}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, {got}"


def _multiple(value: Any, base: int, got: str) -> str:
    below = int(value) // base * base
    remedy = f"{below + base}" if below <= 0 else f"{below} or {below + base}"
    return f"must be a multiple of {base}, {got}; take {remedy}"


def _quoted_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return isinstance(value, str)


def _shown(value: Any, node: Tree) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple) and len(value) > 6:
        return f"a list of {len(value)}"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return node.raw if node.raw is not None and node.value == value and not isinstance(value, str) else repr(value)


@cache
def _schema() -> Mapping[str, Any]:
    return json_schema()


def keys_at(loc: Loc) -> tuple[str, ...]:
    """The keys that a plan may have at `loc`, by its JSON Schema."""
    node: Any = _schema()
    for part in loc:
        node = _resolve(node)
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return tuple(_resolve(node).get("properties", {}))


def _resolve(node: Any) -> Any:
    for _ in range(8):
        if "$ref" in node:
            node = _schema()["$defs"][node["$ref"].rpartition("/")[2]]
        elif "anyOf" in node:
            node = next((option for option in node["anyOf"] if "$ref" in option or "properties" in option), {})
        else:
            break
    return node
