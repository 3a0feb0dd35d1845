"""Decoders: the encoder's four levels become one map at stride 4.

Shapes: B batch; C channels; H, W of a level in its own cells. Levels come finest first, each half the size of the one
before. Both decoders upsample by repeating cells (nearest), as the paper's code does: it is exact at any size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Decoder(nn.Module):
    """What both decoders are: a module with `channels`, the width of its output."""

    channels: int


class UNet(Decoder):
    """Each level upsampled, concatenated with the encoder's skip and convolved (Ronneberger et al. 2015, 1505.04597).

    The deepest level is first brought to `inner` by a 1x1 convolution; then two 3x3 convolutions a level, `inner` wide
    at stride 16, half of it at stride 8, `output` at stride 4, where most of the work is.
    """

    def __init__(self, encoder_channels: Sequence[int], inner: int, output: int) -> None:
        super().__init__()
        *skips, deepest = encoder_channels
        self.bridge = conv_bn(deepest, inner, kernel=1)
        widths = (inner, max(inner // 2, output), output)
        steps = []
        width = inner
        for skip, out in zip(reversed(skips), widths, strict=True):
            steps.append(nn.Sequential(conv_bn(width + skip, out), conv_bn(out, out)))
            width = out
        self.steps = nn.ModuleList(steps)
        self.channels = output

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels finest first -> (B, channels, H/4, W/4)."""
        *skips, deepest = levels
        x: Tensor = self.bridge(deepest)
        for step, skip in zip(self.steps, reversed(skips), strict=True):
            x = step(torch.cat([repeat(x, 2), skip], dim=1))
        return x


class FPN(Decoder):
    """Feature pyramid (Lin et al. 2017, 1612.03144) as in the paper's figure 3: 1x1 to `inner`, top-down sums, 3x3 to
    `output`, all four levels brought to stride 4 and concatenated."""

    def __init__(self, encoder_channels: Sequence[int], inner: int, output: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, inner, 1, bias=False) for c in encoder_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(inner, output, 3, padding=1, bias=False) for _ in encoder_channels)
        self.channels = output * len(encoder_channels)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels finest first -> (B, channels, H/4, W/4)."""
        rows = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for i in range(len(rows) - 1, 0, -1):
            rows[i - 1] = rows[i - 1] + repeat(rows[i], 2)
        smooth = [conv(row) for conv, row in zip(self.smooth, rows, strict=True)]
        return torch.cat([repeat(row, 2**i) for i, row in enumerate(smooth)], dim=1)


DECODERS: dict[str, type[UNet] | type[FPN]] = {"unet": UNet, "fpn": FPN}


def conv_bn(channels: int, out: int, kernel: int = 3) -> nn.Sequential:
    """Convolution of the same size, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


def repeat(x_BCHW: Tensor, times: int) -> Tensor:
    """Each cell `times` x `times` cells large."""
    return x_BCHW if times == 1 else F.interpolate(x_BCHW, scale_factor=times, mode="nearest")
