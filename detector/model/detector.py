"""The network, whole: encoder, decoder, head (Liao et al. 2020, arXiv 1911.08947, figure 3).

Shapes: B batch; H, W canvas height and width in px, multiples of 32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from detector.model.decoders import DECODERS, Decoder
from detector.model.encoder import Encoder
from detector.model.head import Head

if TYPE_CHECKING:  # a config is read here, not made: benchmarks/gpu.py does without its checker
    from detector.config import Config


class Logits(NamedTuple):
    """Before the sigmoid; P and T of the paper, at full canvas resolution."""

    prob_BHW: Tensor
    thresh_BHW: Tensor


class Detector(nn.Module):
    """Images to logits; `build` is the way to make one."""

    def __init__(self, encoder: Encoder, decoder: Decoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = head

    def forward(self, image_B3HW: Tensor) -> Logits:
        """Logits of both maps; `image_B3HW` as `detector.geometry.normalise` makes it."""
        pieces = self.decoder(self.encoder(image_B3HW))
        return Logits(self.head.prob(pieces), self.head.thresh(pieces))

    def probabilities(self, image_B3HW: Tensor) -> Tensor:
        """P in [0, 1], float32 (B, H, W), from its branch alone: what inference needs."""
        logits: Tensor = self.head.prob(self.decoder(self.encoder(image_B3HW)))
        return torch.sigmoid(logits.float())


def build(config: Config, weights: bool = True) -> Detector:
    """The network that `config` describes, on the CPU, in channels_last memory and in training mode.

    What is drawn at random depends on `config.seed` alone; the process's own random state is left as it was.

    Args:
        config: encoder, decoder and their widths.
        weights: False builds without the encoder's weights: for loading a checkpoint, which has its own.

    Raises:
        InputError: the encoder or its weights cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        encoder = Encoder(config.encoder, config.encoder_weights if weights else "none")
        decoder = DECODERS[config.decoder](encoder.channels, config.inner_channels, config.output_channels)
        head = Head(decoder.channels)
        for module in (*decoder.modules(), *head.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return Detector(encoder, decoder, head).to(memory_format=torch.channels_last)
