"""Two plans side by side: which trainings one has of the other, by digest, and what the rest would cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from orchestrator.plan.rows import NEW, trials
from orchestrator.plan.settings import flat
from orchestrator.plan.study import Experiment, Proposals, Study, Trial
from orchestrator.plan.trials import trial_digest
from orchestrator.plan.wording import aligned, search_text, setting_text, work

Fate = Literal["reused", "new", "dropped"]
FATES: tuple[Fate, ...] = ("reused", "new", "dropped")


@dataclass(frozen=True, slots=True)
class Change:
    """One training, or one experiment that trains nothing of its own yet.

    Attributes:
        fate: `reused` is in both plans, `new` in the second alone, `dropped` in the first alone.
        name: of the trial (in the second plan, where both have it), or `phase/experiment`.
        digest: None for what waits for a source, and for thresholds and ensembles.
        state: in the ledger of the second plan; empty without a digest.
        why: the other name of a renamed one; the settings in which a new one differs from what it replaces.
    """

    fate: Fate
    name: str
    digest: str | None
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Both plans' trainings; `notes` on what could not be compared."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    def count(self, fate: Fate) -> int:
        """How many there are of a kind."""
        return sum(change.fate == fate for change in self.changes)

    def as_json(self) -> dict[str, Any]:
        counts = {fate: self.count(fate) for fate in FATES}
        return counts | {"changes": [asdict(change) for change in self.changes], "notes": list(self.notes)}

    def __str__(self) -> str:
        cells = [(change.fate, change.name, change.digest or "", change.state, change.why) for change in self.changes]
        sums = ", ".join(f"{self.count(fate)} {fate}" for fate in FATES)
        return "\n".join([*aligned(cells), sums, *self.notes])


def difference(old: Study, new: Study, states: Mapping[str, str]) -> Difference:
    """What `new` would reuse of `old`, train anew, and no longer have.

    Args:
        states: digest -> state, of the trials of `new` that its ledger knows.
    """
    notes = []
    provisional = old.data is None or new.data is None
    same_data = _pages(old) == _pages(new) if provisional else True  # digests speak for pages that are here
    if provisional:
        notes.append(
            "the data is not here, so trainings are compared by their settings and by what the plans say of the data"
        )
    if not same_data:
        notes.append("`data` differs, so no training of one is a training of the other")
    before, after = (_by_digest(study, provisional) for study in (old, new))
    shared = before.keys() & after.keys() if same_data else set()
    named = {trial.name: trial for trial in before.values()}
    changes: list[Change] = []
    for key, trial in after.items():
        state = states.get(trial.digest, NEW) if not provisional else ""
        digest = trial.digest if not provisional else None
        if key in shared:
            was = before[key].name
            changes.append(Change("reused", trial.name, digest, state, f"was {was}" if was != trial.name else ""))
        else:
            why = _why(named[trial.name], trial, same_data) if trial.name in named else ""
            changes.append(Change("new", trial.name, digest, state, why))
    for key, trial in before.items():
        if key not in shared:
            changes.append(Change("dropped", trial.name, trial.digest if not provisional else None, "", ""))
    return Difference((*changes, *_others(old, new, same_data)), tuple(notes))


def _pages(study: Study) -> Any:
    data = {key: value for key, value in study.resolved.get("data", {}).items() if key != "test"}
    if isinstance(data.get("synthetic"), Mapping):
        data["synthetic"] = {key: value for key, value in data["synthetic"].items() if key != "test"}
    return data


def _by_digest(study: Study, provisional: bool) -> dict[str, Trial]:
    found: dict[str, Trial] = {}
    for trial in trials(study):
        found.setdefault(trial_digest(trial, None) if provisional else trial.digest, trial)
    return found


def _why(old: Trial, new: Trial, same_data: bool) -> str:
    """The settings in which a training differs from its namesake."""
    before, after = (
        flat(trial.config.model_dump(mode="json")) | {"workers": trial.workers, "fold": trial.fold}
        for trial in (old, new)
    )
    changed = [
        f"{key} {setting_text(before[key])} -> {setting_text(after[key])}" for key in after if after[key] != before[key]
    ]
    return ", ".join(changed) or ("its pages or folds" if same_data else "")


def _others(old: Study, new: Study, same_data: bool) -> Iterator[Change]:
    """Experiments whose trainings are not known yet, or that train nothing: compared by what they ask for."""
    before, after = (
        {f"{e.phase}/{e.id}": _bare(e) for phase in study.phases for e in phase.experiments if not e.trials}
        for study in (old, new)
    )
    for name, item in after.items():
        if same_data and before.get(name) == item:
            yield Change("reused", name, None, "", f"{work(item)}; if its sources are")
        else:
            was = f"was {work(before[name])}" if name in before and work(before[name]) != work(item) else ""
            yield Change("new", name, None, "", "; ".join(part for part in (work(item), was) if part))
    for name in before.keys() - after.keys():
        yield Change("dropped", name, None, "", work(before[name]))
    yield from _proposals(old, new, same_data)


def _proposals(old: Study, new: Study, same_data: bool) -> Iterator[Change]:
    """Trials that sweeps are still to propose: the same where all is the same that they depend on, but for the data."""
    before, after = (
        {f"{e.phase}/{e.id}": (_search(e.proposals), e) for p in study.phases for e in p.experiments if e.unproposed}
        for study in (old, new)
    )
    for name, (search, item) in after.items():
        same = same_data and any(search == other for other, _ in before.values())
        yield Change("reused" if same else "new", name, None, "", search_text(item))
    for name, (search, item) in before.items():
        if not same_data or all(search != other for other, _ in after.values()):
            yield Change("dropped", name, None, "", search_text(item))


def _search(rule: Proposals | None) -> Proposals | None:
    """Without its identity, which is provisional while the data is not here, and what changes no proposal."""
    return None if rule is None else replace(rule, sweep="", trials=0, max_epochs=0, stand_ins=())


def _bare(item: Experiment) -> Experiment:
    """Without what changes no result."""
    return replace(item, what="", why="", priority=1, expect=(), cost_gpu_h=None)
