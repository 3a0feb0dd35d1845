"""One training step, resnet50 at 512 px, one image, one thread: forward, loss, backward, clipping, AdamW.

Target maps are built beforehand on both sides; docTR builds them in its loss, and is measured so as well. Both are a
pyramid of 4 x 64 channels with two branches of 64. Equal: in training mode the maps are those of the plain network
(upsample, concatenate, ConvTranspose2d) on the same weights, to 4e-6.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks import pages
from benchmarks.harness import Contest, Peer, Scale
from benchmarks.jobs.inference import SIDE_PX, WORDS, differences, image, network, note
from benchmarks.peers import doctr_model
from detector.config import Config
from detector.data.targets import targets
from detector.model.loss import dbnet_loss
from detector.training.optimizer import adamw

MAPS = ("prob_HW", "prob_mask_HW", "thresh_HW", "thresh_mask_HW")


def contest(scale: Scale) -> Contest:
    """`scale` is that of the other jobs; this one has its own."""
    words = pages.words(Scale(SIDE_PX, WORDS))
    config, model = Config(), network().train()
    optimizer = adamw(model, config.optimizer)
    side = (SIDE_PX, SIDE_PX)
    maps = targets([word.polygon_V2 for word in words], [False] * len(words), side, config.targets)
    tensors = {name: torch.from_numpy(getattr(maps, name))[None] for name in MAPS}
    images = image()

    def ours() -> object:
        losses = dbnet_loss(model(images), tensors, config.loss)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return losses

    plain = images.contiguous()
    return Contest(
        ours=ours,
        peers={
            "docTR 1.1 db_resnet50, targets ready": Peer(
                doctr_model.step(plain, words, builds_targets=False), at_least=1.15
            ),
            "docTR 1.1 db_resnet50, as published": Peer(
                doctr_model.step(plain, words, builds_targets=True), at_least=1.15
            ),
        },
        equal=lambda: differences(network().train())[0] <= 4e-6,
        rounds=3,
        notes=lambda: note(network().train()),
    )
