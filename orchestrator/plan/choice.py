"""`--only`, `--skip` and `--from`: which experiments of a plan a command is about."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import Fault, PlanError
from orchestrator.plan.spelling import nearest
from orchestrator.plan.study import Study


def choose(study: Study, skip: Sequence[str] = (), start: str | None = None) -> tuple[str, ...]:
    """What is left of a study, as arguments of `--only`: whole phases by their id, else `phase.experiment`.

    Args:
        study: after `--only`.
        skip: phases, experiments, or `phase.experiment`, that are left out.
        start: the phase or experiment to begin with, in the order in which they run; what comes before is left out.

    Raises:
        PlanError: a name that is neither, or nothing is left.
    """
    order = [f"{phase.id}.{item.id}" for phase in study.phases for item in phase.experiments]
    switches = [*(("--skip", name) for name in skip), *([("--from", start)] if start is not None else [])]
    found = {name: [full for full in order if name in _names(full)] for _, name in switches}
    known = {name for full in order for name in _names(full)}
    faults = [
        Fault(f"{switch} {name}", 0, 0, "", f"there is no such phase or experiment{nearest(name, known)}")
        for switch, name in switches
        if not found[name]
    ]
    if faults:
        raise PlanError(faults)
    first = order.index(found[start][0]) if start is not None else 0
    left = [full for full in order[first:] if not any(full in found[name] for name in skip)]
    if not left:
        said = " ".join(f"{switch} {name}" for switch, name in switches)
        raise PlanError([Fault(said, 0, 0, "", "leaves nothing of the plan; leave a switch out")])
    chosen: list[str] = []
    for phase in study.phases:
        mine = [full for full in order if full.startswith(f"{phase.id}.")]
        kept = [full for full in mine if full in left]
        chosen += [phase.id] if kept == mine else kept
    return tuple(chosen)


def _names(full: str) -> tuple[str, str, str]:
    phase, _, experiment = full.partition(".")
    return full, phase, experiment
