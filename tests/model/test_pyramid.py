"""Convolving levels as they are, against repeating and concatenating them first; the network against its plain form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers.plain_network import plain_logits
from detector.config import Config
from detector.model.detector import build
from detector.model.pyramid import convolve, repeat

TINY = Config(encoder="test_resnet.r160_in1k", encoder_weights="none", inner_channels=16, output_channels=8)


def plain_convolve(pieces: list[tuple[Tensor, int]], weight: Tensor) -> Tensor:
    return F.conv2d(torch.cat([repeat(x, times) for x, times in pieces], dim=1), weight, padding=1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scales=st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=4),
    cells=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_convolve_equals_repeating_and_concatenating(seed, scales, cells):
    generator = torch.Generator().manual_seed(seed)
    largest = max(scales)
    widths = [1 + (seed + i) % 3 for i in range(len(scales))]
    pieces = [
        (
            torch.randn(2, c, *(n * largest // s for n in cells), generator=generator, dtype=torch.float64),
            s,
        )
        for c, s in zip(widths, scales, strict=True)
    ]
    weight = torch.randn(3, sum(widths), 3, 3, generator=generator, dtype=torch.float64)
    leaves = [weight, *(x for x, _ in pieces)]
    results = []
    for way in (convolve, plain_convolve):
        for leaf in leaves:
            leaf.requires_grad_()
        out = way(pieces, weight)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("decoder", ["fpn", "unet"])
def test_the_network_equals_its_plain_form(decoder):
    model = build(TINY.model_copy(update={"decoder": decoder})).eval()
    torch.manual_seed(0)
    for branch in (model.head.prob, model.head.thresh):
        nn.init.normal_(branch.out.weight, std=0.1)  # maps that are not flat
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        ours, plain = model(images), plain_logits(model, images)
    for logits, wanted in zip(ours, plain, strict=True):
        assert wanted.std() > 0.01
        torch.testing.assert_close(logits, wanted, rtol=0, atol=4e-6)


def test_autocast_rounds_no_more_than_the_plain_form():
    model = build(TINY).eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = plain_logits(model, images).prob_BHW
        with torch.autocast("cpu", torch.bfloat16):
            ours, plain = model(images).prob_BHW.float(), plain_logits(model, images).prob_BHW.float()
    assert (ours - exact).abs().mean() < 2 * (plain - exact).abs().mean()


def test_a_checkpoint_of_the_plain_form_fits():
    # Names and shapes of the weights are those of the modules that the plain form is made of.
    state = build(TINY).state_dict()
    assert state["head.prob.conv.0.weight"].shape == (8, 32, 3, 3)
    assert state["head.prob.up.weight"].shape == (8, 8, 2, 2)
    assert state["head.prob.out.weight"].shape == (8, 1, 2, 2)
    assert {name.split(".")[1] for name in state if name.startswith("decoder")} == {"lateral", "smooth"}
