"""The network as it is usually written: upsample, concatenate, ConvTranspose2d. On the weights of a `Detector`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detector.model.decoders import FPN, UNet
from detector.model.detector import Detector, Logits
from detector.model.head import Branch


def plain_logits(model: Detector, image_B3HW: Tensor) -> Logits:
    """What `model(image_B3HW)` gives, the long way."""
    levels = model.encoder(image_B3HW)
    decoder = model.decoder
    assert isinstance(decoder, FPN | UNet)
    x = plain_fpn(decoder, levels) if isinstance(decoder, FPN) else plain_unet(decoder, levels)
    return Logits(plain_branch(model.head.prob, x), plain_branch(model.head.thresh, x))


def plain_fpn(decoder: FPN, levels: Sequence[Tensor]) -> Tensor:
    rows = [lateral(level) for lateral, level in zip(decoder.lateral, levels, strict=True)]
    for i in range(len(rows) - 1, 0, -1):
        rows[i - 1] = rows[i - 1] + F.interpolate(rows[i], scale_factor=2, mode="nearest")
    smooth = [conv(row) for conv, row in zip(decoder.smooth, rows, strict=True)]
    return torch.cat([F.interpolate(row, size=smooth[0].shape[-2:], mode="nearest") for row in smooth], dim=1)


def plain_unet(decoder: UNet, levels: Sequence[Tensor]) -> Tensor:
    *skips, deepest = levels
    x: Tensor = decoder.bridge(deepest)
    for step, skip in zip(decoder.steps, reversed(skips), strict=True):
        x = step(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], dim=1))
    return x


def plain_branch(branch: Branch, x: Tensor) -> Tensor:
    x = F.conv_transpose2d(branch.conv(x), branch.up.weight, stride=2)
    x = F.relu(branch.norm(x))
    return F.conv_transpose2d(x, branch.out.weight, branch.out.bias, stride=2).squeeze(1)
