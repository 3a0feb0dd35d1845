"""Hard-negative selection with its cross-entropy, forward and backward, on two maps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks import pages
from benchmarks.harness import Contest, Peer, Scale
from benchmarks.peers import topk
from detector.config import Targets
from detector.data.targets import targets
from detector.model.loss import balanced_bce
from detector.training.memory import keep_heap

GROWS = True
RATIO = 3.0


def contest(scale: Scale) -> Contest:
    torch.set_num_threads(1)
    keep_heap()  # as in a training on a CPU: both sides would else pay for fresh pages at every step
    truth = pages.words(scale)
    maps = targets([word.polygon_V2 for word in truth], [False] * len(truth), (scale.side_px, scale.side_px), Targets())
    text = torch.from_numpy(np.stack([maps.prob_HW] * 2)).float()
    mask = torch.from_numpy(np.stack([maps.prob_mask_HW] * 2)).float()
    generator = torch.Generator().manual_seed(0)
    # A network in training: text higher than the rest, no two logits equal (ours shares ties, topk cuts them).
    logit = torch.randn(text.shape, generator=generator, dtype=torch.float64) * 1.5 + 5.0 * text - 3.0
    logit = _distinct(logit).requires_grad_()

    def gradient(bce: object) -> Tensor:
        (found,) = torch.autograd.grad(bce(logit, text, mask, RATIO), logit)  # type: ignore[operator]
        return found

    return Contest(
        ours=lambda: gradient(balanced_bce),
        peers={"topk over the map": Peer(lambda: gradient(topk.balanced_bce), at_least=1.5)},
        equal=lambda: torch.equal(gradient(balanced_bce), gradient(topk.balanced_bce)),
    )


def _distinct(logit_BHW: Tensor) -> Tensor:
    """float32 values in the same order, no two of them equal."""
    order = torch.argsort(logit_BHW.flatten())
    spread = torch.linspace(-7.9, 7.9, len(order), dtype=torch.float64).float()
    assert len(torch.unique(spread)) == len(spread), "too many pixels for distinct float32 logits in this range"
    return torch.empty_like(spread).scatter_(0, order, spread).view(logit_BHW.shape)
