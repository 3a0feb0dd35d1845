"""One training sample as published code makes it: Pillow, albumentations for pixels and key points, plain targets.

For square pages as large as the canvas, with rotation and zoom as the only geometry. What is drawn has the distribution
of `detector.data.augment`; `statistics` and `agree` are how that is tested.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
import shapely
from PIL import Image
from scipy.stats import ks_2samp

from benchmarks.peers.plain_targets import plain_targets
from detector.config import Config
from detector.data.augment import MIN_VISIBLE, ON_TEXT
from detector.data.targets import Maps
from detector.geometry import BORDER_RGB, IMAGENET_MEAN, IMAGENET_STD
from detector.types import Float32, Float64, Page, UInt8

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import asks the network for a newer version otherwise
import albumentations as A

# Ten statistics are compared: by chance alone one comparison in a hundred fails, and seeds are fixed.
SIGNIFICANT = 1e-3


def sample(page: Page, config: Config, seed: int) -> tuple[Float32, Maps, UInt8]:
    """The normalised picture (3, H, W), its maps, and the picture before it was normalised."""
    rng = np.random.default_rng((config.seed, seed))
    image = np.array(Image.open(page.path).convert("RGB"))
    side = image.shape[0]
    words = [word.polygon_V2 for word in page.words]
    image, words = _moved(rng, config, image, words)
    lit = _light(config, int(rng.integers(2**31)))(image=image)["image"]
    kept, ignore = _cut(words, [word.ignore for word in page.words], side)
    maps = plain_targets(kept, ignore, (side, side), config.targets)
    normalised = _normalise()(image=lit)["image"]
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)), maps, lit


def _moved(rng: np.random.Generator, config: Config, image: UInt8, words: list[Float64]) -> tuple[UInt8, list[Float64]]:
    """Zoomed and turned about the page's centre, then the window laid on the page or on a word."""
    rule, side = config.augment, image.shape[0]
    zoom = float(np.exp(rng.uniform(*np.log(rule.scale))))
    degrees = float(rng.uniform(-rule.rotate_deg, rule.rotate_deg))
    cosine, sine = zoom * np.cos(np.radians(degrees)), zoom * np.sin(np.radians(degrees))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    corners = (np.array([[0, 0], [side, 0], [side, side], [0, side]]) - side / 2) @ turn + side / 2
    word = None
    if words and rng.random() < ON_TEXT:
        word = (words[int(rng.integers(len(words)))] - side / 2) @ turn + side / 2
    shift = {}
    for axis, name in enumerate("xy"):
        low, high = sorted((corners[:, axis].min(), corners[:, axis].max() - side))
        if word is not None:
            first, last = sorted((word[:, axis].max() - side, word[:, axis].min()))
            if max(low, first) <= min(high, last):
                low, high = max(low, first), min(high, last)
        shift[name] = (-round(rng.uniform(low, high)),) * 2
    # albumentations counts from pixel centres, and turns the way of the mathematicians.
    move = A.Affine(scale=(zoom, zoom), rotate=(-degrees, -degrees), translate_px=shift, fill=BORDER_RGB, p=1.0)
    points = np.concatenate(words) - 0.5 if words else np.empty((0, 2))
    done = A.Compose([move], keypoint_params=A.KeypointParams("xy", remove_invisible=False))(
        image=image, keypoints=points.astype(np.float32)
    )
    ends = np.cumsum([len(word) for word in words])[:-1]
    moved = np.asarray(done["keypoints"], dtype=np.float64) + 0.5
    return done["image"], np.split(moved, ends) if words else []


def _cut(words: list[Float64], ignore: list[bool], side: int) -> tuple[list[Float64], list[bool]]:
    canvas = shapely.box(0, 0, side, side)
    kept, skipped = [], []
    for polygon, skip in zip(words, ignore, strict=True):
        whole = shapely.Polygon(polygon)
        shown: Any = whole if canvas.contains(whole) else whole.intersection(canvas)
        if shown.geom_type == "Polygon" and shown.area > 0:
            kept.append(np.array(shown.exterior.coords)[:-1])
            skipped.append(skip or shown.area / whole.area < MIN_VISIBLE)
    return kept, skipped


def _light(config: Config, seed: int) -> A.Compose:
    change = _changes(config.augment.brightness, config.augment.blur, config.augment.noise)
    change.set_random_seed(seed)
    return change


@functools.cache
def _changes(brightness: float, blur: float, noise: float) -> A.Compose:
    return A.Compose(
        [
            A.RandomBrightnessContrast(brightness_limit=brightness, contrast_limit=brightness, p=1.0),
            A.OneOf(
                [
                    A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.2), p=1.0),
                    A.MotionBlur(blur_limit=(3, 5), allow_shifted=False, p=1.0),
                ],
                p=blur,
            ),
            A.OneOf([A.GaussNoise(std_range=(0.01, 0.05), p=1.0), A.ImageCompression(quality_range=(30, 80))], p=noise),
        ]
    )


@functools.cache
def _normalise() -> A.Normalize:
    return A.Normalize(mean=IMAGENET_MEAN, std=IMAGENET_STD)


def statistics(image: UInt8, maps: Maps) -> list[float]:
    """What a sample looks like: mean, contrast and sharpness of the picture; share and centre of its text; masks."""
    grey = image.astype(np.float64).mean(axis=2)
    rows, columns = np.nonzero(maps.prob_HW)
    return [
        grey.mean(),
        grey.std(),
        np.abs(np.diff(grey, axis=1)).mean(),
        np.abs(np.diff(grey, axis=0)).mean(),
        maps.prob_HW.mean(),
        rows.mean() if len(rows) else 0.0,
        columns.mean() if len(rows) else 0.0,
        maps.prob_mask_HW.mean(),
        maps.thresh_HW.mean(),
        maps.thresh_mask_HW.mean(),
    ]


def agree(ours_SF: Float64, plain_SF: Float64) -> bool:
    """Whether F statistics over S samples each may come from the same distributions (Kolmogorov and Smirnov)."""
    return all(ks_2samp(ours, plain).pvalue > SIGNIFICANT for ours, plain in zip(ours_SF.T, plain_SF.T, strict=True))
