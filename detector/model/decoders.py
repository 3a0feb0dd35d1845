"""Decoders: the encoder's four levels become what the head reads, at stride 4.

Shapes: B batch; C channels; H, W of a level in its own cells. Levels come finest first, each half the size of the one
before. Both decoders upsample by repeating cells (nearest), as the paper's code does: it is exact at any size. What is
upsampled and concatenated goes into a 3x3 convolution next, so neither is done: `detector.model.pyramid` convolves each
level as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from detector.model.pyramid import Piece, convolve, repeat


class Decoder(nn.Module):
    """What both decoders are: a module with `channels`, the sum of the widths of the pieces it gives."""

    channels: int

    def __call__(self, levels: Sequence[Tensor]) -> list[Piece]:
        pieces: list[Piece] = super().__call__(levels)
        return pieces


class UNet(Decoder):
    """Each level upsampled, concatenated with the encoder's skip and convolved (Ronneberger et al. 2015, 1505.04597).

    The deepest level is first brought to `inner` by a 1x1 convolution; then two 3x3 convolutions a level, `inner` wide
    at stride 16, half of it at stride 8, `output` at stride 4, where most of the work is.
    """

    def __init__(self, encoder_channels: Sequence[int], inner: int, output: int) -> None:
        super().__init__()
        *skips, deepest = encoder_channels
        self.bridge = ConvNorm(deepest, inner, kernel=1)
        widths = (inner, max(inner // 2, output), output)
        steps = []
        width = inner
        for skip, out in zip(reversed(skips), widths, strict=True):
            steps.append(nn.Sequential(ConvNorm(width + skip, out), ConvNorm(out, out)))
            width = out
        self.steps = nn.ModuleList(steps)
        self.channels = output

    def forward(self, levels: Sequence[Tensor]) -> list[Piece]:
        """Levels finest first -> one piece, (B, channels, H/4, W/4)."""
        *skips, deepest = levels
        x: Tensor = self.bridge(deepest)
        for step, skip in zip(self.steps, reversed(skips), strict=True):
            first, second = step.children()
            assert isinstance(first, ConvNorm)
            x = second(first.of_pieces([(x, 2), (skip, 1)]))
        return [(x, 1)]


class FPN(Decoder):
    """Feature pyramid (Lin et al. 2017, 1612.03144) as in the paper's figure 3: 1x1 to `inner`, top-down sums, 3x3 to
    `output`, all four levels brought to stride 4 and concatenated."""

    def __init__(self, encoder_channels: Sequence[int], inner: int, output: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, inner, 1, bias=False) for c in encoder_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(inner, output, 3, padding=1, bias=False) for _ in encoder_channels)
        self.channels = output * len(encoder_channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Piece]:
        """Levels finest first -> four pieces of `output` channels, at 1, 2, 4 and 8 times stride 4."""
        rows = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for i in range(len(rows) - 1, 0, -1):
            rows[i - 1] = rows[i - 1] + repeat(rows[i], 2)
        return [(conv(row), 2**i) for i, (conv, row) in enumerate(zip(self.smooth, rows, strict=True))]


DECODERS: dict[str, type[UNet] | type[FPN]] = {"unet": UNet, "fpn": FPN}


class ConvNorm(nn.Sequential):
    """Convolution of the same size, batch norm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )

    def of_pieces(self, pieces: Sequence[Piece]) -> Tensor:
        """The same, of pieces brought to one size and concatenated."""
        conv, norm, act = self.children()
        value: Tensor = act(norm(convolve(pieces, conv.get_parameter("weight"))))
        return value
