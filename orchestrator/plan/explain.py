"""Where a value comes from: what an experiment's key is, the file and line that set it, and what that replaced."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import detector
from detector.errors import InputError
from orchestrator.plan.schema import ExperimentSpec, Plan
from orchestrator.plan.settings import TrialSettings, groups, leaves
from orchestrator.plan.spelling import nearest
from orchestrator.plan.tree import Loc, Mark, Tree

_HOME = Path(detector.__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Layer:
    """One place that gives a key its value.

    Attributes:
        value: as written there.
        how: `set`, `sweep`, `seeds`, `from`, `defaults`, `the plan's seed`, `built in`, ...
        file: path; with `line` and `column` from 1, or 0 for a `--set` argument, which has none.
    """

    value: Any
    how: str
    file: str
    line: int
    column: int

    @property
    def place(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A key of one experiment; `layers`: the first is in force, each of the others is what the one above replaced."""

    experiment: str
    key: str
    meaning: str
    layers: tuple[Layer, ...]

    def as_json(self) -> dict[str, Any]:
        head = {"experiment": self.experiment, "key": self.key, "meaning": self.meaning}
        return head | {"value": self.layers[0].value, "layers": [asdict(layer) for layer in self.layers]}

    def __str__(self) -> str:
        first, *rest = self.layers
        lines = [f"{self.experiment}: {self.key} = {_shown(first.value)}    {first.place}  ({first.how})"]
        lines += [f"    instead of {_shown(old.value)}    {old.place}  ({old.how})" for old in rest]
        return "\n".join([*lines, f"    {self.meaning}"] if self.meaning else lines)


def explain(plan: Plan, experiment: str, key: str | None = None) -> tuple[Explanation, ...]:
    """The value of a key and what set it; every setting below a group, and all settings without a key.

    Args:
        plan: as loaded.
        experiment: `phase.experiment`, or its id.
        key: a setting such as `optimizer.lr`, a group such as `optimizer`, or a key of the experiment such as `cost`.

    Raises:
        InputError: there is no such experiment or key.
    """
    tree = plan.origin.tree
    home, name, spec = _find(plan, experiment)
    own = list(_fields(ExperimentSpec))
    trains = spec.thresholds is None and spec.ensemble is None
    known = [*leaves(), "metric.aggregate", "metric.variant"] if trains else []
    if key is None:
        wanted = known or [word for word in own if tree.get(*home, word) is not None]
    elif key in known:
        wanted = [key]
    elif trains and key in groups():
        wanted = [leaf for leaf in leaves() if leaf.startswith(f"{key}.")]
    elif _declared(key) is not None:
        wanted = [key]
    else:
        raise InputError(f"{name}: unknown key `{key}`{nearest(key, [*known, *(groups() if trains else ()), *own])}")
    return tuple(_explanation(plan, home, name, word, word in known) for word in wanted)


def _find(plan: Plan, identity: str) -> tuple[Loc, str, ExperimentSpec]:
    found = {f"{phase.id}.{item.id}": (phase, item) for phase in plan.phases for item in phase.experiments}
    name = next((full for full in found if identity in (full, full.partition(".")[2])), None)
    if name is None:
        known = found if "." in identity else [full.partition(".")[2] for full in found]
        raise InputError(f"{plan.origin.path}: no experiment `{identity}`{nearest(identity, known)}")
    phase, item = found[name]
    tree = plan.origin.tree
    return tree.by_id((*tree.by_id(("phases",), phase.id), "experiments"), item.id), name, item


def _explanation(plan: Plan, home: Loc, name: str, key: str, setting: bool) -> Explanation:
    if setting:
        field = _field(key)
        layers = tuple(_layers(plan, home, key))
        derived = any(layer.how.startswith("from") for layer in layers)
        return Explanation(name, key, field[2], layers if derived else (*layers, _built_in(key)))
    layers = tuple(_history(plan.origin.tree.get(*home, *key.split(".")), "experiment"))
    model, declared, info = cast(tuple[type[BaseModel], str, FieldInfo], _declared(key))
    default = Layer(_plain(info.default), "default", *_line(model, declared))
    return Explanation(name, key, info.description or "", layers or (default,))


def _declared(key: str) -> tuple[type[BaseModel], str, FieldInfo] | None:
    """The model, the field's name and the field of an experiment's key such as `ensemble.views`."""
    model: type[BaseModel] | None = ExperimentSpec
    found = None
    for part in key.split("."):
        if model is None or part not in _fields(model):
            return None
        name, info = _fields(model)[part]
        found = (model, name, info)
        inner = [info.annotation, *get_args(info.annotation)]
        model = next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return found


def _fields(model: type[BaseModel]) -> dict[str, tuple[str, FieldInfo]]:
    """What a plan calls each field, with the field."""
    return {info.alias or name: (name, info) for name, info in model.model_fields.items()}


def _layers(plan: Plan, home: Loc, key: str) -> Iterator[Layer]:
    """All places that may set a setting, the strongest first."""
    tree, path = plan.origin.tree, tuple(key.split("."))
    if key == "seed":
        yield from _history(tree.get(*home, "seeds"), "seeds, one training each")
    yield from _history(tree.get(*home, "sweep", "space", *path), "sweep, drawn from it")
    yield from _history(tree.get(*home, "set", *path), "set")
    source = tree.get(*home, "from")
    if source is not None:
        yield Layer(f"that of {source.plain()}", "from, known once it has run", *_place(source.mark))
        return
    if path[0] == "metric":
        yield from _history(tree.get(*path), "the plan's metric")
        return
    yield from _history(tree.get("defaults", *path), "defaults")
    if key == "seed":
        yield from _history(tree.get("seed"), "the plan's seed")


def _history(node: Tree | None, how: str) -> Iterator[Layer]:
    while node is not None:
        yield Layer(node.plain(), how, *_place(node.mark))
        node = node.under


def _place(mark: Mark) -> tuple[str, int, int]:
    return mark.file, mark.line, mark.column


# --- what is built in ------------------------------------------------------------------------------------------------


def _built_in(key: str) -> Layer:
    model, name, _ = _field(key)
    default = model.model_fields[name].get_default(call_default_factory=True)
    return Layer(_plain(default), "built in", *_line(model, name))


def _field(key: str) -> tuple[type[BaseModel], str, str]:
    """The model that declares a setting, the field's name, and its meaning."""
    *path, name = key.split(".")
    model: type[BaseModel] = TrialSettings
    for part in path:
        inner = model.model_fields[part].annotation
        assert isinstance(inner, type) and issubclass(inner, BaseModel)
        model = inner
    return model, name, model.model_fields[name].description or ""


def _line(model: type[BaseModel], name: str) -> tuple[str, int, int]:
    """File, line and column of a field's declaration, which may stand in a parent."""
    model = next(cls for cls in model.__mro__ if issubclass(cls, BaseModel) and name in inspect.get_annotations(cls))
    lines, first, path = _source(model)
    for offset, text in enumerate(lines):
        if text.strip().startswith(f"{name}: "):
            return path, first + offset, len(text) - len(text.lstrip()) + 1
    return path, first, 1


@cache
def _source(model: type[BaseModel]) -> tuple[list[str], int, str]:
    lines, first = inspect.getsourcelines(model)
    path = Path(inspect.getfile(model))
    return lines, first, str(path.relative_to(_HOME) if path.is_relative_to(_HOME) else path)


def _plain(default: Any) -> Any:
    if isinstance(default, tuple):
        return list(default)
    return None if default is PydanticUndefined else default


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "nothing" if value is None else str(value)
