"""What a plan's parts say of each other: names that exist, kinds that do not mix, no circles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.errors import Fault
from orchestrator.plan import conditions, points, space
from orchestrator.plan.advice import starts_of
from orchestrator.plan.names import Names
from orchestrator.plan.pools import pools
from orchestrator.plan.schema import ExperimentSpec, PhaseSpec, Plan, SweepSpec
from orchestrator.plan.settings import flat, flat_knobs
from orchestrator.plan.spelling import nearest
from orchestrator.plan.study import Top
from orchestrator.plan.tree import Loc, Tree


def references(plan: Plan, tree: Tree) -> list[Fault]:
    """Names, kinds and needs of a plan whose keys and types are right."""
    names = Names.of(plan)
    faults = [*_data(plan, tree), *_unique(plan, tree), *_needs(plan, tree), *_drawn_in_circles(plan, tree, names)]
    for p, phase in enumerate(plan.phases):
        loc: Loc = ("phases", p)
        for e, experiment in enumerate(phase.experiments):
            home: Loc = (*loc, "experiments", e)
            for key, message in _experiment(plan, phase, experiment, names):
                place = (*home, *key)
                faults.append(tree.near(place).mark.fault(place, message))
        for key, message in _gate(phase, names):
            place = (*loc, "gate", *key)
            faults.append(tree.near(place).mark.fault(place, message))
    return faults


def _gate(phase: PhaseSpec, names: Names) -> Iterator[tuple[Loc, str]]:
    if phase.gate is None:
        return
    if phase.gate.condition is None:
        if not phase.target.given():
            yield (), "without `pass` a gate asks for the phase's `target`, and there is none; add one of them"
        return
    for name in dict.fromkeys(conditions.names(conditions.gate(phase.gate.condition))):
        if name == "target" and not phase.target.given():
            yield ("pass",), "`target` is nothing: the phase has none; add `target: {hmean: ...}` or name a score"
        elif name not in conditions.QUANTITIES and names.experiment(name) is None:
            yield ("pass",), f"unknown name `{name}`{nearest(name, [*conditions.QUANTITIES, *names.experiments])}"


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


def _drawn_in_circles(plan: Plan, tree: Tree, names: Names) -> Iterator[Fault]:
    """Experiments that wait for each other's results."""
    draws: dict[str, tuple[str, ...]] = {}
    homes: dict[str, Loc] = {}
    for p, phase in enumerate(plan.phases):
        for e, spec in enumerate(phase.experiments):
            found = (names.experiment(s.scope if isinstance(s, Top) else s) for _, s in _drawn(spec))
            full = f"{phase.id}.{spec.id}"
            draws[full] = tuple(name for name in found if name is not None and name != full)
            homes[full] = ("phases", p, "experiments", e)
    for full, home in homes.items():
        if trail := _circle(full, draws):
            yield tree.near(home).mark.fault(home, f"experiments must not draw on each other in a circle, got {trail}")


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
    yield from pools(plan, spec, names)


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
    yield from _search(spec.sweep, axes, points.size(axes))


def _search(sweep: SweepSpec, axes: Mapping[str, space.Axis], size: int | None) -> Iterator[tuple[Loc, str]]:
    """Whether the way of a sweep's search, its trials and its space go together."""
    kind = "" if sweep.search is None else sweep.search.kind
    if kind == "grid":
        if sweep.trials is not None:
            yield ("sweep", "trials"), "a grid is run whole; leave `trials` out, or write `search: random`"
        elif size is None:
            yield (
                ("sweep", "search"),
                "only a space of lists and ranges has a grid; give `trials` and `search: random`",
            )
        return
    if sweep.trials is None:
        if kind:
            whole = "" if size is None else f", or leave `search` out for the whole grid of {size}"
            yield ("sweep",), f"key `trials` is missing; `search: {kind}` needs to know how many{whole}"
        elif size is None:
            yield ("sweep",), "key `trials` is missing; only a space of lists and ranges can be run whole, as a grid"
        return
    if size is not None and sweep.trials > size:
        yield (
            ("sweep", "trials"),
            f"`trials <= {size}` must hold, the points of the space, got {sweep.trials}; leave `trials` out "
            "for the whole grid",
        )
    if sweep.search is not None and sweep.search.tpe is not None:
        starts, given = starts_of(sweep.search.tpe, axes), sweep.search.tpe.starts is not None
        if starts >= sweep.trials:
            remedy = "lower `starts`" if given else "give `tpe: {starts: ...}`"
            yield (
                ("sweep", "search", "tpe", "starts") if given else ("sweep", "trials"),
                f"`starts < trials` must hold, or no trial is proposed, got starts={starts}, trials={sweep.trials}; "
                f"add trials, {remedy}, or write `search: random`",
            )


def _folds(plan: Plan, spec: ExperimentSpec) -> Iterator[tuple[Loc, str]]:
    if spec.oof is not None and plan.data.folds is not None and not all_folds(plan, spec):
        yield ("oof",), "says nothing where not all folds are trained; write `folds: all`, or remove it"
    if spec.folds is None:
        return
    if plan.data.folds is None:
        yield ("folds",), "the plan has no `data.folds`; add `folds: {k: 5, seed: 0}` under `data`"
    elif spec.folds != "all" and max(spec.folds) >= plan.data.folds.k:
        yield ("folds",), f"`fold < k` must hold with k={plan.data.folds.k}, got {max(spec.folds)}; folds count from 0"


def all_folds(plan: Plan, spec: ExperimentSpec) -> bool:
    """Whether an experiment trains every fold, so that each training page has a model that did not learn from it."""
    if spec.folds is None or plan.data.folds is None:
        return False
    return spec.folds == "all" or set(spec.folds) == set(range(plan.data.folds.k))


def _sources(phase: PhaseSpec, spec: ExperimentSpec, names: Names) -> Iterator[tuple[Loc, str]]:
    for place, source in _drawn(spec):
        message = _source(phase, spec, names, source)
        if message:
            yield place, message


def _drawn(spec: ExperimentSpec) -> list[tuple[Loc, str | Top]]:
    """What an experiment draws on, each with its place in the experiment."""
    found: list[tuple[Loc, str | Top]] = []
    if spec.source is not None:
        found.append((("from",), spec.source))
    if spec.thresholds is not None:
        found.append((("thresholds", "of"), spec.thresholds.of))
    if spec.ensemble is not None:
        pool = spec.ensemble.pool
        place: Loc = ("ensemble", "pool")
        found += [(place, pool)] if isinstance(pool, Top) else [((*place, i), name) for i, name in enumerate(pool)]
    return found


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
