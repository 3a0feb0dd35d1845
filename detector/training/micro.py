"""How many images of a batch go through the network at once: all of them, or half where the memory was not enough.

Half is decided once a training and kept in `<folder>/micro.json`, so that whoever goes on with it starts with half. The
images of each optimizer step, their order and the loss stay what they were (see `detector.training.gradients`); batch
norm sees half of them at a time. The file says how a training ran; it is no setting and no part of its identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from detector.errors import TrainingFailed
from detector.files import read_json, write_json

# What no class of its own tells: cuBLAS and cuDNN without room for their workspace, and the allocator of CPUs.
SIGNS = ("CUDA out of memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: can't alloc")


@dataclass(frozen=True, slots=True)
class Micro:
    """Images at once.

    Attributes:
        images: of a batch, at once; `of`: the batch.
        epoch: in which the memory was not enough; 0 where it always was.
        reason: what torch said, in one line.
    """

    images: int
    of: int
    epoch: int = 0
    reason: str = ""

    @property
    def halved(self) -> bool:
        return self.images < self.of

    @property
    def parts(self) -> int:
        """Micro-batches a batch."""
        return -(-self.of // self.images)

    def __str__(self) -> str:
        return f"not enough memory for {self.of} images in epoch {self.epoch}, so {self.images} at once: {self.reason}"


class OutOfMemory(Exception):
    """A step did not fit the memory of its device."""

    def __init__(self, epoch: int, reason: str) -> None:
        super().__init__(epoch, reason)
        self.epoch, self.reason = epoch, reason


@contextmanager
def noticing(epoch: int) -> Iterator[None]:
    """Turns the many ways in which torch says so into `OutOfMemory`."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not (isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in SIGNS)):
            raise
        raise OutOfMemory(epoch, (text.strip().splitlines() or ["out of memory"])[0]) from error


def read_micro(folder: Path, batch_size: int) -> Micro:
    """How the training in `folder` runs."""
    path = _path(folder)
    return Micro(**read_json(path)) if path.is_file() else Micro(batch_size, batch_size)


def halve(folder: Path, ran: Micro, trouble: OutOfMemory) -> Micro:
    """Keep that this training goes on with half of what it `ran` with; of an odd batch the larger half.

    Several ranks may say so at once: they say the same.

    Raises:
        TrainingFailed: it had half already, or a batch of one image.
    """
    remedy = "lower image_size or crop_size, or take a smaller encoder or precision bf16"
    if ran.halved or ran.of == 1:
        tried = f" (half of its batch of {ran.of}, since epoch {ran.epoch})" if ran.halved else ""
        images = f"{ran.images} image{'s' * (ran.images > 1)} at once{tried}"
        raise TrainingFailed(
            f"not enough memory in epoch {trouble.epoch} for {images}: "
            f"{trouble.reason}; {'lower batch_size and raise accumulate, ' if ran.of > 2 else ''}{remedy}"
        )
    micro = Micro((ran.of + 1) // 2, ran.of, trouble.epoch, trouble.reason)
    write_json(_path(folder), asdict(micro))
    return micro


def forget_micro(folder: Path) -> None:
    """A training begins anew."""
    _path(folder).unlink(missing_ok=True)


def _path(folder: Path) -> Path:
    return folder / "micro.json"
