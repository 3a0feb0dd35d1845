"""A bundle: several checkpoints, their weights, views and thresholds in one folder that needs nothing outside it.

bundle/bundle.json       {"format": 1, "members": [{"path": "members/0", "weight": 1.0}, ...], "views": [...],
                          "postprocess": {...}}
bundle/members/0/        a checkpoint folder, see detector.checkpoint
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detector import checkpoint
from detector.config import Postprocess
from detector.errors import CheckpointError, DataError, InputError
from detector.files import read_json, write_json
from detector.inference.views import IDENTITY, view

FORMAT = 1
BUNDLE = "bundle.json"
REMEDY = "write the bundle again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What bundle.json says, checked.

    Attributes:
        members: checkpoint folders and their weights (> 0), at least one.
        views: names of the views each member sees.
        rule: thresholds of the fused map.
    """

    members: tuple[tuple[Path, float], ...]
    views: tuple[str, ...]
    rule: Postprocess


def save_bundle(
    folder: Path,
    members: Sequence[tuple[Path, float]],
    views: Sequence[str] = (IDENTITY,),
    rule: Postprocess | None = None,
) -> None:
    """Copy checkpoints into a bundle at `folder`, replacing the one there as a whole.

    Args:
        members: checkpoint folders and weights (> 0); each checkpoint's digest is verified when it is loaded.
        views: what each member sees.
        rule: thresholds of the fused map; the first member's own unless given.

    Raises:
        CheckpointError: a member is no checkpoint.
        InputError: an unknown view.
    """
    if not members or any(not (math.isfinite(weight) and weight > 0) for _, weight in members):
        raise ValueError(f"a bundle needs members with `weight > 0`, got {[weight for _, weight in members]}")
    for name in views:
        view(name)
    rule = rule or checkpoint.load_config(members[0][0]).postprocess
    sources = [checkpoint.locate(source) for source, _ in members]
    with checkpoint.replacing_folder(folder) as draft:
        rows = []
        for number, (source, (_, weight)) in enumerate(zip(sources, members, strict=True)):
            place = f"members/{number}"
            (draft / place).mkdir(parents=True)
            for file in (checkpoint.WEIGHTS, checkpoint.CONFIG, checkpoint.META):
                shutil.copyfile(source / file, draft / place / file)
            rows.append({"path": place, "weight": float(weight)})
        value = {"format": FORMAT, "members": rows, "views": list(views), "postprocess": rule.model_dump(mode="json")}
        write_json(draft / BUNDLE, value)


def is_bundle(folder: Path) -> bool:
    """Whether `folder` holds a bundle.json."""
    return (Path(folder) / BUNDLE).is_file()


def read_bundle(folder: Path) -> Bundle:
    """What a bundle's bundle.json says; CheckpointError with file, key and rule where it does not fit."""
    path = Path(folder) / BUNDLE
    try:
        value = read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise CheckpointError(f"{path}: `format` must be {FORMAT}, got {found!r}; {REMEDY}")
    rows, names = value.get("members"), value.get("views")
    if not isinstance(rows, list) or not rows:
        raise CheckpointError(f"{path}: members: must be a list that is not empty, got {rows!r}; {REMEDY}")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path}: views: must be a list of names that is not empty, got {names!r}; {REMEDY}")
    members = tuple(_member(path, number, row) for number, row in enumerate(rows))
    try:
        for name in names:
            view(name)
        return Bundle(members, tuple(names), Postprocess.model_validate(value.get("postprocess")))
    except InputError as error:
        raise CheckpointError(f"{path}: views: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("postprocess", *first["loc"]))
        raise CheckpointError(f"{path}: {place}: {first['msg']}; {REMEDY}") from error


def _member(path: Path, number: int, row: Any) -> tuple[Path, float]:
    """A member's folder, inside the bundle's own, and its weight."""
    key = f"{path}: members[{number}]"
    if not isinstance(row, dict) or not isinstance(row.get("path"), str):
        raise CheckpointError(f"{key}: must be an object with `path` and `weight`, got {row!r}; {REMEDY}")
    weight = row.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (math.isfinite(weight) and weight > 0):
        raise CheckpointError(f"{key}.weight: must be a number > 0, got {weight!r}; {REMEDY}")
    root = path.parent.resolve()
    folder = Path(os.path.realpath(root / row["path"]))
    if folder == root or not folder.is_relative_to(root):
        raise CheckpointError(f"{key}.path: must lie inside the bundle, got {row['path']!r}; {REMEDY}")
    return folder, float(weight)
