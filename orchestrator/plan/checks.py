"""What a schema cannot say: settings that fit each other, names that exist, kinds that do not mix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import Fault
from orchestrator.plan import conditions, space
from orchestrator.plan.faults import from_pydantic
from orchestrator.plan.names import Names
from orchestrator.plan.schema import ExperimentSpec, PhaseSpec, Plan
from orchestrator.plan.settings import flat, flat_knobs, nested, overlay, validate
from orchestrator.plan.spelling import nearest
from orchestrator.plan.study import Top
from orchestrator.plan.tree import Loc, Tree

CHECKED_VALUES = 1000  # choices of a range that are tried one by one; beyond, only its ends


# --- settings --------------------------------------------------------------------------------------------------------


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


# --- references ------------------------------------------------------------------------------------------------------


def references(plan: Plan, tree: Tree) -> list[Fault]:
    """Names, kinds and needs of a plan whose keys and types are right."""
    names = Names.of(plan)
    faults = [*_data(plan, tree), *_unique(plan, tree), *_needs(plan, tree)]
    for p, phase in enumerate(plan.phases):
        loc: Loc = ("phases", p)
        for e, experiment in enumerate(phase.experiments):
            home: Loc = (*loc, "experiments", e)
            for key, message in _experiment(plan, phase, experiment, names):
                place = (*home, *key)
                faults.append(tree.near(place).mark.fault(place, message))
        if phase.gate is not None:
            place = (*loc, "gate", "pass")
            for name in dict.fromkeys(conditions.names(conditions.gate(phase.gate.condition))):
                if name not in conditions.QUANTITIES and names.experiment(name) is None:
                    hint = nearest(name, [*conditions.QUANTITIES, *names.experiments])
                    faults.append(tree.near(place).mark.fault(place, f"unknown name `{name}`{hint}"))
    return faults


def _data(plan: Plan, tree: Tree) -> Iterator[Fault]:
    data, mark = plan.data, tree.near(("data",)).key
    if data.synthetic is not None and (data.train or data.val or data.test):
        yield mark.fault("data", "either `synthetic` or files (`train`, `val`, `test`), got both; keep one")
    elif data.synthetic is None and (data.train is None or data.val is None):
        missing = " and ".join(f"`{key}`" for key in ("train", "val") if getattr(data, key) is None)
        yield mark.fault("data", f"{missing} missing; give images and annotations, or `synthetic`")


def _unique(plan: Plan, tree: Tree) -> Iterator[Fault]:
    seen: dict[str, Loc] = {}
    phases: set[str] = set()
    for p, phase in enumerate(plan.phases):
        place: Loc = ("phases", p, "id")
        if phase.id in phases:
            yield tree.near(place).mark.fault(place, f"phase `{phase.id}` is there twice; rename one")
        if phase.id == "all" or phase.id in Plan.model_fields:
            yield tree.near(place).mark.fault(place, f"`{phase.id}` has a meaning of its own; rename the phase")
        phases.add(phase.id)
        for e, experiment in enumerate(phase.experiments):
            place = ("phases", p, "experiments", e, "id")
            if experiment.id in seen:
                first = tree.near(seen[experiment.id]).mark
                yield tree.near(place).mark.fault(
                    place, f"experiment `{experiment.id}` is there twice, first in line {first.line}; rename one"
                )
            if experiment.id == "all":
                yield tree.near(place).mark.fault(place, "`all` has a meaning of its own; rename the experiment")
            seen.setdefault(experiment.id, place)


def _needs(plan: Plan, tree: Tree) -> Iterator[Fault]:
    needs = {phase.id: phase.needs for phase in plan.phases}
    for p, phase in enumerate(plan.phases):
        place: Loc = ("phases", p, "needs")
        trail = _circle(phase.id, needs)
        if trail:
            yield tree.near(place).mark.fault(place, f"phases must not need each other in a circle, got {trail}")


def _circle(start: str, needs: Mapping[str, tuple[str, ...]]) -> str:
    """`a -> b -> a` where following `needs` comes back to `start`, else nothing."""
    trails: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while trails:
        trail = trails.pop()
        for name in needs.get(trail[-1], ()):
            if name == start:
                return " -> ".join((*trail, start))
            if name not in seen:
                seen.add(name)
                trails.append((*trail, name))
    return ""


def _experiment(plan: Plan, phase: PhaseSpec, spec: ExperimentSpec, names: Names) -> Iterator[tuple[Loc, str]]:
    kinds = [
        word
        for word, value in (
            ("sweep", spec.sweep),
            ("from", spec.source),
            ("thresholds", spec.thresholds),
            ("ensemble", spec.ensemble),
        )
        if value is not None
    ]
    if len(kinds) > 1:
        yield (), f"one of sweep, from, thresholds, ensemble, got {' and '.join(kinds)}; split the experiment"
    kind = kinds[0] if kinds else "set"
    if kind in ("thresholds", "ensemble"):
        for key, given in (("set", spec.changes), ("folds", spec.folds), ("seeds", spec.seeds)):
            if given:
                yield (key,), f"trains nothing, so `{key}` has no meaning beside `{kind}`; remove it"
    if kind == "sweep":
        for key, many in (("folds", spec.folds), ("seeds", spec.seeds)):
            if many:
                yield (
                    (key,),
                    f"a sweep takes no `{key}`; repeat its best in an experiment with `from: top({spec.id}, 1)`",
                )
        yield from _sweep(spec)
    if spec.seeds and "seed" in spec.changes:
        yield ("set", "seed"), "is set beside `seeds`; keep one"
    if kind == "from" and not (spec.folds or spec.seeds or spec.changes):
        yield ("from",), "differs in nothing from its source; add `folds`, `seeds` or `set`"
    yield from _folds(plan, spec)
    yield from _sources(phase, spec, names)


def _sweep(spec: ExperimentSpec) -> Iterator[tuple[Loc, str]]:
    if spec.sweep is None:
        return
    keys = flat_knobs(spec.sweep.space)
    if not keys:
        yield ("sweep", "space"), 'must not be empty; write {optimizer.lr: "loguniform(1e-4, 3e-3)"}'
        return
    for key in keys.keys() & flat(spec.changes).keys():
        yield ("set", *key.split(".")), f"`{key}` is swept too; keep it in one place"
    try:
        axes = space.axes_of(spec.sweep.space)
    except ValueError:
        return  # reported with its own place by `settings`
    if any(space.relations(axes)):
        return
    points = space.size(axes)
    if spec.sweep.trials is None and points is None:
        yield ("sweep",), "key `trials` is missing; only a space of lists and ranges can be run whole, as a grid"
    elif spec.sweep.trials is not None and points is not None and spec.sweep.trials > points:
        yield (
            ("sweep", "trials"),
            f"`trials <= {points}` must hold, the points of the space, got {spec.sweep.trials}; leave `trials` out "
            "for the whole grid",
        )


def _folds(plan: Plan, spec: ExperimentSpec) -> Iterator[tuple[Loc, str]]:
    if spec.folds is None:
        return
    if plan.data.folds is None:
        yield ("folds",), "the plan has no `data.folds`; add `folds: {k: 5, seed: 0}` under `data`"
    elif spec.folds != "all" and max(spec.folds) >= plan.data.folds.k:
        yield ("folds",), f"`fold < k` must hold with k={plan.data.folds.k}, got {max(spec.folds)}; folds count from 0"


def _sources(phase: PhaseSpec, spec: ExperimentSpec, names: Names) -> Iterator[tuple[Loc, str]]:
    found: list[tuple[Loc, str | Top]] = []
    if spec.source is not None:
        found.append((("from",), spec.source))
    if spec.thresholds is not None:
        found.append((("thresholds", "of"), spec.thresholds.of))
    if spec.ensemble is not None:
        pool = spec.ensemble.pool
        place: Loc = ("ensemble", "pool")
        found += [(place, pool)] if isinstance(pool, Top) else [((*place, i), name) for i, name in enumerate(pool)]
    for place, source in found:
        message = _source(phase, spec, names, source)
        if message:
            yield place, message


def _source(phase: PhaseSpec, spec: ExperimentSpec, names: Names, source: str | Top) -> str:
    scope = source.scope if isinstance(source, Top) else source
    if isinstance(source, Top) and scope == "all":
        return ""
    home = names.phase(scope) if isinstance(source, Top) else None
    target = None if home else names.experiment(scope)
    if home is None and target is None:
        known = [*names.experiments, *([*names.phases, *names.outside, "all"] if isinstance(source, Top) else [])]
        outside = f"; phases of other files must be listed in `needs` of `{phase.id}`"
        return f"unknown {'phase or experiment' if isinstance(source, Top) else 'experiment'} `{scope}`" + (
            nearest(scope, known) or outside
        )
    if target == f"{phase.id}.{spec.id}":
        return "must not draw on itself"
    owner = home or str(target).partition(".")[0]
    if owner != phase.id and owner not in names.before(phase.id):
        return f"`{owner}` may run later; add it to `needs` of `{phase.id}`"
    if target in names.derived:
        return f"`{scope}` trains nothing; name an experiment that does"
    return ""
