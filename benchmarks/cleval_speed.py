"""Milliseconds an image: CLEval here and in PyPI `cleval` 0.1.1, on the same page of 110 x 110 boxes, in one run.

Run: OMP_NUM_THREADS=1 python benchmarks/cleval_speed.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from cleval.box_types import QUAD
from cleval.eval_functions import evaluation

from detector.metrics import characters
from detector.metrics.cleval import VARIANTS, cleval, ground_truth
from detector.metrics.iou import iou
from detector.types import Float64, Word

OPTIONS = SimpleNamespace(
    DUMP_SAMPLE_RESULT=False,
    E2E=False,
    ORIENTATION=False,
    CASE_SENSITIVE=True,
    RECALL_GRANULARITY_PENALTY_WEIGHT=1.0,
    PRECISION_GRANULARITY_PENALTY_WEIGHT=1.0,
    VERTICAL_ASPECT_RATIO_THRESH=0.5,
    AREA_PRECISION_CONSTRAINT=0.3,
)


def page(seed: int = 0) -> tuple[list[Word], list[Float64]]:
    """22 x 5 slightly turned words on about 1000 x 1000 px; detections jittered by 1.5 px, 6 of them far off."""
    rng = np.random.default_rng(seed)
    words = []
    for row, column in np.ndindex(22, 5):
        w, h, a = rng.uniform(60, 140), rng.uniform(18, 30), rng.normal(0, 0.03)
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        corner = np.array([column * 190, row * 46]) + rng.uniform(0, 10, 2)
        words.append(Word(f"{row}-{column}", np.array([[0, 0], [w, 0], [w, h], [0, h]]) @ turn.T + corner))
    found = [word.polygon_V2 + rng.normal(0, 1.5, (4, 2)) for word in words]
    return words, [quad + 40 * (index < 6) for index, quad in enumerate(found)]


def published(words: list[Word], found: list[Float64]) -> int:
    """Characters hit, by `cleval` 0.1.1."""
    truth = [QUAD(word.polygon_V2.reshape(-1), transcription="") for word in words]
    for box in truth:
        box.transcription = "#" * box.pseudo_transcription_length()
    result = evaluation(OPTIONS, truth, [QUAD(quad.reshape(-1), transcription="") for quad in found])
    return int(result.stats.det.num_char_tp_recall)


def best_ms(job: Callable[[], object], repeats: int, rounds: int = 7) -> float:
    """The quickest round's mean; the first call, which compiles, is not timed."""
    job()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            job()
        times.append((time.perf_counter() - start) / repeats * 1e3)
    return min(times)


def main() -> None:
    words, found = page()
    assert published(words, found) == cleval(words, found, "official").chars_hit
    peer = best_ms(lambda: published(words, found), 1)
    print(f"cleval 0.1.1                        {peer:7.2f} ms")
    for variant in VARIANTS:
        truth = ground_truth(words, variant)

        def unprepared(variant: str = variant) -> None:
            characters._smallest_rectangle.cache_clear()
            cleval(words, found, variant)

        for name, ms in (
            ("prepared", best_ms(lambda truth=truth, variant=variant: cleval(truth, found, variant), 50)),
            ("words   ", best_ms(unprepared, 5)),
        ):
            print(f"{variant:11} {name} ground truth {ms:8.2f} ms   1 : {peer / ms:.0f}")
    print(f"IoU                                 {best_ms(lambda: iou(words, found), 50):7.2f} ms")


if __name__ == "__main__":
    main()
