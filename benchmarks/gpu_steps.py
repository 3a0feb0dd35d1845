"""The steps that benchmarks/gpu.py times: a network, a batch, and what a variant does with them.

Torch, timm and numpy alone are needed, so the settings come without the package that checks them.
Shapes: H = W the canvas, px.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from detector.model.detector import Detector, build
from detector.model.loss import dbnet_loss
from detector.model.pointwise import prefer_onednn
from detector.training.optimizer import adamw

# Config and Loss by their defaults, without the package that checks them
LOSS = SimpleNamespace(prob=5.0, thresh=10.0, binary=1.0, negative_ratio=3.0, k=50.0)
OPTIMIZER = SimpleNamespace(lr=1e-3, weight_decay=1e-2, betas=(0.9, 0.999))


@dataclass(frozen=True, slots=True)
class Variant:
    """How a network is run."""

    precision: str
    channels_last: bool
    compiled: bool

    def __str__(self) -> str:
        return self.precision + " channels_last" * self.channels_last + " compile" * self.compiled


def network_of(encoder: str, decoder: str, device: torch.device, variant: Variant) -> Detector:
    inner, output = (32, 8) if encoder == "test_resnet" else (256, 64)
    config: Any = SimpleNamespace(
        encoder=encoder,
        encoder_weights="none",
        decoder=decoder,
        inner_channels=inner,
        output_channels=output,
        seed=0,
    )
    model = build(config).to(device)
    model = model.to(memory_format=torch.channels_last if variant.channels_last else torch.contiguous_format)
    prefer_onednn(model, device)
    return model


def step_of(model: Detector, variant: Variant, device: torch.device, work: str) -> Callable[[dict[str, Tensor]], None]:
    optimizer = adamw(model, OPTIMIZER)  # type: ignore[arg-type] - the fields that it reads
    model.train(work == "training")

    def train(batch: dict[str, Tensor]) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.precision == "bf16"):
            logits = model(batch["image_3HW"])
        dbnet_loss(logits, batch, LOSS)["loss"].backward()  # type: ignore[arg-type] - the fields that it reads
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def infer(batch: dict[str, Tensor]) -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=variant.precision == "bf16"):
            if variant.compiled:
                model(batch["image_3HW"])  # what is compiled is `forward`, with the threshold's branch
            else:
                model.probabilities(batch["image_3HW"])

    return train if work == "training" else infer


def random_batch(count: int, side: int, device: torch.device, variant: Variant) -> dict[str, Tensor]:
    text = (torch.rand(count, side, side) < 0.1).float()
    batch = {
        "image_3HW": torch.randn(count, 3, side, side),
        "prob_HW": text,
        "prob_mask_HW": torch.ones_like(text),
        "thresh_HW": 0.3 + 0.4 * text,
        "thresh_mask_HW": text,
    }
    return moved_to(batch, device, variant)


def moved_to(batch: dict[str, Tensor], device: torch.device, variant: Variant) -> dict[str, Tensor]:
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    if variant.channels_last:
        moved["image_3HW"] = moved["image_3HW"].contiguous(memory_format=torch.channels_last)
    return moved
