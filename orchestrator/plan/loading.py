"""A plan file to a `Plan`: read, extended, overridden, checked; every fault at once, each with its place.

`--set KEY=VALUE` changes one value; VALUE is a scalar of YAML 1.2, or a list or mapping in flow style:

    defaults.max_epochs=2, data.train.images=pages, seed=1      a key of the plan, from its top
    phase2.target.hmean=0.98                                    a key of a phase
    phase2.unet.image_size=1280, phase2.unet.optimizer.lr=1e-3  a setting: goes to the experiment's `set`
    phase2.unet.cost=2h, phase2.unet.sweep.trials=4             a key of the experiment
    phase2.*.image_size=320, *.image_size=320                   every experiment of a phase, or of the plan, that trains

`--only ID` keeps a phase, `phase.experiment`, or an experiment by its id; it may be given several times.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from orchestrator.errors import Fault, PlanError
from orchestrator.plan import checks, references
from orchestrator.plan.faults import from_pydantic, unknown_setting
from orchestrator.plan.names import Names
from orchestrator.plan.overrides import apply, keep, put
from orchestrator.plan.parsing import parse
from orchestrator.plan.schema import Origin, Plan
from orchestrator.plan.settings import groups, leaves
from orchestrator.plan.tree import Loc, Mark, Tree, dotted, merge


def load(path: str | Path, overrides: Sequence[str] = (), only: Sequence[str] = ()) -> Plan:
    """The plan at `path`.

    Args:
        path: a YAML file; `extends` in it is relative to it, paths of data to the current directory.
        overrides: `--set` arguments, `KEY=VALUE`.
        only: `--only` arguments; the rest is checked, then left out.

    Raises:
        PlanError: with all that is wrong.
    """
    path = Path(path)
    faults: list[Fault] = []
    source = _text(path, faults)
    tree = _read(path, source, faults, ())
    if any(fault.where in ("", "extends") for fault in faults):
        raise PlanError(faults)  # half a plan: all else would be called missing
    broken = tuple(fault.where for fault in faults)  # what cannot be read must not be called missing, too
    tree = apply(tree, overrides, faults)
    tree = drop_unknown_settings(tree, faults)
    found: list[Fault] = []
    plan: Plan | None = None
    try:
        plan = Plan.model_validate_json(json.dumps(tree.plain()), strict=True)
    except ValidationError as error:
        found += from_pydantic(error.errors(include_url=False), tree)
    found += checks.settings(tree)
    faults += [fault for fault in found if not _hides(broken, fault.where)]
    if plan is not None:
        faults += [fault for fault in references.references(plan, tree) if not _hides(broken, _row(fault.where))]
    if plan is None or faults:
        raise PlanError(list(dict.fromkeys(faults)))
    origin = Origin(path, source, tree, Names.of(plan))
    if only:
        plan = keep(plan, only)
    plan._origin = origin
    return plan


def _hides(broken: Sequence[str], where: str) -> bool:
    """Whether a fault at `where` follows from something there or below that could not be read."""
    return any(place == where or place.startswith((f"{where}.", f"{where}[")) for place in broken if where)


def _row(where: str) -> str:
    """The experiment that a place belongs to, else the place: what is torn off there may be missed anywhere in it."""
    row = re.match(r"phases\[\d+\]\.experiments\[\d+\]", where)
    return row[0] if row else where


def _text(path: Path, faults: list[Fault]) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        faults.append(Fault(str(path), 0, 0, "", f"cannot be read ({error.strerror}); check the path"))
    except UnicodeDecodeError as error:
        faults.append(Fault(str(path), 0, 0, "", f"is not UTF-8 at byte {error.start}; save it as UTF-8"))
    raise PlanError(faults)


def _read(path: Path, source: str, faults: list[Fault], seen: tuple[Path, ...]) -> Tree:
    tree = nest_settings(parse(source, str(path), faults), faults)
    if not isinstance(tree.value, dict) or "extends" not in tree.value:
        return tree
    rest = dict(tree.value)
    extends = rest.pop("extends")
    tree = replace(tree, value=rest)
    if not isinstance(extends.value, str):
        faults.append(extends.mark.fault("extends", f"the path of one plan file expected, got {extends.plain()!r}"))
        return tree
    base = path.parent / extends.value
    chain = (*seen, path.resolve())
    if base.resolve() in chain:
        circle = " -> ".join(step.name for step in (*chain[chain.index(base.resolve()) :], base))
        faults.append(extends.mark.fault("extends", f"plans must not extend each other in a circle, got {circle}"))
        return tree
    if not base.is_file():
        faults.append(extends.mark.fault("extends", f"there is no file {base}; paths are relative to this plan"))
        return tree
    return merge(_read(base, _text(base, faults), faults, chain), tree)


def setting_places(tree: Tree) -> list[Loc]:
    """Where a plan holds settings: `defaults`, each `set`, each `sweep.space`."""
    places: list[Loc] = [("defaults",)] if tree.get("defaults") else []
    for p, phase in enumerate((tree.get("phases") or tree).elements()):
        for e, experiment in enumerate((phase.get("experiments") or phase).elements()):
            tails: tuple[Loc, ...] = (("set",), ("sweep", "space"))
            places += [("phases", p, "experiments", e, *tail) for tail in tails if experiment.get(*tail)]
    return places


def nest_settings(tree: Tree, faults: list[Fault]) -> Tree:
    """Dotted settings as nested ones, so that files merge key by key however they are written."""
    for place in setting_places(tree):
        found = tree.get(*place)
        if found is not None and isinstance(found.value, dict):
            tree = put(tree, place, _nested(found, place, (), faults))
    return tree


def _nested(tree: Tree, loc: Loc, above: tuple[str, ...], faults: list[Fault]) -> Tree:
    out = Tree({}, tree.mark, tree.key)
    for key, child in tree.items():
        parts = tuple(key.split("."))
        deeper = isinstance(child.value, dict) and dotted((*above, *parts)) not in leaves()
        if deeper:
            child = _nested(child, (*loc, *parts), (*above, *parts), faults)
        for name, leaf in child.items() if deeper else [("", child)]:
            target = (*parts, name) if name else parts
            out = _insert(out, target, leaf, (*loc, *target), faults)
        if deeper and not child.value:
            out = _insert(out, parts, child, (*loc, *parts), faults)
    return out


def _insert(out: Tree, parts: Loc, leaf: Tree, loc: Loc, faults: list[Fault]) -> Tree:
    old = out.get(*parts)
    if old is not None:
        if isinstance(old.value, dict) and isinstance(leaf.value, dict):
            return put(out, parts, merge(old, leaf))
        faults.append(leaf.key.fault(loc, f"is set twice, first in line {old.key.line}; keep one"))
        return out
    return put(out, parts, leaf)


def drop_unknown_settings(tree: Tree, faults: list[Fault]) -> Tree:
    """Settings that no training reads are reported once and left out of what is checked further."""
    for place in setting_places(tree):
        found = tree.get(*place)
        if found is not None and isinstance(found.value, dict):
            tree = put(tree, place, _known(found, place, (), faults))
    return tree


def _known(tree: Tree, place: Loc, path: tuple[str, ...], faults: list[Fault]) -> Tree:
    kept: dict[str, Tree] = {}
    for name, child in tree.items():
        key = dotted((*path, name))
        if key in groups() and isinstance(child.value, dict):
            kept[name] = _known(child, place, (*path, name), faults)
        elif key in leaves() or key in groups():
            kept[name] = child
        else:
            # `a: {b: 1}` and `a.b: 1` are one fault, named as far as the first unknown part.
            mark: Mark = child.key
            faults.append(unknown_setting(mark, (*place, *path, name), key))
    return replace(tree, value=kept)
