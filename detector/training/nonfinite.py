"""What a training leaves behind when its loss is not finite any more: the batch, the weights, and pictures.

    <folder>/nan/batch.safetensors       images and maps of the step, micro-batches one after the other; of rank 1 and
                                         higher: batch-rank1.safetensors
    <folder>/nan/model/                  a checkpoint of the weights that met them
    <folder>/nan/00_<page>.png           each image as the network saw it: text green, what does not count red

`losses_of` computes the loss again from these files (up to dropout, whose draws are not kept).
Shapes: B images of a micro-batch, N of the step; H, W canvas px.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from detector import checkpoint
from detector.config import Config
from detector.files import replacing, write_bytes
from detector.geometry import IMAGENET_MEAN, IMAGENET_STD
from detector.model.detector import Detector
from detector.training.gradients import PARTS, Batch, Gradients
from detector.training.world import World
from detector.types import UInt8

REMEDY = "; lower optimizer.lr, lengthen schedule.warmup_epochs, or use bf16 or fp32 instead of fp16"
TEXT, MASKED = (0, 160, 0), (200, 0, 0)  # RGB


@dataclass(frozen=True, slots=True)
class Step:
    """Where it happened.

    Attributes:
        epoch, step: from 1; the step within the epoch.
        losses: by the names of PARTS, NaN and infinities as text.
        pages: names, in the order of the images; `sizes`: images of each micro-batch.
    """

    epoch: int
    step: int
    rank: int
    lr: float
    losses: Mapping[str, str]
    pages: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def file(self) -> str:
        return f"batch-rank{self.rank}.safetensors" if self.rank else "batch.safetensors"


def keep(folder: Path, world: World, model: Detector, config: Config, step: Step, group: Sequence[Batch]) -> str:
    """Write it all, each rank its own batch where its own loss is not finite; call it on all ranks.

    Returns:
        What happened and where the files are, for a message; the same on every rank. A disk that cannot be written must
        not hide the fault itself, so that is told there, too.
    """
    place = folder / "nan"
    rows = world.gather([(step.rank, step.losses["loss"], broken(model))])
    bad = [(rank, loss, weights) for rank, loss, weights in rows if not math.isfinite(float(loss))]
    first, loss, weights = bad[0]
    trouble = ""
    if step.rank == first:
        trouble = _told(lambda: _begin(place))
    world.wait()
    if any(rank == step.rank for rank, _, _ in bad):
        trouble = trouble or _told(lambda: save_step(place, step, group))
    if step.rank == first:
        trouble = trouble or _told(lambda: checkpoint.save(place / "model", model, config))
    troubles = [text for text in world.gather([trouble]) if text]
    head = f"the loss is {loss} in epoch {step.epoch} at lr {step.lr:.2g}"
    told = f" ({weights})" if weights else ""
    where = f"; could not be kept: {troubles[0]}" if troubles else f"; its batch, with pictures, is in {place}"
    return f"{head}{REMEDY}; step {step.step}{told}{where}"


def _begin(place: Path) -> None:
    """An empty folder; what an earlier failure left goes."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def _told(write: Callable[[], object]) -> str:
    try:
        write()
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return ""


def save_step(place: Path, step: Step, group: Sequence[Batch]) -> None:
    """Write one rank's batch, and its pictures."""
    tensors = {name: torch.cat([batch[name] for batch in group]).contiguous() for name in group[0]}
    with replacing(place / step.file) as draft:
        save_file(tensors, draft, metadata={"step": json.dumps(asdict(step))})
    for index, name in enumerate(step.pages):
        picture = _picture({key: tensor[index] for key, tensor in tensors.items()})
        label = f"rank{step.rank}_{index:02d}" if step.rank else f"{index:02d}"
        stem = "".join("_" if sign in '/\\:*?"<>|' else sign for sign in Path(name).stem)[:60]  # a name's 255 bytes
        write_bytes(place / f"{label}_{stem}.png", cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def load_step(path: Path) -> tuple[Step, list[dict[str, torch.Tensor]]]:
    """What `save_step` wrote: where it happened, and the micro-batches."""
    with safe_open(path, framework="pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["step"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    step = Step(**facts | {"pages": tuple(facts["pages"]), "sizes": tuple(facts["sizes"])})
    columns = {name: torch.split(tensor, list(step.sizes)) for name, tensor in tensors.items()}
    return step, [{name: parts[i] for name, parts in columns.items()} for i in range(len(step.sizes))]


def losses_of(path: Path, device: str = "cpu") -> dict[str, float]:
    """The losses of a saved batch under the weights saved beside it, computed as training does."""
    model, config = checkpoint.load(path.parent / "model", device)
    _, group = load_step(path)
    gradients = Gradients(model.train(), config, torch.device(device), torch.amp.GradScaler(device, enabled=False))
    return dict(zip(PARTS, gradients.add(group).tolist(), strict=True))


def broken(model: torch.nn.Module) -> str:
    """How many tensors of the weights are not finite, in words; empty where all are."""
    weights = [tensor for _, tensor in model.named_parameters()]
    bad = sum(not bool(torch.isfinite(tensor).all()) for tensor in weights)
    return f"{bad} of {len(weights)} weight tensors are not finite" if bad else ""


def _picture(sample: Mapping[str, torch.Tensor]) -> UInt8:
    """(H, W, 3) RGB; what is not finite is black."""
    planes = np.nan_to_num(sample["image_3HW"].float().numpy(), nan=-9.0, posinf=9.0, neginf=-9.0)
    image = planes.transpose(1, 2, 0) * np.asarray(IMAGENET_STD) + np.asarray(IMAGENET_MEAN)
    shown = np.clip(image * 255.0, 0, 255)
    for name, marked, colour in (("prob_HW", True, TEXT), ("prob_mask_HW", False, MASKED)):
        where = (sample[name].numpy() > 0.5) == marked
        shown[where] = 0.5 * shown[where] + 0.5 * np.asarray(colour)
    picture: UInt8 = np.rint(shown).astype(np.uint8)
    return picture
