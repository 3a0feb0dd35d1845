"""Pages as a training set: distorted, cropped and turned into maps, a function of (seed, epoch, index) alone.

Shapes: H = W = crop_size, or image_size where whole pages are trained on; 3 RGB planes. Coordinates: canvas frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from detector.config import Config
from detector.data.augment import apply_matrix, change_light, draw_matrix, place_words, scale_of
from detector.data.images import image_size, read_image
from detector.data.index import PageIndex
from detector.data.targets import Maps, targets
from detector.geometry import normalise
from detector.training.memory import keep_heap
from detector.types import Page, UInt8


def start_worker(_: int) -> None:
    """What a loader process does first: a spawned one has read the set back, and its constructor never ran."""
    cv2.setNumThreads(1)
    keep_heap()


class TrainSet(Dataset[dict[str, Tensor]]):
    """Training samples of pages, as many as there are pages.

    Samples are the same for any number of loader workers and in any order of access: each has a generator of its own,
    seeded by (config.seed, epoch, index). Ask with `(epoch, index)`, or call `set_epoch` in the main process before
    each pass of a loader and ask with `index`.
    """

    def __init__(self, pages: Sequence[Page], config: Config) -> None:
        # An index stays one: as objects, each loader worker would get a copy of every page.
        self.pages = pages if isinstance(pages, PageIndex) else tuple(pages)
        self.config = config
        self.epoch = 0
        # OpenCV's threads do not survive the fork of a loader worker: its next call there waits for them for ever.
        # With one thread there is no pool to lose; loader workers are the parallelism here.
        cv2.setNumThreads(1)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of plain indices; persistent workers keep the epoch that they were started with."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.pages)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        """One sample: `image_3HW` normalised and `thresh_HW`, float32; `prob_HW` and both masks, bool.

        Raises:
            DataError: the image is missing or damaged.
        """
        epoch, index = key if isinstance(key, tuple) else (self.epoch, key)
        image, maps = self.sample(epoch, index)
        return {
            "image_3HW": torch.from_numpy(normalise(image)),
            "prob_HW": torch.from_numpy(maps.prob_HW),
            "prob_mask_HW": torch.from_numpy(maps.prob_mask_HW),
            "thresh_HW": torch.from_numpy(maps.thresh_HW),
            "thresh_mask_HW": torch.from_numpy(maps.thresh_mask_HW),
        }

    def sample(self, epoch: int, index: int) -> tuple[UInt8, Maps]:
        """The distorted picture, (H, W, 3) uint8, and its maps: for training, and for looking at."""
        page, config = self.pages[index], self.config
        rng = np.random.default_rng((config.seed, epoch, index))
        side = config.crop_size or config.image_size
        wh = image_size(page.path)
        polygons = [word.polygon_V2 for word in page.words]
        text = [word.polygon_V2 for word in page.words if not word.ignore]
        matrix = draw_matrix(rng, config.augment, wh, config.image_size, side, text)
        scale = min(1.0, scale_of(matrix, wh))
        picture = read_image(page.path, at_least_wh=(round(wh[0] * scale), round(wh[1] * scale)))
        canvas = change_light(rng, config.augment, apply_matrix(picture, wh, matrix, (side, side)))
        words = place_words(polygons, [word.ignore for word in page.words], wh, matrix, (side, side))
        return canvas, targets(words.polygons, words.ignore, (side, side), config.targets)
