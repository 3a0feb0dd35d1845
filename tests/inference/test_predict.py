"""Pages to words: views and their inverses, fusion, frames, predictors and bundles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch import nn

from detector import checkpoint
from detector.config import Config, Postprocess
from detector.errors import CheckpointError, DataError, InputError
from detector.geometry import fit_frame
from detector.inference.bundle import read_bundle, save_bundle
from detector.inference.predict import PageMap, Predictor, fuse, page_map, predict, words_of_page
from detector.inference.views import view
from detector.model.detector import build
from detector.types import Page

NAMES = ("identity", "hflip", "vflip", "rot90", "rot180", "rot270")
TINY = Config(
    encoder="test_resnet.r160_in1k", encoder_weights="none", inner_channels=16, output_channels=8, image_size=64
)


class White(nn.Module):
    """A network that needs no training: a pixel's probability is its brightness, so that words are white blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def probabilities(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        assert image_B3HW.shape[2] % 32 == 0 and image_B3HW.shape[3] % 32 == 0
        assert not self.training
        # normalised black is -2.1, white 2.2 in the red channel
        return ((image_B3HW[:, 0] * 0.229) + 0.485).clamp(0, 1)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(NAMES), st.integers(1, 9), st.integers(1, 9))
def test_views_are_undone_to_the_bit(name, height, width):
    image = np.arange(height * width * 3, dtype=np.float32).reshape(height, width, 3)
    look = view(name)
    assert_array_equal(look.back(look.turn(image)[..., 0]), image[..., 0])


def test_views_do_what_they_say():
    image = np.array([[1, 2], [3, 4]])[..., None]
    seen = {name: view(name).turn(image)[..., 0].tolist() for name in NAMES}
    assert seen == {
        "identity": [[1, 2], [3, 4]],
        "hflip": [[2, 1], [4, 3]],
        "vflip": [[3, 4], [1, 2]],
        "rot90": [[2, 4], [1, 3]],
        "rot180": [[4, 3], [2, 1]],
        "rot270": [[3, 1], [4, 2]],
    }
    assert view("scale 0.8").scale == 0.8
    for name, message in (("hflop", "did you mean `hflip`"), ("scale 9", "<= scale <="), ("scale -1", "scale 0.8")):
        with pytest.raises(InputError, match=message):
            view(name)


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.sampled_from(NAMES), st.integers(0, 99))
def test_every_view_gives_one_map(width, height, name, seed):
    # A network that sees pixels only commutes with flips and turns: whatever padding each view had, the maps are equal.
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    plain = page_map(White(), TINY, image)
    assert_array_equal(page_map(White(), TINY, image, views=[name]).prob_HW, plain.prob_HW)
    assert plain.prob_HW.shape == plain.frame.canvas_wh[::-1] == fit_frame((width, height), 64, 1).canvas_wh[::-1]


def blocks(width: int, height: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[8:16, 10:40] = 255
    image[30:36, 60:100] = 255
    return image


@pytest.mark.parametrize("views", [("identity",), ("identity", "hflip", "rot90"), ("scale 0.5",), ("scale 2",)])
def test_words_return_to_the_image(views):
    # Longest side 128 -> 64 px and back: blocks at even places survive exactly, in the image's own coordinates.
    found = page_map(White(), TINY, blocks(128, 96), views=views)
    words = words_of_page(found, Postprocess(unclip_ratio=0.0, thresh=0.5))
    corners = sorted(p[[0, 2]].ravel().tolist() for p in words.polygons)
    # a scaled view blurs edges by a cell of its own map: 2 / .5 = 4 px of the image
    assert_allclose(corners, [[10, 8, 40, 16], [60, 30, 100, 36]], atol=4.0 if "scale 0.5" in views else 1e-9)


def test_words_are_clipped_to_the_image():
    image = np.full((40, 60, 3), 255, np.uint8)
    (polygon,) = words_of_page(page_map(White(), TINY, image), Postprocess()).polygons
    assert_allclose(polygon, [[0, 0], [60, 0], [60, 40], [0, 40]])


def test_evaluation_mode_is_for_the_call_only():
    model = build(TINY)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    page_map(model, TINY, blocks(64, 64))
    assert model.training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_agree(precision):
    config = TINY.model_copy(update={"precision": precision})
    model = build(config)
    torch.manual_seed(0)  # or the draw depends on the tests before
    nn.init.normal_(model.head.prob.out.weight, std=1.0)  # a map that is not flat
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    exact = page_map(model, TINY, image).prob_HW.astype(int)
    found = page_map(model, config, image).prob_HW.astype(int)
    assert exact.max() - exact.min() > 50
    assert abs(found - exact).max() <= (0 if precision != "bf16" else 13)  # 8 bits of mantissa: 5 % at most


def constant_map(value: int, size: int, image_wh=(120, 80)) -> PageMap:
    frame = fit_frame(image_wh, size, 1)
    return PageMap(np.full(frame.canvas_wh[::-1], value, np.uint8), frame)


def test_fusion_by_hand():
    # (3 x 100 + 1 x 200) / 4 = 125, in the frame of the larger map
    fused = fuse([constant_map(100, 60), constant_map(200, 90)], [3, 1])
    assert fused.frame.canvas_wh == (90, 60)
    assert (fused.prob_HW == 125).all()
    # (0 + 1) / 2 rounds to even, .5 -> 0; (1 + 2) / 2 -> 2
    assert (fuse([constant_map(1, 60), constant_map(2, 60)]).prob_HW == 2).all()
    alone = constant_map(7, 60)
    assert fuse([alone]) is alone


def test_fused_words_keep_their_place():
    image = blocks(128, 96)
    maps = [page_map(White(), TINY, image, size=size) for size in (128, 256)]
    words = words_of_page(fuse(maps), Postprocess(unclip_ratio=0.0, thresh=0.5))
    corners = sorted(p[[0, 2]].ravel().tolist() for p in words.polygons)
    assert_allclose(corners, [[10, 8, 40, 16], [60, 30, 100, 36]], atol=0.5)


def test_fusion_refuses_what_does_not_fit():
    one = constant_map(1, 60)
    for maps, weights in (([], []), ([one], [1, 2]), ([one, one], [0, 0]), ([one, one], [2, -1])):
        with pytest.raises(ValueError, match="weights"):
            fuse(maps, weights)
    with pytest.raises(ValueError, match="one image"):
        fuse([one, constant_map(1, 60, (100, 100))])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path, tuple[Page, ...]]:
    """Two checkpoints of different sizes, and two pages."""
    folder = tmp_path_factory.mktemp("models")
    for seed, size in ((0, 64), (1, 96)):
        config = TINY.model_copy(
            update={"seed": seed, "image_size": size, "postprocess": Postprocess(thresh=0.1, box_thresh=0.1)}
        )
        model = build(config)
        nn.init.normal_(model.head.prob.out.weight, std=0.5)
        checkpoint.save(folder / str(seed), model, config)
    rng = np.random.default_rng(0)
    pages = []
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(folder / name)
        pages.append(Page(name, folder / name))
    return folder / "0", folder / "1", tuple(pages)


def test_checkpoint_predicts(trained):
    first, _, pages = trained
    seen = []
    found = predict(first, pages, on_page=lambda page, words: seen.append((page.name, len(words.polygons))))
    assert [name for name, _ in seen] == list(found) == ["a.png", "b.png"]
    model, config = checkpoint.load(first)
    image = np.asarray(Image.open(pages[0].path))
    want = words_of_page(page_map(model, config, image), config.postprocess)
    assert_array_equal(found["a.png"].scores_N, want.scores_N)
    assert len(want.polygons) > 0


def test_bundle_is_the_fused_members_and_needs_nothing_else(trained, tmp_path):
    first, second, pages = trained
    views, rule = ("identity", "hflip"), Postprocess(thresh=0.15, box_thresh=0.2)
    save_bundle(tmp_path / "bundle", [(first, 1.0), (second, 3.0)], views, rule)
    moved = tmp_path / "moved"
    (tmp_path / "bundle").rename(moved)
    predictor = Predictor.load(moved)
    assert predictor.rule == rule
    image = np.asarray(Image.open(pages[0].path))
    maps = [page_map(*checkpoint.load(folder), image, views=views) for folder in (first, second)]
    want = fuse(maps, [1.0, 3.0])
    found = predictor.maps(pages[0])
    assert found.prob_HW.shape[1] == 96
    assert_array_equal(found.prob_HW, want.prob_HW)
    words = predictor.words(pages[0])
    assert_array_equal(words.scores_N, words_of_page(want, rule).scores_N)
    # by default a bundle of one checkpoint is that checkpoint
    save_bundle(tmp_path / "one", [(first, 1.0)])
    assert_array_equal(predict(tmp_path / "one", pages)["b.png"].scores_N, predict(first, pages)["b.png"].scores_N)


def test_bundles_are_checked(trained, tmp_path):
    first, _, _ = trained
    save_bundle(tmp_path / "good", [(first, 1.0)])
    good = json.loads((tmp_path / "good" / "bundle.json").read_text())
    outside = [{"path": "../0", "weight": 1.0}]
    cases = [
        ({"format": 3}, "`format` must be 1 or 2, got 3"),
        ({"members": []}, "members"),
        ({"members": outside}, r"members\[0\]\.path: must lie inside the bundle"),
        ({"members": [{"path": str(first), "weight": 1}]}, "inside the bundle"),
        ({"members": [{"path": "members/0", "weight": -1}]}, r"members\[0\]\.weight"),
        ({"members": [{"path": "members/7", "weight": 1}]}, "edited or cut off"),
        ({"views": []}, "views"),
        ({"views": ["sideways"]}, "sideways"),
        ({"fusion": "median"}, "fusion: must be one of mean, geometric, logit"),
        ({"postprocess": {"thresh": 2}}, r"postprocess\.thresh"),
    ]
    for change, message in cases:
        bad = tmp_path / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(tmp_path / "good", bad)
        (bad / "bundle.json").write_text(json.dumps(good | change))
        with pytest.raises(CheckpointError, match=message):
            Predictor.load(bad)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "members").symlink_to(first.parent)
    (tmp_path / "link" / "bundle.json").write_text(json.dumps(good))
    with pytest.raises(CheckpointError, match="inside the bundle"):
        read_bundle(tmp_path / "link")
    for members in ([], [(first, 0.0)]):
        with pytest.raises(ValueError, match="weight > 0"):
            save_bundle(tmp_path / "none", members)
    with pytest.raises(CheckpointError, match="no such folder"):
        save_bundle(tmp_path / "none", [(tmp_path / "missing", 1.0)])
    assert not (tmp_path / "none").exists()


def test_unreadable_pages_are_named(trained, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"broken\.png"):
        predict(trained[0], [Page("broken.png", tmp_path / "broken.png")])
