"""Averaged weights against arithmetic by hand."""

from __future__ import annotations

import pytest
import torch

from detector.config import Config
from detector.model.detector import build
from detector.training.average import Average

TINY = Config(encoder="test_resnet", encoder_weights="none", inner_channels=16, output_channels=8)


def test_by_hand():
    source = build(TINY)
    average = Average(source, 0.25)
    bias = source.head.prob.out.bias
    mean = source.get_buffer("head.prob.norm.running_mean")
    with torch.no_grad():
        bias.fill_(0.0), mean.fill_(4.0)
        average.model.head.prob.out.bias.fill_(1.0)
    # decays min(.25, 1/10), min(.25, 2/11), min(.25, 3/12), min(.25, 4/13)
    value, statistic = 1.0, 0.0
    for done, decay in enumerate([0.1, 2 / 11, 0.25, 0.25]):
        average.update(done)
        value, statistic = value * decay, statistic * decay + 4.0 * (1 - decay)
        assert average.model.head.prob.out.bias.item() == pytest.approx(value)
        assert average.model.get_buffer("head.prob.norm.running_mean")[0].item() == pytest.approx(statistic)
    assert bias.item() == 0.0


def test_every_tensor_follows_and_nothing_learns():
    source = build(TINY).train()
    average = Average(source, 0.9)
    source(torch.randn(2, 3, 64, 64))  # moves statistics and counters
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    for done in range(200):
        average.update(done)
    for name, tensor in average.model.state_dict().items():
        torch.testing.assert_close(tensor, source.state_dict()[name])
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
