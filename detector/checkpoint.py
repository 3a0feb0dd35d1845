"""A checkpoint: weights, config and digest in one folder, read without running any code of its.

    best/model.safetensors   every tensor of the network
    best/config.json         the whole `Config`: image size and postprocessing travel with the weights
    best/checkpoint.json     {"format": 1, "digest": ..., and what the writer knew: epoch, metrics}

The folder is replaced whole. The new one is written beside it (`.best.new`), the old one steps aside (`.best.old`), the
new one takes its name, the old one is deleted. A writer killed at any point leaves the old or the new under the name,
or, between the two renames, the old as `.best.old`: `locate` knows and reads that one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from detector.config import Config
from detector.errors import CheckpointError, DataError
from detector.files import read_json, write_bytes, write_json

if TYPE_CHECKING:
    from detector.model.detector import Detector

FORMAT = 1
WEIGHTS, CONFIG, META = "model.safetensors", "config.json", "checkpoint.json"
REMEDY = "name the folder of a finished checkpoint, or train it again"


def save(folder: Path, model: Detector, config: Config, extra: Mapping[str, Any] | None = None) -> str:
    """Write a checkpoint to `folder`, replacing the one there; returns its digest.

    Args:
        folder: made with its parents.
        model: the bare network, not its DistributedDataParallel wrapper; from any device.
        config: what `build` made it from.
        extra: JSON values for checkpoint.json, such as epoch and metrics; `format` and `digest` are taken.
    """
    from safetensors.torch import save as to_bytes

    extra = dict(extra or {})
    if taken := {"format", "digest"} & extra.keys():
        raise ValueError(f"extra must not hold {sorted(taken)}: the checkpoint's own keys")
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    weights = to_bytes(tensors)
    settings = (json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()
    digest = _digest(weights, settings)
    with replacing_folder(folder) as draft:
        write_bytes(draft / WEIGHTS, weights)
        write_bytes(draft / CONFIG, settings)
        write_json(draft / META, {"format": FORMAT, "digest": digest, **extra})
    return digest


def load(folder: Path, device: str = "cpu") -> tuple[Detector, Config]:
    """The network of a checkpoint, in evaluation mode on `device`, and its config. No weights are fetched.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are not those of the config.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    from detector.model.detector import build

    folder = locate(folder)
    meta, config = load_meta(folder), load_config(folder)
    weights = _read(folder / WEIGHTS)
    digest = _digest(weights, _read(folder / CONFIG))
    if digest != meta["digest"]:
        raise CheckpointError(
            f"{folder}: weights and config must have the digest {meta['digest']} of {META}, got {digest}: "
            f"a file was changed or cut off; {REMEDY}"
        )
    try:
        tensors = from_bytes(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: is not a safetensors file ({error}); {REMEDY}") from error
    model = build(config, weights=False)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        line = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder}: the weights must be those of {config.encoder}: {line}; {REMEDY}") from error
    model.eval()
    return model.to(device), config


def load_config(folder: Path) -> Config:
    """The config of a checkpoint; loads no torch. CheckpointError where it is missing or not a `Config`."""
    path = locate(folder) / CONFIG
    try:
        return Config.model_validate(read_json(path))
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: {place or 'value'}: {first['msg']}; {REMEDY}") from error


def load_meta(folder: Path) -> dict[str, Any]:
    """What checkpoint.json holds: `format`, `digest` and the writer's extra keys; loads no torch."""
    path = locate(folder) / META
    try:
        meta = read_json(path)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or not isinstance(meta.get("digest"), str):
        found = meta.get("format") if isinstance(meta, dict) else type(meta).__name__
        raise CheckpointError(f"{path}: `format` must be {FORMAT} with a digest, got {found!r}; {REMEDY}")
    return meta


def locate(folder: Path) -> Path:
    """`folder`, or the older one beside it where a writer was killed between two renames.

    Raises:
        CheckpointError: there is neither.
    """
    folder = Path(folder)
    for place in (folder, _beside(folder, "old")):
        if (place / META).is_file():
            return place
    state = f"has no {META}" if folder.is_dir() else "no such folder"
    raise CheckpointError(f"{folder}: must be a checkpoint ({WEIGHTS}, {CONFIG}, {META}), but {state}; {REMEDY}")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` that takes its place when the block ends well; see the module's text.

    One writer at a time. What an earlier writer left when it was killed is put right first.
    """
    folder = Path(folder)
    new, old = _beside(folder, "new"), _beside(folder, "old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for rest in (new, old):
        shutil.rmtree(rest, ignore_errors=True)
    new.mkdir()
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    _sync(new)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path, role: str) -> Path:
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 (resolve() would follow a link that is the name itself)
    return folder.with_name(f".{folder.name}.{role}")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error


def _digest(weights: bytes, settings: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (weights, settings):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
