"""A 3x3 convolution over levels that repeating cells would bring to one size, without bringing them there.

Shapes: B batch; C channels of a piece; K output channels; H, W of the finest piece. A piece is a map and the number of
times that each of its cells would be repeated in both directions: (B, C, H/times, W/times), times.

Repeating cells `s` times and convolving with a 3x3 kernel is one linear map from coarse cells to fine ones: a
transposed convolution of stride `s` whose kernel, (s + 2) x (s + 2), is the 3x3 kernel summed over each s x s cell. A
coarse cell costs (s + 2)^2 products instead of 9 s^2, and the concatenated map is never written: for pieces at 1, 2, 4
and 8 the products fall from 36 to 17 a fine cell (docs/performance.md has the times).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Piece = tuple[Tensor, int]


def convolve(pieces: Sequence[Piece], weight_KC33: Tensor) -> Tensor:
    """The pieces, repeated to one size and concatenated, convolved with `weight_KC33`; padding 1, no bias.

    Equal to `F.conv2d(torch.cat([repeat(x, s) for x, s in pieces], 1), weight_KC33, padding=1)` but for rounding.

    Args:
        pieces: in the order of the weight's input channels.
        weight_KC33: C is the sum of the pieces' channels.

    Returns:
        (B, K, H, W).
    """
    parts = torch.split(weight_KC33, [piece.shape[1] for piece, _ in pieces], dim=1)
    total: Tensor | None = None
    for (piece, times), part in zip(pieces, parts, strict=True):
        if times == 1:
            value = F.conv2d(piece, part, padding=1)
        else:
            value = F.conv_transpose2d(piece, _spread(part, times), stride=times, padding=1)
        total = value if total is None else total + value
    assert total is not None  # a decoder gives one piece at least
    return total


def repeat(x_BCHW: Tensor, times: int) -> Tensor:
    """Each cell `times` x `times` cells large."""
    return x_BCHW if times == 1 else F.interpolate(x_BCHW, scale_factor=times, mode="nearest")


def _spread(weight_KC33: Tensor, times: int) -> Tensor:
    """The transposed convolution's kernel, (C, K, times + 2, times + 2), in the weight's own precision."""
    with torch.autocast(weight_KC33.device.type, enabled=False):  # summed first, rounded once
        taps_3S = _taps(times, weight_KC33)
        return torch.einsum("kcij,ia,jb->ckab", weight_KC33, taps_3S, taps_3S)


def _taps(times: int, like: Tensor) -> Tensor:
    """Which of the fine cells around a coarse one, (3, times + 2), each of a kernel's three rows carries it to.

    Fine cell p, counted from one before the coarse cell's first, reads the coarse cell through row i of the kernel
    where its neighbour p + i - 1 lies inside: 1 <= p + i - 1 <= times.
    """
    row_31 = torch.arange(3, device=like.device)[:, None]
    cell_1S = torch.arange(times + 2, device=like.device)[None]
    return ((row_31 + cell_1S >= 2) & (row_31 + cell_1S <= times + 1)).to(like.dtype)
