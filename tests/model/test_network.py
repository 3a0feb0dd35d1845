"""Encoder, decoders and head: shapes, equal forms, seeds, and messages a user can act on."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from detector import geometry
from detector.config import Config
from detector.errors import InputError
from detector.model.detector import build
from detector.model.encoder import Encoder
from detector.model.head import Up2

TINY = "test_resnet.r160_in1k"


def config(**changes: object) -> Config:
    values = {"encoder": TINY, "encoder_weights": "none", "inner_channels": 16, "output_channels": 8}
    return Config.model_validate({**values, **changes})


@pytest.mark.parametrize("decoder", ["fpn", "unet"])
@pytest.mark.parametrize("encoder", [TINY, "test_efficientnet", "convnext_atto"])
def test_logits_cover_the_canvas(decoder, encoder):
    # convnext_atto has no level at stride 2, the other two have one that is not used.
    model = build(config(encoder=encoder, decoder=decoder)).eval()
    logits = model(torch.randn(2, 3, 64, 96))
    assert logits.prob_BHW.shape == logits.thresh_BHW.shape == (2, 64, 96)
    probability = model.probabilities(torch.randn(1, 3, 32, 64))
    assert probability.shape == (1, 32, 64)
    # the bias of the head puts P near .1 and T near .3 before the first step
    assert probability.mean().item() == pytest.approx(0.1, abs=0.03)
    assert torch.sigmoid(logits.thresh_BHW).mean().item() == pytest.approx(0.3, abs=0.05)


def test_levels_are_those_of_the_strides():
    encoder = Encoder("resnet18").eval()
    assert encoder.channels == (64, 128, 256, 512)
    with torch.no_grad():
        shapes = [tuple(level.shape) for level in encoder(torch.zeros(1, 3, 64, 128))]
    assert shapes == [(1, 64, 16, 32), (1, 128, 8, 16), (1, 256, 4, 8), (1, 512, 2, 4)]


def test_encoder_sees_its_own_normalisation():
    # tf_efficientnet_lite0 was trained with mean = std = .5: a pixel of value v is to arrive as (v - .5) / .5.
    encoder = Encoder("tf_efficientnet_lite0")
    v = torch.rand(1, 3, 4, 4)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (geometry.IMAGENET_MEAN, geometry.IMAGENET_STD))
    assert encoder.renormalise
    torch.testing.assert_close((v - mean) / std * encoder.mul_1C11 + encoder.add_1C11, (v - 0.5) / 0.5)
    assert not Encoder(TINY.replace("test_resnet.r160_in1k", "resnet10t")).renormalise
    assert (geometry.IMAGENET_MEAN, geometry.IMAGENET_STD) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


@pytest.mark.parametrize("bias", [False, True])
def test_up2_is_the_transposed_convolution(bias):
    ours, theirs = Up2(6, 5, bias=bias), nn.ConvTranspose2d(6, 5, 2, stride=2, bias=bias)
    if bias:
        nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 7, 9)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    grads = [torch.autograd.grad(up(x).square().sum(), up.weight)[0] for up in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one = build(config(seed=7)).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = build(config(seed=7)).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = build(config(seed=8)).state_dict()
    assert not torch.equal(one["decoder.lateral.0.weight"], other["decoder.lateral.0.weight"])
    assert not torch.equal(one["encoder.net.conv1.0.weight"], other["encoder.net.conv1.0.weight"])


def test_every_parameter_learns():
    # A parameter without a gradient would hang two DDP ranks.
    for decoder in ("fpn", "unet"):
        model = build(config(decoder=decoder))
        logits = model(torch.randn(2, 3, 64, 64))
        (logits.prob_BHW.square().mean() + logits.thresh_BHW.square().mean()).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet5O", ["resnet5O", "did you mean", "`resnet50`"]),
        ("no such thing at all", ["no model of this name", "list_models"]),
        ("vit_tiny_patch16_224", ["strides 4, 8, 16 and 32", "[16]", "choose"]),
        ("swin_tiny_patch4_window7_224", ["any size", "choose"]),
        ("resnet50.no_such_tag", ["no_such_tag", "choose"]),
    ],
)
def test_unusable_encoders_say_why(name, words):
    with pytest.raises(InputError) as caught:
        Encoder(name)
    for word in words:
        assert word in str(caught.value)


def test_unreachable_hub_names_the_remedies(monkeypatch):
    # The hub's client, told that there is no network: it raises what it raises without one, at once.
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    name = next(n for n in timm.list_models("resnet*", pretrained=True) if n.startswith("resnetrs50"))
    with pytest.raises(InputError) as caught:
        Encoder(name, "hub")
    for word in (name, "hub", "network", "encoder_weights: none", "package:"):
        assert word in str(caught.value)
