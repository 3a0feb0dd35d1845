"""Images to word polygons: page -> canvas -> network -> map -> words in the image frame.

One path for all that computes: torch's model and an exported file are both a `detector.inference.network.Network`, and
torch is loaded where a checkpoint is, not before.

Shapes: H, W height and width in px, of the image or of its map. What a map is, and how several become one, stands in
`detector.inference.fusion`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector import checkpoint
from detector.config import Config, Postprocess
from detector.data.formats import read_image
from detector.geometry import BORDER_RGB, fit_frame, normalise, warp
from detector.inference.bundle import is_bundle, read_bundle, save_bundle, verify
from detector.inference.exported import load_onnx
from detector.inference.fusion import Fusion, PageMap, fuse, resized, to_bytes
from detector.inference.network import MULTIPLE, Network, TorchNetwork
from detector.inference.postprocess import words_from_map
from detector.inference.views import IDENTITY, View, view
from detector.types import Detections, Float32, Page, UInt8

if TYPE_CHECKING:
    from detector.model.detector import Detector

__all__ = ["PageMap", "Predictor", "fuse", "map_of", "page_map", "predict", "save_bundle", "words_of_page"]


def page_map(
    model: Detector, config: Config, image_HW3: UInt8, *, size: int | None = None, views: Sequence[str] = (IDENTITY,)
) -> PageMap:
    """The map of one page by a model of torch, on any device; it is put into evaluation mode for the call.

    Args:
        config: the model's own; its precision is used.
        size, views: as of `map_of`; `size` is the config's `image_size` unless given.
    """
    training = model.training
    model.eval()
    try:
        return map_of(TorchNetwork(model, config), image_HW3, size or config.image_size, views)
    finally:
        model.train(training)


def map_of(network: Network, image_HW3: UInt8, size: int, views: Sequence[str] = (IDENTITY,)) -> PageMap:
    """The map of one page, the mean over its views, each rounded to bytes as a cache of maps keeps it.

    Args:
        size: longest side of the page on the canvas, px.
        views: names as `detector.inference.views.view` knows them, at least one.

    Raises:
        InputError: an unknown view.
    """
    if not views:
        raise ValueError("at least one view is needed; `identity` is the plain one")
    height, width = image_HW3.shape[:2]
    frame = fit_frame((width, height), size, multiple=1)
    seen = (_seen(network, image_HW3, size, view(name), frame.canvas_wh) for name in views)
    return fuse([PageMap(to_bytes(prob_HW), frame) for prob_HW in seen])


def words_of_page(page_map: PageMap, rule: Postprocess) -> Detections:
    """The words of a map in the image frame, clipped to the image, best score first."""
    found = words_from_map(page_map.prob_HW, rule)
    if not found.polygons:
        return found
    points = page_map.frame.to_image(np.concatenate(found.polygons), clip=True)
    ends = np.cumsum([len(polygon) for polygon in found.polygons])
    return Detections(tuple(np.split(points, ends[:-1])), found.scores_N)


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One network of a predictor, with its config and its weight among the others."""

    network: Network
    config: Config
    weight: float


class Predictor:
    """A checkpoint, a bundle or an exported file, ready to read pages.

    Attributes:
        members: networks with their configs and weights; a checkpoint is one member of weight 1.
        views: names of the views each member sees.
        rule: thresholds, the checkpoint's own or the bundle's.
        fusion: how the members' maps become one.
    """

    def __init__(
        self, members: Sequence[Member], views: Sequence[str], rule: Postprocess, fusion: Fusion = "mean"
    ) -> None:
        self.members = tuple(members)
        self.views = tuple(views)
        self.rule = rule
        self.fusion = fusion

    @classmethod
    def load(cls, path: Path, device: str | None = None) -> Predictor:
        """Load a checkpoint folder, a bundle folder or an `.onnx` file of `detector.inference.export`.

        Args:
            device: `cpu`, `cuda`...; a GPU where there is one, unless given.

        Raises:
            CheckpointError: `path` is none of these, or damaged.
            InputError: the device, or the runtime of exported files, is not there.
        """
        if is_bundle(path):
            bundle = read_bundle(path)
            verify(path)
            members = [Member(*load_network(folder, device), weight) for folder, weight in bundle.members]
            return cls(members, bundle.views, bundle.rule, bundle.fusion)
        is_exported = Path(path).suffix.lower() == ".onnx" and not Path(path).is_dir()
        network, config = load_onnx(path, device) if is_exported else load_network(path, device)
        return cls([Member(network, config, 1.0)], (IDENTITY,), config.postprocess)

    def maps(self, page: Page) -> PageMap:
        """The page's map: of the one member, or fused over all. DataError where the image cannot be read."""
        image = read_image(page.path)
        maps = [map_of(m.network, image, m.config.image_size, self.views) for m in self.members]
        return fuse(maps, [m.weight for m in self.members], self.fusion)

    def words(self, page: Page) -> Detections:
        """The page's words in the image frame."""
        return words_of_page(self.maps(page), self.rule)


def load_network(folder: Path, device: str | None) -> tuple[Network, Config]:
    """A checkpoint's network as torch computes it, in evaluation mode."""
    import torch

    from detector.model.pointwise import prefer_onednn

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model, config = checkpoint.load(folder, device)
    prefer_onednn(model, device)
    return TorchNetwork(model, config), config


def predict(
    model_path: Path,
    pages: Iterable[Page],
    on_page: Callable[[Page, Detections], None] | None = None,
    device: str | None = None,
) -> dict[str, Detections]:
    """Words of every page, by page name; `on_page` is called after each.

    Raises:
        CheckpointError: `model_path` is neither a checkpoint, a bundle nor an exported file.
        DataError: an image cannot be read.
    """
    predictor = Predictor.load(Path(model_path), device)
    words = {}
    for page in pages:
        words[page.name] = predictor.words(page)
        if on_page is not None:
            on_page(page, words[page.name])
    return words


def _seen(network: Network, image_HW3: UInt8, size: int, look: View, map_wh: tuple[int, int]) -> Float32:
    """The map of one view, upright and of size `map_wh`."""
    height, width = image_HW3.shape[:2]
    frame = fit_frame((width, height), max(MULTIPLE, round(size * look.scale)), multiple=1)
    content = look.turn(look.light(warp(image_HW3, frame)))
    rows, columns = content.shape[:2]
    canvas = np.empty((-(-rows // MULTIPLE) * MULTIPLE, -(-columns // MULTIPLE) * MULTIPLE, 3), dtype=np.uint8)
    canvas[:] = BORDER_RGB
    canvas[:rows, :columns] = content
    prob_HW = network(normalise(canvas))[:rows, :columns]
    return resized(np.ascontiguousarray(look.back(prob_HW)), map_wh)
