"""What a schema cannot say of settings: that they fit each other, and that all values of a space do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import Fault
from orchestrator.plan import space
from orchestrator.plan.faults import from_pydantic
from orchestrator.plan.settings import flat, flat_knobs, nested, overlay, validate
from orchestrator.plan.tree import Loc, Tree

CHECKED_VALUES = 1000  # choices of a range that are tried one by one; beyond, only its ends


def settings(tree: Tree) -> list[Fault]:
    """Values of `defaults`, of each `set` upon them, and of each `space` upon both."""
    defaults, faults = _mapping(tree, ("defaults",)), []
    wrong: set[Loc] = set()
    for error in _errors(defaults):
        wrong.add(tuple(error["loc"]))
        faults += from_pydantic([error], tree, ("defaults",))
    for p, phase in enumerate((tree.get("phases") or tree).elements()):
        for e, _ in enumerate((phase.get("experiments") or phase).elements()):
            home: Loc = ("phases", p, "experiments", e)
            changes = _mapping(tree, (*home, "set"))
            base = overlay(defaults, changes)
            errors = [error for error in _errors(base) if tuple(error["loc"]) not in wrong or _holds(changes, error)]
            faults += from_pydantic(errors, tree, (*home, "set") if changes else home)
            faults += _space(tree, (*home, "sweep", "space"), {} if wrong or errors else base)
    return faults


def _space(tree: Tree, loc: Loc, base: Mapping[str, Any]) -> Iterator[Fault]:
    written = flat_knobs(_mapping(tree, loc))
    axes: dict[str, space.Axis] = {}
    for key, value in written.items():
        try:
            axes[key] = space.axis(value)
        except ValueError as error:
            yield _in_space(tree, loc, key, str(error))
    if len(axes) < len(written):
        return  # what they depend on may be among those that cannot be read
    wrong = dict(space.relations(axes))
    for key, value in written.items():
        message = wrong.get(key) or ("" if wrong else _misfit(space.probes(axes, key), key, value, base, tree, loc))
        if message:
            yield _in_space(tree, loc, key, message)


def _in_space(tree: Tree, loc: Loc, key: str, message: str) -> Fault:
    place = (*loc, *key.split("."))
    return tree.near(place).mark.fault(place, message)


def _misfit(
    probes: Iterator[dict[str, Any]], key: str, value: Any, base: Mapping[str, Any], tree: Tree, loc: Loc
) -> str:
    """What is wrong with the first value of a space that does not fit, or nothing."""
    tried = list(probes)
    for probe in tried if len(tried) <= CHECKED_VALUES else (tried[0], tried[-1]):
        errors = [error for error in _errors(overlay(base, nested(probe))) if _at(error, key)]
        if errors:
            message = from_pydantic(errors[:1], tree, loc)[0].message
            if errors[0]["type"] == "multiple_of" and isinstance(value, str) and "step" not in value:
                message += f"; or write {value} step {errors[0]['ctx']['multiple_of']}"
            if errors[0]["type"].startswith("int") and isinstance(value, str) and "uniform" in value:
                message += "; write a..b or a list for whole numbers"
            return message
    return ""


def _errors(data: Mapping[str, Any]) -> list[Any]:
    try:
        validate(data)
    except ValidationError as error:
        return error.errors(include_url=False)
    except (TypeError, ValueError):  # a value that is not even JSON; the schema has reported it
        return []
    return []


def _at(error: Mapping[str, Any], key: str) -> bool:
    """Whether an error concerns a setting: at it, below it, or at a group that holds it."""
    parts, loc = tuple(key.split(".")), tuple(error["loc"])
    shared = min(len(parts), len(loc))
    return parts[:shared] == loc[:shared]


def _holds(changes: Mapping[str, Any], error: Mapping[str, Any]) -> bool:
    return any(_at(error, key) for key in flat(changes))


def _mapping(tree: Tree, loc: Loc) -> dict[str, Any]:
    found = tree.get(*loc)
    return found.plain() if found is not None and isinstance(found.value, dict) else {}
