"""Training samples are a function of (seed, epoch, index): not of workers, order or what was asked before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.harness import Scale
from benchmarks.pages import picture
from benchmarks.pages import words as page_words
from benchmarks.peers.plain_pipeline import agree, sample, statistics
from detector.config import Augment, Config
from detector.data.dataset import TrainSet
from detector.data.images import image_size, read_image
from detector.data.synthetic import make_pages
from detector.errors import DataError
from detector.geometry import content_size, fit_frame, normalise, warp
from detector.types import Page

CONFIG = Config(
    image_size=192, crop_size=128, augment=Augment(rotate_deg=8.0, perspective=0.05, blur=0.5, noise=0.5), seed=3
)
KEYS = ("image_3HW", "prob_HW", "prob_mask_HW", "thresh_HW", "thresh_mask_HW")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, ...]:
    return make_pages(tmp_path_factory.mktemp("pages"), 5, seed=0, size=256).pages


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in KEYS)


def test_shapes_types_and_ranges(pages: tuple[Page, ...]) -> None:
    for config, side in ((CONFIG, 128), (CONFIG.model_copy(update={"crop_size": 0}), 192)):
        sample = TrainSet(pages, config)[(0, 1)]
        assert tuple(sample) == KEYS
        assert sample["image_3HW"].shape == (3, side, side)
        assert all(sample[key].shape == (side, side) for key in KEYS[1:])
        assert all(value.is_contiguous() for value in sample.values())
        for key, value in sample.items():
            assert value.dtype == (torch.float32 if key in ("image_3HW", "thresh_HW") else torch.bool)
        assert sample["thresh_HW"].min() >= 0.3 - 1e-6 and sample["thresh_HW"].max() <= 0.7 + 1e-6
        assert sample["prob_HW"].sum() > 50


def test_the_same_in_any_order_and_after_anything(pages: tuple[Page, ...]) -> None:
    one, other = TrainSet(pages, CONFIG), TrainSet(pages, CONFIG)
    forward = [one[(2, index)] for index in range(5)]
    backward = [other[(2, index)] for index in reversed(range(5))][::-1]
    assert all(equal(a, b) for a, b in zip(forward, backward, strict=True))
    one.set_epoch(2)
    assert equal(one[4], forward[4]) and len(one) == 5


def test_epoch_index_and_seed_matter(pages: tuple[Page, ...]) -> None:
    train, reseeded = TrainSet(pages, CONFIG), TrainSet(pages, CONFIG.model_copy(update={"seed": 4}))
    assert not equal(train[(0, 0)], train[(1, 0)])
    assert not equal(train[(0, 0)], train[(0, 1)])
    assert not equal(train[(0, 0)], reseeded[(0, 0)])


def test_the_same_with_two_workers(pages: tuple[Page, ...]) -> None:
    # A large resize wakes OpenCV's threads; forked workers must not wait for them (they did, for ever).
    cv2.setNumThreads(4)
    cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (900, 900), interpolation=cv2.INTER_AREA)
    train = TrainSet(pages, CONFIG)
    keys = [(1, index) for index in range(5)]
    batches = [
        list(DataLoader(train, batch_size=2, sampler=keys, num_workers=workers))  # type: ignore[arg-type]
        for workers in (0, 2)
    ]
    assert len(batches[0]) == 3 and all(equal(a, b) for a, b in zip(*batches, strict=True))


def test_positive_pixels_lie_on_ink(pages: tuple[Page, ...]) -> None:
    # End to end: where the map says text, the picture has contrast; a shifted map would not find it.
    still = Config(image_size=256, augment=Augment(rotate_deg=0, scale=(1, 1), brightness=0, blur=0, noise=0))
    for index in range(5):
        image, maps = TrainSet(pages, still).sample(0, index)
        grey = image.astype(float).mean(axis=2)
        contrast = np.abs(np.diff(grey, axis=1, append=grey[:, -1:])) + np.abs(np.diff(grey, axis=0, append=grey[-1:]))
        text = maps.prob_HW > 0
        assert contrast[text].mean() > 2.0 * contrast[~text].mean()


def test_an_undistorted_sample_is_the_resized_picture(pages: tuple[Page, ...]) -> None:
    still = Config(image_size=256, augment=Augment(rotate_deg=0, scale=(1, 1), brightness=0, blur=0, noise=0))
    train = TrainSet(pages, still)
    image, _ = train.sample(0, 0)
    assert torch.equal(train[(0, 0)]["image_3HW"], torch.from_numpy(normalise(image)))
    # Inference puts the page at the left; here it lies somewhere along its narrow side, by whole pixels.
    frame = fit_frame(image_size(pages[0].path), 256)
    width = content_size(frame)[0]
    expected = warp(read_image(pages[0].path), frame)[:256, :width].astype(int)
    differences = [np.abs(image[:, x : x + width] - expected).mean() for x in range(256 - width + 1)]
    assert min(differences) < 1.5 < np.median(differences)


def test_dont_care_words_are_masked_out(pages: tuple[Page, ...]) -> None:
    page = replace(pages[0], words=tuple(replace(word, ignore=True) for word in pages[0].words))
    sample = TrainSet([page], CONFIG)[(0, 0)]
    assert sample["prob_HW"].sum() == 0 and sample["thresh_mask_HW"].sum() == 0
    assert sample["prob_mask_HW"].min() == 0


def test_pages_without_words_and_missing_files(pages: tuple[Page, ...], tmp_path: Path) -> None:
    sample = TrainSet([replace(pages[0], words=())], CONFIG)[(0, 0)]
    assert sample["prob_HW"].sum() == 0 and sample["prob_mask_HW"].min() == 1
    with pytest.raises(DataError, match=r"none\.jpg"):
        TrainSet([Page("none.jpg", tmp_path / "none.jpg")], CONFIG)[(0, 0)]


def test_samples_have_the_distribution_of_the_plain_pipeline(tmp_path: Path) -> None:
    # 120 draws each: brightness, contrast, sharpness, share and place of the text, masks, threshold.
    words = page_words(Scale(192, 8))
    Image.fromarray(picture(words, 192)).save(tmp_path / "page.jpg", quality=90)
    page = Page("page.jpg", tmp_path / "page.jpg", tuple(words))
    config = Config(image_size=192)

    def seen(other: Config) -> np.ndarray:
        train = TrainSet([page], other)
        return np.array([statistics(*train.sample(draw, 0)) for draw in range(120)])

    plain = np.array([statistics(image, maps) for _, maps, image in (sample(page, config, n) for n in range(120))])
    assert agree(seen(config), plain)
    # The comparison has teeth: other zooms and turns, less brightness or more blur are seen.
    for changed in ({"scale": (0.9, 1.4)}, {"rotate_deg": 20.0}, {"brightness": 0.05}, {"blur": 0.6}):
        assert not agree(seen(config.model_copy(update={"augment": Augment(**changed)})), plain)
