"""Views there and back, and the ways to fuse maps against their closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from PIL import Image
from torch import nn

from detector import checkpoint
from detector.config import Config, Postprocess
from detector.errors import InputError
from detector.geometry import fit_frame
from detector.inference import fusion as fusion_module
from detector.inference.bundle import save_bundle
from detector.inference.fusion import FUSIONS, Fusion, PageMap, fuse
from detector.inference.predict import Predictor, map_of, page_map
from detector.inference.views import view
from detector.model.detector import build
from detector.types import Float32, Page, UInt8

WHOLE = ("identity", "hflip", "vflip", "rot90", "rot180", "rot270")
byte = st.integers(0, 255)


def as_seen(canvas_3HW: Float32) -> Float32:
    """A network whose probability is a pixel's red: what it is sent is the known map."""
    return np.clip(canvas_3HW[0] * np.float32(0.229) + np.float32(0.485), 0, 1)


def grey(map_HW: UInt8) -> UInt8:
    return np.repeat(map_HW[:, :, None], 3, axis=2)


def of_size(prob_HW: UInt8) -> PageMap:
    return PageMap(prob_HW, fit_frame((12, 8), 12, multiple=1))


@given(arrays(np.uint8, st.tuples(st.integers(2, 60), st.integers(32, 60)), elements=byte), st.sampled_from(WHOLE))
@settings(max_examples=60, deadline=None)
def test_a_known_map_comes_back_through_flips_and_turns(known_HW: UInt8, name: str) -> None:
    # Through canvas, padding, view, network and back, at the page's own size: off by less than 1e-6, here by nothing.
    size = max(known_HW.shape)
    found = map_of(as_seen, grey(known_HW), size, [name]).prob_HW
    assert np.abs(found / 255.0 - known_HW / 255.0).max() < 1e-6


def bump(x: float, y: float, wide: float, high: float) -> UInt8:
    """A smooth word on a page of 128 x 96 px."""
    rows, columns = np.mgrid[:96, :128] + 0.5
    value = np.exp(-(((columns - x) / wide) ** 2) - ((rows - y) / high) ** 2)
    return np.asarray(np.rint(255 * value), dtype=np.uint8)


def centre(map_HW: UInt8) -> np.ndarray:
    rows, columns = np.mgrid[: map_HW.shape[0], : map_HW.shape[1]] + 0.5
    return np.array([(columns * map_HW).sum(), (rows * map_HW).sum()]) / map_HW.sum()


@given(st.floats(40, 88), st.floats(30, 66), st.floats(8, 14), st.floats(6, 10), st.sampled_from([0.5, 0.8, 1.25, 2.0]))
@settings(max_examples=40, deadline=None)
def test_a_known_map_comes_back_through_scales_in_place(
    x: float, y: float, wide: float, high: float, scale: float
) -> None:
    known = bump(x, y, wide, high)
    found = map_of(as_seen, grey(known), 128, [f"scale {scale}"])
    assert found.prob_HW.shape == known.shape
    # A frame that is off by half a pixel, the usual mistake, would show at once.
    assert np.abs(centre(found.prob_HW) - centre(known)).max() < 0.1
    assert abs(float(found.prob_HW.sum()) / float(known.sum()) - 1) < 0.03


@given(st.floats(0.25, 4.0), arrays(np.uint8, (5, 7, 3), elements=byte))
def test_brightness_multiplies_and_moves_nothing(factor: float, image: UInt8) -> None:
    look = view(f"brightness {factor:.3f}")
    exact = np.minimum(image * look.brightness, 255)
    assert np.abs(look.light(image) - exact).max() <= 0.5
    assert look.turn(image) is not None and look.scale == 1.0
    assert_array_equal(look.back(image[..., 0]), image[..., 0])


def test_brightness_reaches_the_network() -> None:
    found = map_of(as_seen, grey(np.full((32, 32), 100, np.uint8)), 32, ["brightness 0.5"]).prob_HW
    assert (found == 50).all()
    with pytest.raises(InputError, match="<= brightness <="):
        view("brightness 9")


def by_hand(values: list[int], weights: list[float], fusion: Fusion) -> float:
    """A pixel of the fused map, 0..255, by the formulas of the module."""
    shares = [weight / sum(weights) for weight in weights]
    p = [value / 255 for value in values]
    if fusion == "mean":
        return 255 * sum(w * x for w, x in zip(shares, p, strict=True))
    p = [max(x, 1 / 1020) for x in p]
    if fusion == "geometric":
        return 255 * math.prod(x**w for w, x in zip(shares, p, strict=True))
    p = [min(x, 1 - 1 / 1020) for x in p]
    odds = math.prod((x / (1 - x)) ** w for w, x in zip(shares, p, strict=True))
    return 255 * odds / (1 + odds)


members = st.integers(1, 5).flatmap(
    lambda n: st.tuples(st.lists(byte, min_size=n, max_size=n), st.lists(st.floats(0.01, 5), min_size=n, max_size=n))
)


@given(members, st.sampled_from(FUSIONS))
@settings(deadline=None)
def test_fusions_are_their_closed_forms(drawn: tuple[list[int], list[float]], fusion: Fusion) -> None:
    values, weights = drawn
    found = fuse([of_size(np.full((8, 12), value, np.uint8)) for value in values], weights, fusion).prob_HW
    assert (found == found[0, 0]).all()
    expected = values[0] if len(values) == 1 else by_hand(values, weights, fusion)
    assert abs(int(found[0, 0]) - expected) < 0.501  # rounded to bytes; a float32 sum may tip a half


@given(arrays(np.uint8, st.tuples(st.integers(2, 5), st.just(96)), elements=byte), st.data())
@settings(deadline=None)
def test_compiled_loops_give_the_bytes_of_whole_arrays(prob_MP: UInt8, data: st.DataObject) -> None:
    raw = data.draw(st.lists(st.floats(0.01, 5), min_size=len(prob_MP), max_size=len(prob_MP)))
    fusion = data.draw(st.sampled_from(FUSIONS))
    shares_M = np.array(raw, dtype=np.float64) / sum(raw)
    maps = [row.reshape(8, 12) for row in prob_MP]
    plain = fusion_module._fused(maps, shares_M.astype(np.float32), fusion, (12, 8))
    assert_array_equal(fuse([of_size(prob_HW) for prob_HW in maps], raw, fusion).prob_HW, plain)


@given(byte, st.integers(2, 5), st.sampled_from(FUSIONS))
def test_members_of_one_mind_come_out_as_they_went_in(value: int, count: int, fusion: Fusion) -> None:
    maps = [of_size(np.full((8, 12), value, np.uint8))] * count
    assert (fuse(maps, None, fusion).prob_HW == value).all()


def test_one_doubter_weighs_more_in_the_logarithmic_pools() -> None:
    # 255 and 51 (.2): mean .6, geometric sqrt(.2) = .447, logit 1 / (1 + sqrt(4 / 1019)) = .941 (odds .25 and 1019).
    maps = [of_size(np.full((8, 12), value, np.uint8)) for value in (255, 51)]
    found = {fusion: int(fuse(maps, None, fusion).prob_HW[0, 0]) for fusion in FUSIONS}
    assert found == {"mean": 153, "geometric": 114, "logit": 240}


def test_a_member_without_weight_is_not_there() -> None:
    large = PageMap(np.full((16, 24), 200, np.uint8), fit_frame((12, 8), 24, multiple=1))
    small = [of_size(np.full((8, 12), value, np.uint8)) for value in (10, 20)]
    assert fuse([large, *small], [0, 1, 1]).frame.canvas_wh == (12, 8)
    assert fuse([large, small[0]], [0, 1]) is small[0]
    with pytest.raises(ValueError, match="`fusion` must be one of mean, geometric, logit"):
        fuse(small, None, "median")  # type: ignore[arg-type]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_bundle_computes_at_once_what_was_cached_view_by_view(tmp_path: Path, fusion: Fusion) -> None:
    folders, models = [], []
    for seed, size in ((0, 64), (1, 96)):
        config = Config(
            **{"encoder": "test_resnet.r160_in1k", "encoder_weights": "none"},
            **{"inner_channels": 16, "output_channels": 8, "image_size": size, "seed": seed},
        )
        torch.manual_seed(seed)
        model = build(config)
        nn.init.normal_(model.head.prob.out.weight, std=0.5)
        checkpoint.save(tmp_path / str(seed), model, config)
        folders.append(tmp_path / str(seed))
        models.append((model, config))
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    views, weights = ("identity", "rot90", "brightness 0.8", "scale 0.5"), (0.3, 0.7)
    rule = Postprocess(thresh=0.1, box_thresh=0.1)
    save_bundle(tmp_path / "b", list(zip(folders, weights, strict=True)), views, rule, fusion)
    cached = [fuse([page_map(*model, image, views=[name]) for name in views]) for model in models]
    predictor = Predictor.load(tmp_path / "b", "cpu")
    assert predictor.fusion == fusion
    found = predictor.maps(Page("a.png", tmp_path / "a.png"))
    assert_array_equal(found.prob_HW, fuse(cached, weights, fusion).prob_HW)
