"""The names of a plan: its phases and experiments, and the phases of other files of the roadmap that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.plan.study import Top

if TYPE_CHECKING:
    from orchestrator.plan.schema import Plan


@dataclass(frozen=True, slots=True)
class Names:
    """Who is called what.

    Attributes:
        phases: ids in this file, each with what it needs.
        experiments: id -> `phase.experiment`.
        outside: phases that are needed and not in this file.
        derived: `phase.experiment` of those that train nothing (thresholds, ensembles).
    """

    phases: Mapping[str, tuple[str, ...]]
    experiments: Mapping[str, str]
    outside: frozenset[str]
    derived: frozenset[str]

    @classmethod
    def of(cls, plan: Plan) -> Names:
        pairs = [(phase, experiment) for phase in plan.phases for experiment in phase.experiments]
        phases = {phase.id: phase.needs for phase in plan.phases}
        return cls(
            phases=phases,
            experiments={experiment.id: f"{phase.id}.{experiment.id}" for phase, experiment in pairs},
            outside=frozenset(name for needs in phases.values() for name in needs if name not in phases),
            derived=frozenset(f"{p.id}.{e.id}" for p, e in pairs if e.thresholds is not None or e.ensemble is not None),
        )

    def phase(self, name: str) -> str | None:
        """The phase of that name, here or needed from another file."""
        return name if name in self.phases or name in self.outside else None

    def experiment(self, name: str) -> str | None:
        """`phase.experiment` for an id or for `phase.experiment`; experiments of other files are believed."""
        if name in self.experiments:
            return self.experiments[name]
        owner, dot, _ = name.partition(".")
        if dot and (name in self.experiments.values() or owner in self.outside):
            return name
        return None

    def before(self, phase: str) -> frozenset[str]:
        """All phases that run before, however far."""
        found: set[str] = set()
        waiting = list(self.phases.get(phase, ()))
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.phases.get(name, ())
        return frozenset(found)

    def scope(self, top: Top) -> Top:
        """`top` with an experiment's id written out as `phase.experiment`."""
        if top.scope == "all" or self.phase(top.scope):
            return top
        return Top(self.experiment(top.scope) or top.scope, top.count)
