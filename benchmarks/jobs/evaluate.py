"""413 maps to quads, CLEval official and IoU: a process of its own, its start included; times an image."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import pages
from benchmarks.evaluating import RULE
from benchmarks.harness import Contest, Peer, Scale
from benchmarks.peers import plain_iou, plain_postprocess, published_cleval, rapidocr
from detector.types import Float64, Word

IMAGES = 413  # the receipt competition's test set
DISTINCT = 4  # maps; the other files are links to them
FOLDER = tempfile.TemporaryDirectory(prefix="evaluate-")


def contest(scale: Scale) -> Contest:
    folder = Path(FOLDER.name)
    words = [pages.words(scale, seed) for seed in range(DISTINCT)]
    maps = [pages.probability_map(words[seed], scale.side_px, seed) for seed in range(DISTINCT)]
    maps = [np.rint(prob_HW * 255).astype(np.uint8) for prob_HW in maps]
    for index in range(IMAGES):
        path = folder / f"{index}.npy"
        if index < DISTINCT:
            np.save(path, maps[index])
        else:
            path.symlink_to(folder / f"{index % DISTINCT}.npy")
    listed = {str(index): [word.polygon_V2.tolist() for word in words[index % DISTINCT]] for index in range(IMAGES)}
    (folder / "words.json").write_text(json.dumps(listed))

    def ours() -> None:
        subprocess.run([sys.executable, "-m", "benchmarks.evaluating", str(folder)], check=True)

    def peer() -> None:
        found = rapidocr.postprocessor(maps[0] / np.float32(255), RULE)().astype(np.float64)
        score(words[0], list(found))

    def equal() -> bool:
        counts = json.loads((folder / "counts.json").read_text())
        plain = [
            score(words[seed], [word for _, word in plain_postprocess.words(maps[seed], RULE)])
            for seed in range(DISTINCT)
        ]
        return all(counts[str(index)] == plain[index % DISTINCT] for index in range(IMAGES))

    return Contest(
        ours=ours,
        peers={"RapidOCR's + cleval 0.1.1 + plain IoU": Peer(peer, at_least=40)},
        equal=equal,
        images=IMAGES,
        rounds=3,
        clock=clock,
        notes=lambda: (
            f"ours: {IMAGES} maps, the process's start included; the peer: one of these maps, without its start; "
            f"equal: every count to the plain post-processor's quads under cleval and plain IoU"
        ),
    )


def score(words: list[Word], quads: list[Float64]) -> list[list[int]]:
    """Counts of one image by the published scorer and by the plain IoU loops."""
    return [published_cleval.counts(words, quads).as_row(), list(plain_iou.counts(words, quads))]


def clock() -> float:
    """Seconds of processor time of this process and of those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
