"""Whether an ensemble has anything to fuse (several models, several views of one, or its soup), and what is idle."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.plan import points, space
from orchestrator.plan.names import Names
from orchestrator.plan.schema import EnsembleSettings, ExperimentSpec, Plan
from orchestrator.plan.study import Top
from orchestrator.plan.tree import Loc


def pools(plan: Plan, spec: ExperimentSpec, names: Names) -> Iterator[tuple[Loc, str]]:
    """Faults of an ensemble's pool and views, each with its place in the experiment."""
    if spec.ensemble is None or len(set(spec.ensemble.views)) > 1 or spec.ensemble.soups != "none":
        return
    pool, most = spec.ensemble.pool, spec.ensemble.max_members
    if _members(plan, spec.ensemble, names) != 1:
        return
    of = f'"top({pool.scope}, 1)"' if isinstance(pool, Top) else pool[0]
    views = ", ".join(spec.ensemble.views)
    held = f"got `max_members: {most}`" if most < 2 else "got a pool of one model"
    yield (
        ("ensemble", "max_members" if most < 2 else "pool"),
        f"two models or two views must be there to fuse, {held} and `views: [{views}]`; add views, such as "
        f"[{views}, scale 0.8], or members; the thresholds of one model are searched by `thresholds: {{of: {of}}}`",
    )


def idle_ways(plan: Plan, spec: ExperimentSpec, names: Names) -> Iterator[tuple[Loc, str]]:
    """Settings of several members where there can be one only."""
    if spec.ensemble is None or _members(plan, spec.ensemble, names) != 1:
        return
    for key in ("fusion", "weights"):
        field = type(spec.ensemble).model_fields[key]
        if getattr(spec.ensemble, key) != field.default:
            yield ("ensemble", key), f"`{key}` changes nothing here: a single model weighs 1"


def _members(plan: Plan, spec: EnsembleSettings, names: Names) -> int | None:
    """Members that an ensemble may have at most; None where nobody knows."""
    pool = spec.pool
    models = _top(plan, pool, names) if isinstance(pool, Top) else _listed(plan, pool, names)
    if models is not None and spec.soups == "beside":
        models *= 2
    return spec.max_members if models is None else min(models, spec.max_members)


def _top(plan: Plan, top: Top, names: Names) -> int | None:
    """Models that `top` may hold at most; None where nobody knows."""
    known = None if top.scope == "all" or names.phase(top.scope) else _listed(plan, (top.scope,), names)
    return top.count if known is None else min(top.count, known)


def _listed(plan: Plan, ids: tuple[str, ...], names: Names) -> int | None:
    """Trainings of these experiments; None where one of them is in another file, or its number is not known."""
    specs = {f"{phase.id}.{item.id}": item for phase in plan.phases for item in phase.experiments}
    full = {names.experiment(name) or name for name in ids}
    counts = [_trainings(plan, specs[name]) if name in specs else None for name in full]
    return None if None in counts else sum(count or 0 for count in counts)


def _trainings(plan: Plan, spec: ExperimentSpec) -> int | None:
    folds = (plan.data.folds.k if plan.data.folds else None) if spec.folds == "all" else len(spec.folds or (None,))
    if folds is None:
        return None
    times = folds * len(spec.seeds or (None,))
    if spec.source is not None:
        return spec.source.count * times
    if spec.sweep is not None:
        return _size(spec)
    return times


def _size(spec: ExperimentSpec) -> int | None:
    """Trials of a sweep; None where its space cannot be read, which is told elsewhere."""
    assert spec.sweep is not None
    try:
        return spec.sweep.trials or points.size(space.axes_of(spec.sweep.space))
    except ValueError:
        return None
