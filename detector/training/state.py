"""What a training needs to go on from its last epoch, in one safetensors file that is replaced atomically.

Random numbers need no saving: weights, order and distortions are drawn from (seed, epoch, ...) anew.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from detector.config import Config
from detector.errors import CheckpointError
from detector.files import replacing
from detector.training.kept import Kept


@dataclass(slots=True)
class Progress:
    """How far a training has come.

    Attributes:
        epoch: epochs completed.
        best_epoch: epoch of the best validation score; 0 before the first.
        best: all metrics of that epoch.
        scaler: state of the fp16 gradient scaler; empty otherwise.
        kept: epochs whose weights are kept for a soup, best first.
    """

    epoch: int = 0
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    kept: tuple[Kept, ...] = ()


def save_state(
    path: Path,
    config: Config,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    average: nn.Module | None = None,
) -> None:
    """Write everything that the next epoch depends on."""
    tensors = {f"model/{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor.contiguous() for name, tensor in slots.items()}
    if average is not None:
        tensors |= {f"average/{name}": tensor.contiguous() for name, tensor in average.state_dict().items()}
    header = {
        "epoch": progress.epoch,
        "best_epoch": progress.best_epoch,
        "best": progress.best,
        "scaler": progress.scaler,
        "kept": [astuple(one) for one in progress.kept],
        "config": config.model_dump(mode="json"),
    }
    with replacing(path) as draft:
        save_file(tensors, draft, metadata={"state": json.dumps(header)})


def load_state(
    path: Path,
    config: Config,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None = None,
) -> Progress:
    """Bring model, optimizer and averaged weights to where `save_state` left them.

    Raises:
        CheckpointError: the file is damaged, or belongs to another config.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: is no training state ({error}); remove it to start this trial again") from error
    _check_config(path, header["config"], config)
    model.load_state_dict(_under("model/", tensors))
    if average is not None:
        average.load_state_dict(_under("average/", tensors))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, slot = name.split("/", 2)
            slots.setdefault(int(index), {})[slot] = _laid_out_like(parameters[int(index)], tensor)
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    kept = tuple(Kept(*row) for row in header.get("kept", ()))  # states of an earlier version have none
    return Progress(header["epoch"], header["best_epoch"], header["best"], header["scaler"], kept)


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _laid_out_like(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """The moments in the memory order of their parameter: the fused AdamW walks both as flat memory."""
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def _check_config(path: Path, stored: Mapping[str, Any], config: Config) -> None:
    wanted = config.model_dump(mode="json")
    with contextlib.suppress(ValidationError):  # a setting that came later had its default then
        stored = Config.model_validate(stored).model_dump(mode="json")
    other = sorted(key for key in stored.keys() | wanted.keys() if stored.get(key) != wanted.get(key))
    if other:
        key = other[0]
        raise CheckpointError(
            f"{path}: belongs to another config ({key}: {stored.get(key)!r} there, {wanted.get(key)!r} here); "
            "use another folder"
        )
