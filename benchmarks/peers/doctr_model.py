"""docTR's db_resnet50, in training with target maps that were built beforehand, or built in the step as it does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from doctr.models.detection import db_resnet50
from torch import nn

from benchmarks.harness import Work
from detector.types import Word


def untrained() -> Any:
    """The network with random weights; its forward gives logits alone, without boxes."""
    return db_resnet50(pretrained=False, pretrained_backbone=False, exportable=True)


def forward(image_B3HW: torch.Tensor) -> Work:
    """One forward pass in evaluation mode, to probabilities."""
    model = untrained().eval()

    def work() -> object:
        with torch.inference_mode():
            return torch.sigmoid(model(image_B3HW)["logits"])

    return work


def step(image_B3HW: torch.Tensor, words: list[Word], *, builds_targets: bool) -> Work:
    """One step as docTR's reference script takes it: loss, backward, clipping at 5, AdamW."""
    model = db_resnet50(pretrained=False, pretrained_backbone=False, assume_straight_pages=False).train()
    side = image_B3HW.shape[-1]
    quads = (np.stack([word.polygon_V2 for word in words]) / side).clip(0, 1).astype(np.float32)
    target: Any = [{"words": quads} for _ in range(len(image_B3HW))]
    if not builds_targets:
        maps = model.build_target(target, (1, side, side))
        model.build_target = lambda *_: maps
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.95, 0.999), eps=1e-6)

    def work() -> object:
        optimizer.zero_grad()
        loss = model(image_B3HW, target)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        return loss

    return work
