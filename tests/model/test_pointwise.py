"""1x1 convolutions by another kernel of the CPU: equal results, equal names, nothing changed elsewhere."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from detector.config import Config
from detector.model.detector import build
from detector.model.pointwise import prefer_onednn


@pytest.mark.parametrize("decoder", ["fpn", "unet"])
def test_results_and_gradients_are_equal_but_for_rounding(decoder):
    plain = build(
        Config(encoder="test_resnet", encoder_weights="none", decoder=decoder, inner_channels=16, output_channels=8)
    )
    plain = plain.double()  # in which rounding is far below the tolerance
    ours = copy.deepcopy(plain)
    prefer_onednn(ours, "cpu")
    assert list(ours.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    results = []
    for model in (ours, plain):
        logits = model(images)
        (logits.prob_BHW.square().sum() + logits.thresh_BHW.square().sum()).backward()
        results.append([*logits, *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_only_what_has_one_tap_and_only_on_a_cpu():
    layers = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, padding=1))
    prefer_onednn(layers, "cuda")
    assert [layer.dilation for layer in layers] == [(1, 1)] * 3
    prefer_onednn(layers, "cpu")
    # padding 1 with dilation 2 and one tap: the same place, but left alone all the same
    assert [layer.dilation for layer in layers] == [(2, 2), (1, 1), (1, 1)]
    assert torch.equal(layers[0](torch.ones(1, 4, 5, 3)).detach().std(dim=(2, 3)), torch.zeros(1, 4))
