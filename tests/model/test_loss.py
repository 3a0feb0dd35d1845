"""The loss: hand-computed values, a plain twin, and pages on which nothing counts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.peers import topk
from detector.config import Loss
from detector.model.detector import Logits
from detector.model.loss import balanced_bce, dbnet_loss, dice, masked_l1

RULE = Loss()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 0.6), st.floats(0.0, 1.0))
def test_selection_equals_topk(seed, text_share, mask_share):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 9, 11)
    text = (torch.rand(shape, generator=generator) < text_share).float()
    mask = (torch.rand(shape, generator=generator) < mask_share).float()
    # distinct logits: with ties topk's choice is arbitrary
    logit = (torch.randperm(2 * 9 * 11, generator=generator).float() / 20 - 5).view(shape)
    results = []
    for bce in (balanced_bce, topk.balanced_bce):
        leaf = logit.clone().requires_grad_()
        loss = bce(leaf, text, mask, 3.0)
        (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True)
        results.append((loss.detach(), torch.zeros(shape) if gradient is None else gradient))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_ties_share_what_is_left():
    # 1 text pixel, so 3 negatives count: the one at 2, and 2 of the 4 at 0, each of these by half.
    logit = torch.tensor([[[0.0, 0.0, 2.0, 0.0, 0.0, -1.0, 1.0]]], requires_grad=True)
    text = torch.tensor([[[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]])
    loss = balanced_bce(logit, text, torch.ones_like(text), 3.0)
    # softplus(2) + 2 softplus(0) + softplus(-1) for the text pixel, over 4
    want = (math.log1p(math.exp(2)) + 2 * math.log(2) + math.log1p(math.exp(-1))) / 4
    assert loss.item() == pytest.approx(want, rel=1e-6)
    loss.backward()
    # d softplus / d logit = sigmoid: .5 at 0, by half and over 4
    assert logit.grad[0, 0, :2].tolist() == pytest.approx([0.5 * 0.5 / 4] * 2)
    assert logit.grad[0, 0, 5].item() == 0.0


def test_parts_by_hand():
    value, target, mask = torch.tensor([[[0.2, 0.9]]]), torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.0]]])
    assert masked_l1(value, target, mask).item() == pytest.approx(0.3)
    # overlap .8, sizes .8 + .4 and 1: 1 - 2 x .8 / 2.2
    value, text = torch.tensor([[[0.8, 0.4, 1.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    assert dice(value, text, torch.tensor([[[1.0, 1.0, 0.0]]])).item() == pytest.approx(1 - 1.6 / 2.2)


def targets(text, mask=None, thresh_mask=None):
    full = torch.ones_like(text)
    return {
        "prob_HW": text,
        "prob_mask_HW": full if mask is None else mask,
        "thresh_HW": full * 0.3,
        "thresh_mask_HW": full if thresh_mask is None else thresh_mask,
    }


def test_sum_is_weighted():
    text = (torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    logits = Logits(torch.randn(2, 8, 8), torch.randn(2, 8, 8))
    found = dbnet_loss(logits, targets(text), Loss(prob=2, thresh=3, binary=4))
    want = 2 * found["prob"] + 3 * found["thresh"] + 4 * found["binary"]
    torch.testing.assert_close(found["loss"], want)
    # the approximate binary map: k = 50 makes 1 of P = .6 against T = .3 and 0 of the reverse
    steep = Logits(torch.logit(torch.full((1, 4, 4), 0.6)), torch.logit(torch.full((1, 4, 4), 0.3)))
    assert dbnet_loss(steep, targets(torch.ones(1, 4, 4)), RULE)["binary"].item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("case", ["no text", "all text", "all masked", "text masked"])
def test_pages_on_which_little_counts(case):
    text = torch.zeros(2, 8, 8) if case in ("no text", "all masked") else torch.ones(2, 8, 8)
    mask = torch.zeros(2, 8, 8) if "masked" in case else torch.ones(2, 8, 8)
    leaves = [(torch.randn(2, 8, 8) * 30).requires_grad_() for _ in range(2)]
    found = dbnet_loss(Logits(*leaves), targets(text, mask, torch.zeros(2, 8, 8)), RULE)
    found["loss"].backward()
    assert all(torch.isfinite(value) for value in found.values())
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)
    if case != "all text":
        assert found["loss"].item() == 0.0
        assert all((leaf.grad == 0).all() for leaf in leaves)


def test_bf16_logits_inside_autocast_equal_fp32():
    # The same logits, rounded once: the arithmetic after that is float32, so that the values are equal to the bit.
    generator = torch.Generator().manual_seed(3)
    text = (torch.rand(2, 32, 32, generator=generator) < 0.2).float()
    rounded = [(torch.randn(2, 32, 32, generator=generator) * 8).bfloat16() for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        inside = dbnet_loss(Logits(*rounded), targets(text), RULE)
    outside = dbnet_loss(Logits(*(r.float() for r in rounded)), targets(text), RULE)
    for name in inside:
        assert inside[name].dtype == torch.float32
        assert inside[name].item() == outside[name].item()


def test_nan_reaches_the_loss():
    # so that a diverged training stops instead of learning from the rest
    logit = torch.full((1, 4, 4), float("nan"))
    text = torch.zeros(1, 4, 4)
    text[0, 0, 0] = 1
    assert torch.isnan(dbnet_loss(Logits(logit, logit), targets(text), RULE)["loss"])
