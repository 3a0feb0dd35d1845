"""The loss of DBNet (Liao et al. 2020, arXiv 1911.08947, section 3.5), from logits and in float32.

Shapes: B batch; H, W canvas px. Targets carry the keys of `detector.data.dataset` with a batch dimension in front:
prob_HW and thresh_HW the maps, prob_mask_HW and thresh_mask_HW 1 (or true) where they count, 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detector.model.detector import Logits

if TYPE_CHECKING:  # a config is read here, not made: benchmarks/gpu.py does without its checker
    from detector.config import Loss


def dbnet_loss(logits: Logits, targets: Mapping[str, Tensor], rule: Loss) -> dict[str, Tensor]:
    """Weighted sum and its three parts.

    Each part is a mean over the whole batch and 0, with a gradient of 0, where nothing counts: a batch without text
    teaches nothing, since hard negatives are counted in proportion to text.

    Args:
        logits: of both maps, of any precision; the arithmetic is in float32 even inside autocast.
        targets: the four maps, (B, H, W).
        rule: weights, ratio of negatives, k.

    Returns:
        Scalars `loss` (with weights), `prob`, `thresh`, `binary` (without).
    """
    with torch.autocast(logits.prob_BHW.device.type, enabled=False):
        prob_logit, thresh_logit = logits.prob_BHW.float(), logits.thresh_BHW.float()
        text, counts = targets["prob_HW"].float(), targets["prob_mask_HW"].float()
        thresh = torch.sigmoid(thresh_logit)
        binary = torch.sigmoid(rule.k * (torch.sigmoid(prob_logit) - thresh))
        parts = {
            "prob": balanced_bce(prob_logit, text, counts, rule.negative_ratio),
            "thresh": masked_l1(thresh, targets["thresh_HW"].float(), targets["thresh_mask_HW"].float()),
            "binary": dice(binary, text, counts),
        }
        loss = rule.prob * parts["prob"] + rule.thresh * parts["thresh"] + rule.binary * parts["binary"]
        return {"loss": loss, **parts}


def balanced_bce(logit_BHW: Tensor, text_BHW: Tensor, mask_BHW: Tensor, ratio: float) -> Tensor:
    """Cross-entropy over text and the `ratio` x as many hardest pixels without text, over the batch (eq. (6)).

    The loss of a pixel without text, softplus(logit), grows with its logit: the hardest are found by the k-th largest
    logit, without a second map. Pixels that tie at the k-th share what is left of k evenly, so that the result does not
    depend on an order (with bf16 logits many tie).
    """
    judged, text = mask_BHW > 0.5, text_BHW > 0.5
    positive, negative = judged & text, judged & ~text
    positives, negatives = int(positive.sum()), int(negative.sum())
    wanted = min(negatives, int(positives * ratio))
    weight = positive.float()
    if wanted == negatives:
        weight += negative
    elif wanted > 0:
        # Masking costs a pass; gathering the pixels without text took four times as long as all the rest.
        pool = logit_BHW.detach().masked_fill(~negative, -torch.inf)
        hardest = _largest(pool, wanted)
        above, ties = pool > hardest, pool == hardest
        # Without ties the k-th is a NaN, which reaches the loss whatever its weight.
        share = (wanted - int(above.sum())) / max(int(ties.sum()), 1)
        weight += above
        weight += ties if share == 1.0 else ties * share
    each = F.binary_cross_entropy_with_logits(logit_BHW, positive.float(), weight=weight, reduction="sum")
    return each / max(positives + wanted, 1)


def _largest(value: Tensor, k: int) -> Tensor:
    """The k-th largest of all values (a NaN counts as the largest)."""
    flat, place = value.flatten(), value.numel() - k
    if flat.device.type == "cpu":  # numpy's selection takes half the time of torch's
        return torch.from_numpy(np.partition(flat.numpy(), place)[place : place + 1])
    # torch.kthvalue walks all of them in one block: 49 ms for 8 x 1024 x 1024 on an H200, where a sort takes .5.
    return torch.sort(flat).values[place : place + 1]


def masked_l1(value_BHW: Tensor, target_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Mean of |value - target| where the mask is 1 (eq. (7))."""
    return ((value_BHW - target_BHW).abs() * mask_BHW).sum() / mask_BHW.sum().clamp(min=1.0)


def dice(value_BHW: Tensor, text_BHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """1 - 2 |A B| / (|A| + |B|) under the mask, over the batch (Milletari et al. 2016, 1606.04797); 0 without text."""
    text = text_BHW * mask_BHW
    total = text.sum()
    overlap = (value_BHW * text).sum()
    share = 2.0 * overlap / ((value_BHW * mask_BHW).sum() + total).clamp(min=1.0)
    return (1.0 - share) * (total > 0)
