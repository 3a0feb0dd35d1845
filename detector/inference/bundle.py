"""A bundle: several checkpoints, their weights, views and thresholds in one folder that needs nothing outside it.

    bundle/bundle.json       {"format": 2, "digest": ..., "members": [{"path": "members/0", "weight": 1.0, "digest":
                              ...}, ...], "views": [...], "fusion": "mean", "postprocess": {...},
                              "files": {"members/0/config.json": ..., ...}}
    bundle/members/0/        a checkpoint folder, see detector.checkpoint
    bundle/MLmodel, code/... the same folder as an MLflow model, see detector.inference.served

`digest` covers all that decides what a bundle finds: members by the digests of their weights and configs, their shares,
views, fusion, thresholds. `files` has a digest of every file. Both are held against what is there before anything is
computed, so a bundle that was edited, cut off or mixed with another is an error, not another model.

Format 1 had no `fusion`: its members were averaged, and so they are when it is read. Nor had it digests, but those of
its members.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detector import checkpoint
from detector.config import Postprocess
from detector.errors import CheckpointError, DataError, InputError
from detector.files import read_json, write_json
from detector.inference.fusion import FUSIONS, Fusion
from detector.inference.served import write_model
from detector.inference.views import IDENTITY, view

FORMAT = 2
READ = (1, FORMAT)
BUNDLE = "bundle.json"
REMEDY = "write the bundle again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What bundle.json says, checked.

    Attributes:
        members: checkpoint folders and their weights (> 0), at least one.
        views: names of the views each member sees.
        rule: thresholds of the fused map.
        fusion: how the members' maps become one.
        digest: of all that decides what the bundle finds.
    """

    members: tuple[tuple[Path, float], ...]
    views: tuple[str, ...]
    rule: Postprocess
    fusion: Fusion = "mean"
    digest: str = ""


def save_bundle(
    folder: Path,
    members: Sequence[tuple[Path, float]],
    views: Sequence[str] = (IDENTITY,),
    rule: Postprocess | None = None,
    fusion: Fusion = "mean",
) -> str:
    """Copy checkpoints into a bundle at `folder`, replacing the one there as a whole; returns its digest.

    Args:
        members: checkpoint folders and weights (> 0); each checkpoint's digest is verified when it is loaded.
        views: what each member sees.
        rule: thresholds of the fused map; the first member's own unless given.
        fusion: how the members' maps become one.

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
            for file in _MEMBER:
                shutil.copyfile(source / file, draft / place / file)
            digest = checkpoint.load_meta(draft / place)["digest"]
            rows.append({"path": place, "weight": float(weight), "digest": digest})
        value = {"members": rows, "views": list(views), "fusion": fusion, "postprocess": rule.model_dump(mode="json")}
        write_model(draft)
        digest, files = _content(value), _files(draft)
        write_json(draft / BUNDLE, {"format": FORMAT, "digest": digest, **value, "files": files})
    return digest


def is_bundle(folder: Path) -> bool:
    """Whether `folder` holds a bundle.json."""
    return (Path(folder) / BUNDLE).is_file()


def read_bundle(folder: Path) -> Bundle:
    """What a bundle's bundle.json says; CheckpointError with file, key and rule where it does not fit.

    Its files are not looked at; `verify` does.
    """
    path = Path(folder) / BUNDLE
    try:
        value = read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(value, dict) or value.get("format") not in READ:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise CheckpointError(f"{path}: `format` must be {' or '.join(map(str, READ))}, got {found!r}; {REMEDY}")
    rows, names = value.get("members"), value.get("views")
    if not isinstance(rows, list) or not rows:
        raise CheckpointError(f"{path}: members: must be a list that is not empty, got {rows!r}; {REMEDY}")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path}: views: must be a list of names that is not empty, got {names!r}; {REMEDY}")
    fusion = value.get("fusion", "mean")
    if fusion not in FUSIONS:
        raise CheckpointError(f"{path}: fusion: must be one of {', '.join(FUSIONS)}, got {fusion!r}; {REMEDY}")
    members = tuple(_member(path, number, row) for number, row in enumerate(rows))
    try:
        for name in names:
            view(name)
        rule = Postprocess.model_validate(value.get("postprocess"))
    except InputError as error:
        raise CheckpointError(f"{path}: views: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("postprocess", *first["loc"]))
        raise CheckpointError(f"{path}: {place}: {first['msg']}; {REMEDY}") from error
    digest = _content(value)
    if value["format"] != 1 and value.get("digest") != digest:
        raise CheckpointError(
            f"{path}: its content must have the digest {value.get('digest')!r} that it names, got {digest}: it was "
            f"edited or cut off; {REMEDY}"
        )
    return Bundle(members, tuple(names), rule, fusion, digest)


def verify(folder: Path) -> None:
    """Hold every file of a bundle against its digest; reads them all.

    Raises:
        CheckpointError: the first file that is missing or was changed.
    """
    path = Path(folder) / BUNDLE
    bundle, value = read_bundle(folder), read_json(path)
    if value["format"] == 1:
        return
    listed = value.get("files")
    if not isinstance(listed, dict):
        raise CheckpointError(f"{path}: files: must name a digest for every file, got {listed!r}; {REMEDY}")
    wanted = [(Path(place) / file).as_posix() for place in _places(value) for file in _MEMBER]
    for name in sorted({*listed, *wanted}):
        file = Path(folder) / name
        if not file.is_file():
            raise CheckpointError(f"{file}: is missing from the bundle; {REMEDY}")
        if (found := file_digest(file)) != listed.get(name):
            raise CheckpointError(
                f"{file}: must have the digest {listed.get(name)} of {BUNDLE}, got {found}: it was changed or cut off; "
                f"{REMEDY}"
            )
    for row, (member, _) in zip(value["members"], bundle.members, strict=True):
        if (found := checkpoint.load_meta(member)["digest"]) != row.get("digest"):
            raise CheckpointError(
                f"{member}: must be the checkpoint {row.get('digest')} of {BUNDLE}, got {found}: members were "
                f"exchanged; {REMEDY}"
            )


def file_digest(path: Path) -> str:
    """32 hex digits (blake2b) over a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


_MEMBER = (checkpoint.WEIGHTS, checkpoint.CONFIG, checkpoint.META)
_SHELL = ("format", "digest", "files")  # what bundle.json holds beside its content


def _content(value: Mapping[str, Any]) -> str:
    """32 hex digits over all that decides what a bundle finds. Where a member lies is not part of it."""
    content = {key: item for key, item in value.items() if key not in _SHELL}
    content["members"] = [{key: item for key, item in row.items() if key != "path"} for row in value["members"]]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _files(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def _places(value: Mapping[str, Any]) -> list[str]:
    return [row["path"] for row in value["members"]]


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
