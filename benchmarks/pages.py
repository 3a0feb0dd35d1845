"""The benchmarks' common inputs: pages of words, detections, probability maps, pictures; seeded, without files."""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.harness import Scale
from detector.types import Float32, Float64, UInt8, Word

TURNED = 0.2  # share of words that are turned by up to 30 degrees; the others by about 1
CELL_PX = (97, 186)  # height and width of a word's place: 110 of them fill a page of 1024 x 1024 px, 11 x 10 words


def words(scale: Scale, seed: int = 0) -> list[Word]:
    """Words of about 80 x 24 px, disjoint, on a grid over the page."""
    rng = np.random.default_rng(seed)
    columns = int(np.ceil(np.sqrt(scale.words / 1.1)))
    rows = int(np.ceil(scale.words / columns))
    cell = np.array([scale.side_px / columns, scale.side_px / rows])
    found = []
    for index in range(scale.words):
        row, column = divmod(index, columns)
        size = np.array([rng.uniform(40, 86), rng.uniform(16, 30)])
        angle = rng.uniform(-0.5, 0.5) if rng.random() < TURNED else rng.normal(0, 0.02)
        centre = (np.array([column, row]) + 0.5) * cell + rng.uniform(-2, 2, 2)
        found.append(Word(f"{index:04d}", rectangle(centre, size, angle)))
    return found


def rectangle(centre_2: Float64, size_2: Float64, angle: float) -> Float64:
    """Corners (4, 2) from the top left on, clockwise."""
    half = size_2 / 2
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(corners @ turn + centre_2, dtype=np.float64)


def detections(truth: list[Word], seed: int = 1) -> list[Float64]:
    """The words' quads jittered by 1.5 px a vertex; one in 18 far off."""
    rng = np.random.default_rng(seed)
    found = [word.polygon_V2 + rng.normal(0, 1.5, (4, 2)) for word in truth]
    return [quad + 40.0 * (index % 18 == 17) for index, quad in enumerate(found)]


def disturbed(truth: list[Word], seed: int) -> list[Float64]:
    """`detections` with every ninth split in halves, every tenth merged with the next, every eleventh doubled."""
    found = detections(truth, seed + 100)
    more: list[Float64] = []
    for index, quad in enumerate(found[:-1]):
        if index % 9 == 0:
            top, bottom = (quad[0] + quad[1]) / 2, (quad[3] + quad[2]) / 2
            more += [np.array([quad[0], top, bottom, quad[3]]), np.array([top, quad[1], quad[2], bottom])]
        elif index % 10 == 0:
            following = found[index + 1]
            more.append(np.array([quad[0], following[1], following[2], quad[3]]))
        else:
            more += [quad] * (2 if index % 11 == 0 else 1)
    return more


def contested(scale: Scale, seed: int) -> tuple[list[Word], list[Float64]]:
    """A page to compare scorers on: words, of odd seeds a fifth don't-care, and `disturbed` detections."""
    truth = words(scale, seed)
    if seed % 2:
        rng = np.random.default_rng(seed)
        truth = [Word(word.id, word.polygon_V2, None, bool(rng.random() < 0.2)) for word in truth]
    return truth, disturbed(truth, seed)


def probability_map(truth: list[Word], side_px: int, seed: int = 2) -> Float32:
    """A map as a trained network gives it: shrunk words with soft, slightly wavy borders and faint noise outside."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((side_px, side_px), dtype=np.float32)
    for word in truth:
        centre = word.polygon_V2.mean(axis=0)
        inner = centre + (word.polygon_V2 - centre) * np.array([0.86, 0.62])
        cv2.fillPoly(drawn, [np.rint(inner).astype(np.int32)], float(rng.uniform(0.75, 1.0)))
    drawn = cv2.GaussianBlur(drawn, (0, 0), 1.2)
    noise = cv2.GaussianBlur(rng.normal(0, 1, drawn.shape).astype(np.float32), (0, 0), 3.0)
    return np.asarray(np.clip(drawn + 0.25 * noise * (drawn > 0.05) + 0.02, 0.0, 1.0), dtype=np.float32)


def picture(truth: list[Word], side_px: int, seed: int = 3) -> UInt8:
    """An RGB page: light paper with a soft shadow, grain, and bars of strokes where words are."""
    rng = np.random.default_rng(seed)
    shade = cv2.resize(rng.uniform(190, 245, (6, 6)).astype(np.float32), (side_px, side_px))
    page = np.repeat(shade[:, :, None], 3, axis=2) + rng.normal(0, 4, (side_px, side_px, 3)).astype(np.float32)
    for word in truth:
        left, right = word.polygon_V2[[0, 3]], word.polygon_V2[[1, 2]]
        for at in np.arange(0.06, 0.95, 0.11):
            top, bottom = (left + (right - left) * at).round().astype(int)
            cv2.line(page, top.tolist(), bottom.tolist(), (40, 40, 50), 3)
    return np.asarray(np.clip(page, 0, 255), dtype=np.uint8)
