"""Hard negatives as the paper's code selects them: `torch.topk` over the losses of all pixels without text."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def balanced_bce(logit_BHW: Tensor, text_BHW: Tensor, mask_BHW: Tensor, ratio: float) -> Tensor:
    """Mean cross-entropy over text and the `ratio` x as many hardest pixels without text, over the batch."""
    positive = (text_BHW * mask_BHW).bool()
    negative = ((1 - text_BHW) * mask_BHW).bool()
    each = F.binary_cross_entropy_with_logits(logit_BHW, text_BHW, reduction="none")
    count = min(int(negative.sum()), int(positive.sum() * ratio))
    hardest = torch.topk(each[negative], count).values
    return (each[positive].sum() + hardest.sum()) / max(int(positive.sum()) + count, 1)
