"""`--set` and `--only`: what a command line changes of a plan (their forms are told in `loading`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import Fault, PlanError
from orchestrator.plan.faults import keys_at
from orchestrator.plan.parsing import fill, parse
from orchestrator.plan.schema import PhaseSpec, Plan
from orchestrator.plan.settings import groups, leaves
from orchestrator.plan.spelling import nearest
from orchestrator.plan.tree import Loc, Mark, Tree, scalar

_PHASE = ("phases", 0)
_EXPERIMENT = ("phases", 0, "experiments", 0)


def put(tree: Tree, loc: Loc, leaf: Tree) -> Tree:
    """`tree` with `leaf` at `loc`; missing mappings on the way are made."""
    if not loc:
        return leaf
    head, *rest = loc
    if isinstance(head, int):
        children = list(tree.elements())
        children[head] = put(children[head], tuple(rest), leaf)
        return replace(tree, value=children)
    mapping = dict(tree.items())
    child = mapping.get(head) or Tree({}, leaf.mark, leaf.key)
    mapping[head] = put(child, tuple(rest), leaf)
    return replace(tree, value=mapping)


def apply(tree: Tree, arguments: Sequence[str], faults: list[Fault]) -> Tree:
    """The tree with every `KEY=VALUE` in its place."""
    for argument in arguments:
        mark = Mark(f"--set {argument}")
        key, equals, text = argument.partition("=")
        if not equals or not key.strip():
            faults.append(mark.fault("", "KEY=VALUE expected, such as --set defaults.max_epochs=2"))
            continue
        leaf = _value(text.strip(), mark, faults)
        for loc in _places(tree, key.strip(), mark, faults):
            tree = put(tree, loc, replace(leaf, under=tree.get(*loc)))
    return tree


def _value(text: str, mark: Mark, faults: list[Fault]) -> Tree:
    if text[:1] in ("[", "{", '"', "'"):
        found = parse(f"value: {text}", mark.file, faults).get("value")
        return _placed(found, mark) if found is not None else Tree(None, mark, mark)
    filled = fill(text, mark, (), faults)
    return Tree(scalar(filled), mark, mark, filled)


def _placed(tree: Tree, mark: Mark) -> Tree:
    """A command line has no lines: every place in it is the argument itself."""
    if isinstance(tree.value, dict):
        return Tree({key: _placed(child, mark) for key, child in tree.value.items()}, mark, mark)
    if isinstance(tree.value, list):
        return Tree([_placed(child, mark) for child in tree.value], mark, mark)
    return Tree(tree.value, mark, mark, tree.raw)


def _places(tree: Tree, key: str, mark: Mark, faults: list[Fault]) -> list[Loc]:
    parts = key.split(".")
    phases = _ids(tree, "phases")
    if parts[0] in keys_at(()) and parts[0] not in ("phases", "extends"):
        return [tuple(parts)]
    if parts[0] in phases and len(parts) > 1:
        return _in_phase(tree, phases[parts[0]], parts, mark, faults)
    if len(parts) > 1:
        homes = [
            (*where, tuple(parts[1:]))
            for p in phases.values()
            for name, e in _ids(tree, "phases", p, "experiments").items()
            for where in [(p, e)]
            if parts[0] == name or (parts[0] == "*" and _trains(tree, p, e))
        ]
        if homes:
            return [_in_experiment(p, e, rest) for p, e, rest in homes]
    known = [*phases, *keys_at(()), *(n for p in phases.values() for n in _ids(tree, "phases", p, "experiments"))]
    hint = nearest(parts[0], (name for name in known if name not in ("phases", "extends")))
    if parts[0] in leaves() or parts[0] in groups():
        hint = f"; did you mean `defaults.{key}`?"
    faults.append(mark.fault(key, f"unknown key `{parts[0]}`{hint}"))
    return []


def _in_phase(tree: Tree, p: int, parts: list[str], mark: Mark, faults: list[Fault]) -> list[Loc]:
    experiments = _ids(tree, "phases", p, "experiments")
    name, rest = parts[1], tuple(parts[2:])
    if name == "*" and rest:
        return [_in_experiment(p, e, rest) for e in experiments.values() if _trains(tree, p, e)]
    if name in experiments and rest:
        return [_in_experiment(p, experiments[name], rest)]
    if name in keys_at(_PHASE) and name not in ("id", "experiments"):
        return [("phases", p, *parts[1:])]
    hint = nearest(name, [*experiments, *keys_at(_PHASE)])
    message = (
        f"what of `{name}`? write {'.'.join(parts)}.KEY=VALUE" if name in experiments else f"unknown `{name}`{hint}"
    )
    faults.append(mark.fault(".".join(parts), message))
    return []


def _in_experiment(p: int, e: int, rest: tuple[str, ...]) -> Loc:
    home: Loc = ("phases", p, "experiments", e)
    return (*home, *rest) if rest[0] in keys_at(_EXPERIMENT) else (*home, "set", *rest)


def _trains(tree: Tree, p: int, e: int) -> bool:
    experiment = tree.get("phases", p, "experiments", e)
    return experiment is not None and not experiment.get("thresholds") and not experiment.get("ensemble")


def _ids(tree: Tree, *loc: str | int) -> dict[str, int]:
    found = tree.get(*loc)
    children = enumerate(found.elements()) if found is not None else ()
    return {str(name.value): index for index, child in children if (name := child.get("id")) is not None}


def keep(plan: Plan, only: Sequence[str]) -> Plan:
    """The plan with nothing but the phases and experiments named.

    Raises:
        PlanError: a name that is neither.
    """
    full = {f"{phase.id}.{experiment.id}" for phase in plan.phases for experiment in phase.experiments}
    names = {phase.id for phase in plan.phases} | full | {name.partition(".")[2] for name in full}
    faults = [
        Fault(f"--only {name}", 0, 0, "", f"there is no such phase or experiment{nearest(name, names)}")
        for name in only
        if name not in names
    ]
    if faults:
        raise PlanError(faults)
    phases = [_kept(phase, set(only)) for phase in plan.phases]
    return plan.model_copy(update={"phases": tuple(phase for phase in phases if phase.experiments)})


def _kept(phase: PhaseSpec, only: set[str]) -> PhaseSpec:
    chosen = tuple(e for e in phase.experiments if {phase.id, e.id, f"{phase.id}.{e.id}"} & only)
    return phase.model_copy(update={"experiments": chosen})
