"""The process that benchmarks/jobs/evaluate.py times: maps of a folder to quads, CLEval official and IoU.

Run: python -m benchmarks.evaluating FOLDER. It holds NAME.npy (uint8 maps) and words.json ({NAME: [quad, ...]}); counts
go to counts.json ({NAME: [CLEval's, IoU's]}).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from detector.config import Postprocess
from detector.inference.postprocess import words_from_map
from detector.metrics.cleval import cleval
from detector.metrics.iou import iou
from detector.types import Word

RULE = Postprocess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.8)


def main() -> None:
    folder = Path(sys.argv[1])
    counts = {}
    for name, quads in json.loads((folder / "words.json").read_text()).items():
        words = [Word(str(index), np.array(quad)) for index, quad in enumerate(quads)]
        found = words_from_map(np.load(folder / f"{name}.npy"), RULE).polygons
        counts[name] = [cleval(words, found, "official").as_row(), iou(words, found).as_row()]
    (folder / "counts.json").write_text(json.dumps(counts))


if __name__ == "__main__":
    main()
