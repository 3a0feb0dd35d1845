"""Which kernel of a CPU a 1x1 convolution gets."""

from __future__ import annotations

import torch
from torch import nn


def prefer_onednn(model: nn.Module, device: torch.device | str) -> None:
    """Let oneDNN compute the model's 1x1 convolutions on a CPU, in place; elsewhere change nothing.

    With one thread and fewer than 16 images torch computes them by its own slow_conv2d, unless they are strided or
    dilated (`use_mkldnn` in aten/src/ATen/native/Convolution.cpp): 50-75 GFLOP/s against oneDNN's 80-95, and they are
    half of a resnet50. The one tap of a 1x1 kernel lies at the same place whatever its dilation: results are equal but
    for rounding. Weights and their names stay. Not for a model to be exported: other runtimes take the dilation at its
    word and leave their own fast path.
    """
    if torch.device(device).type != "cpu":
        return
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.padding == (0, 0):
            module.dilation = (2, 2)
