"""The ranks of one training, and the few collective calls that it needs. One process is a world of size 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """This process among the ranks that train one model."""

    rank: int
    size: int

    @classmethod
    def current(cls) -> World:
        """The world of `torch.distributed`, or a world of one where it was not started."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls(0, 1)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> range:
        """The indices of `count` items that are this rank's: each item belongs to exactly one rank."""
        return range(self.rank, count, self.size)

    def gather(self, items: Sequence[T]) -> list[T]:
        """All ranks' items, rank by rank, on every rank."""
        if self.size == 1:
            return list(items)
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, list(items))
        return [item for part in parts for item in part]

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` holds on any rank: a decision that all must take together."""
        if self.size == 1:
            return flag
        tensor = torch.tensor(int(flag), device=device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return bool(tensor.item())

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over the ranks."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def align_buffers(self, model: nn.Module) -> None:
        """Give every rank the first one's buffers.

        Batch-norm statistics drift apart, since each rank sees its own images; the checkpoint holds the first rank's,
        so these are the ones to validate.
        """
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def align(self, model: nn.Module) -> None:
        """Give every rank all tensors of the first one's model."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                copy = tensor.contiguous()  # in whatever memory order a rank has it
                dist.broadcast(copy, src=0)
                tensor.copy_(copy)

    def wait(self) -> None:
        """Return when all ranks are here."""
        if self.size > 1:
            dist.barrier()
