"""One forward pass to the probability map, resnet50 at 512 px, one image, one thread.

Both are a pyramid of 4 x 64 channels with a head of 64. Equal: the maps are those of the plain network (upsample,
concatenate, ConvTranspose2d, torch's own choice of convolutions) on the same weights, to 4e-6.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmarks import pages
from benchmarks.harness import Contest, Peer, Scale
from benchmarks.peers import doctr_model
from benchmarks.peers.plain_network import plain_logits
from detector.config import Config
from detector.geometry import normalise
from detector.model.detector import Detector, build
from detector.model.pointwise import prefer_onednn
from detector.training.memory import keep_heap

SIDE_PX, WORDS = 512, 30


def contest(scale: Scale) -> Contest:
    """`scale` is that of the other jobs; this one has its own."""
    model, images = network().eval(), image()

    def ours() -> object:
        with torch.inference_mode():
            return model.probabilities(images)

    return Contest(
        ours=ours,
        peers={"docTR 1.1 db_resnet50": Peer(doctr_model.forward(images.contiguous()), at_least=1.15)},
        equal=lambda: differences(model)[0] <= 4e-6,
        rounds=5,
        notes=lambda: note(model),
    )


def network() -> Detector:
    """resnet50 with the pyramid of docTR's widths (256 inside, 64 a level), as a training or `predict` prepares it."""
    torch.set_num_threads(1)
    keep_heap()
    model = build(Config(encoder="resnet50", encoder_weights="none", decoder="fpn"))
    prefer_onednn(model, "cpu")
    return model


def image() -> Tensor:
    page = pages.picture(pages.words(Scale(SIDE_PX, WORDS)), SIDE_PX)
    return torch.from_numpy(normalise(page))[None].contiguous(memory_format=torch.channels_last)


def differences(model: Detector) -> tuple[float, float]:
    """Largest difference from the plain network, in the maps P and T and in logits, on weights that make maps vary."""
    model = copy.deepcopy(model)
    for branch in (model.head.prob, model.head.thresh):
        nn.init.normal_(branch.out.weight, std=(2.0 / branch.out.weight.shape[0]) ** 0.5)
    images = image()
    with torch.no_grad():
        found = model(images)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.dilation = (1, 1)
        wanted = plain_logits(model, images)
    pairs = list(zip(found, wanted, strict=True))
    in_maps = max(float((a.sigmoid() - b.sigmoid()).abs().max()) for a, b in pairs)
    return in_maps, max(float((a - b).abs().max()) for a, b in pairs)


def note(model: Detector) -> str:
    return "largest difference from the plain network: {:.1e} in the maps, {:.1e} in the logits".format(
        *differences(model)
    )
