"""What feeds the network in benchmarks/gpu.py: JPEG pages on disk -> training samples, at about the product's cost.

Where the product's own pipeline can be imported (it needs pydantic, numba and more) that is measured; elsewhere a plain
one of OpenCV and numpy: decode, rotate and zoom, fill the words' shrunk outlines, distances to the outlines.
Shapes: H = W the canvas, px. Samples carry the keys of `detector.data.dataset`.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from benchmarks import pages
from benchmarks.harness import Scale
from detector.geometry import normalise

DENSITY = 110 / 1024**2  # words a pixel, as on the other benchmarks' pages


def feed(folder: Path, side_px: int, count: int) -> tuple[str, Dataset[dict[str, torch.Tensor]]]:
    """`count` samples of pages written to `folder`, and whose pipeline makes them."""
    scale = Scale(side_px, max(1, round(DENSITY * side_px**2)))
    truth = [pages.words(scale, seed) for seed in range(4)]
    paths = []
    for seed, words in enumerate(truth):
        path = folder / f"{side_px}_{seed}.jpg"
        path.write_bytes(cv2.imencode(".jpg", pages.picture(words, side_px, seed)[:, :, ::-1])[1].tobytes())
        paths.append(path)
    try:
        return "detector.data", _ours(paths, truth, side_px, count)
    except ModuleNotFoundError:
        quads = [np.stack([word.polygon_V2 for word in words]) for words in truth]
        return "plain OpenCV", Plain(paths, quads, side_px, count)


def _ours(paths: list[Path], truth: list[Any], side_px: int, count: int) -> Dataset[dict[str, torch.Tensor]]:
    from detector.config import Config
    from detector.data.dataset import TrainSet
    from detector.types import Page

    set_of = [Page(name=path.name, path=path, words=tuple(words)) for path, words in zip(paths, truth, strict=True)]
    return TrainSet([set_of[i % len(set_of)] for i in range(count)], Config(image_size=side_px))


class Plain(Dataset[dict[str, torch.Tensor]]):
    """The plain pipeline."""

    def __init__(self, paths: list[Path], quads_N42: list[Any], side_px: int, count: int) -> None:
        self._paths, self._quads, self._side, self._count = paths, quads_N42, side_px, count
        cv2.setNumThreads(1)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(index)
        which, side = index % len(self._paths), self._side
        bgr = cv2.imdecode(np.frombuffer(self._paths[which].read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-3, 3), rng.uniform(0.8, 1.25))
        canvas = cv2.warpAffine(bgr[:, :, ::-1], matrix, (side, side), flags=cv2.INTER_LINEAR)
        quads = self._quads[which] @ matrix[:, :2].T + matrix[:, 2]
        maps = SimpleNamespace(prob=np.zeros((side, side), np.float32), border=np.full((side, side), 255, np.uint8))
        centres = quads.mean(axis=1, keepdims=True)
        cv2.fillPoly(maps.prob, list((centres + (quads - centres) * 0.6).astype(np.int32)), 1.0)
        cv2.polylines(maps.border, list(quads.astype(np.int32)), isClosed=True, color=0)
        near = 1.0 - np.minimum(cv2.distanceTransform(maps.border, cv2.DIST_L2, 3) / 8.0, 1.0)
        return {
            "image_3HW": torch.from_numpy(normalise(np.ascontiguousarray(canvas))),
            "prob_HW": torch.from_numpy(maps.prob),
            "prob_mask_HW": torch.ones(side, side),
            "thresh_HW": torch.from_numpy(0.3 + 0.4 * near),
            "thresh_mask_HW": torch.from_numpy((near > 0).astype(np.float32)),
        }
