"""The head: logits of the probability map P and the threshold map T (section 3.1 of Liao et al. 2020).

Shapes: B batch; C channels of all pieces together; H, W canvas px. Each branch is conv3x3 - BN - ReLU - up2 - BN -
ReLU - up2, with `up2` a 2x2 transposed convolution of stride 2: from stride 4 to full resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.model.decoders import ConvNorm
from detector.model.pyramid import Piece

PRIOR_P = (
    0.1  # share of shrunk text on a receipt's canvas is .05-.15: start there, not at .5 (Lin et al. 2017, 1708.02002)
)
PRIOR_T = 0.3  # the threshold map's floor, `Targets.thresh_min`


class Up2(nn.Module):
    """A 2x2 transposed convolution of stride 2, as a 1x1 product and a pixel shuffle.

    The four outputs of a cell overlap with none of its neighbours', so the two are the same sum; this form was measured
    1.5-1.9x faster on a CPU. `weight` has ConvTranspose2d's shape and meaning: (C, out, 2, 2).
    """

    def __init__(self, channels: int, out: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, out, 2, 2))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        # Every output sees C inputs: He et al. 2015 (1502.01852) with fan-in C.
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, 2H, 2W)."""
        product_K4C = self.weight.flatten(1).t()[:, :, None, None]  # K4 = out x 2 x 2, the order of pixel_shuffle
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return F.pixel_shuffle(F.conv2d(x_BCHW, product_K4C, bias), 2)


class Branch(nn.Module):
    """One map's logits."""

    def __init__(self, channels: int, width: int, prior: float) -> None:
        super().__init__()
        self.conv = ConvNorm(channels, width)
        self.up = Up2(width, width)
        self.norm = nn.BatchNorm2d(width)
        self.out = Up2(width, 1, bias=True)
        nn.init.normal_(self.out.weight, std=0.01)  # so that the prior below is what the map starts from
        assert self.out.bias is not None
        nn.init.constant_(self.out.bias, math.log(prior / (1 - prior)))

    def forward(self, pieces: Sequence[Piece]) -> Tensor:
        """What the decoder gives, the finest at (H/4, W/4) -> logits (B, H, W)."""
        x = F.relu(self.norm(self.up(self.conv.of_pieces(pieces))), inplace=True)
        logits: Tensor = self.out(x)
        return logits.squeeze(1)


class Head(nn.Module):
    """Both branches; a quarter of the decoder's width each, as in the paper's code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = max(channels // 4, 8)
        self.prob = Branch(channels, width, PRIOR_P)
        self.thresh = Branch(channels, width, PRIOR_T)
