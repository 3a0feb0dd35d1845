"""`hungry_resnet`: an encoder that takes a GiB for each image that it learns from (on a CPU of addresses), and limits.

The memory is asked for and never touched, so that a real allocation fails although nothing is used up.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import register_model

GIB = 1 << 30
RANK = os.environ.get("HUNGRY_RANK")  # only this rank is hungry
MET = {"images": 0}  # learned from so far, in this process


def _take(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    hungry = RANK is None or torch.distributed.get_rank() == int(RANK)
    if module.training and hungry:
        MET["images"] += len(args[0])
        torch.empty(len(args[0]) * GIB, dtype=torch.uint8, device=args[0].device)


@register_model
def hungry_resnet(pretrained: bool = False, **kwargs: Any) -> Any:
    model = timm.create_model("test_resnet", features_only=True)
    model.register_forward_pre_hook(_take)
    return model


@contextlib.contextmanager
def room_on_gpu(gib: float) -> Iterator[None]:
    """Let this process take `gib` more of the GPU's memory than it holds, no more."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + gib * GIB) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextlib.contextmanager
def room_for(gib: float) -> Iterator[None]:
    """Let this process take `gib` more of address space, no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + int(gib * GIB), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
