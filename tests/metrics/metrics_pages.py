"""Random pages of words and detections, from a seed: every shape that has ever been trouble, near enough to overlap."""

from __future__ import annotations

import math

import numpy as np

from detector.types import Float64, Word

QUADS = ("upright", "turned", "loose", "tiny", "whole", "box")


def quad(rng: np.random.Generator, kind: str, size: float) -> Float64:
    """One quad (4, 2): floats upright or turned, any four points, a few px wide, integers; any start and direction."""
    corner = rng.uniform(0, size, 2)
    x, y = corner
    w, h = rng.uniform(1, 60, 2)
    if kind == "upright":
        points = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    elif kind == "turned":
        a = rng.uniform(0, 7)
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        points = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn.T + corner
    elif kind == "loose":
        points = rng.uniform(0, 60, (4, 2)) + corner
    elif kind == "tiny":
        points = rng.integers(0, 4, (4, 2)) + np.trunc(corner)
    elif kind == "whole":
        points = rng.integers(0, 30, (4, 2)) + np.trunc(corner)
    else:
        points = np.trunc([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    points = np.roll(points.astype(np.float64), rng.integers(4), 0) if rng.random() < 0.3 else points.astype(np.float64)
    return points[::-1].copy() if rng.random() < 0.2 else points


def variations(rng: np.random.Generator, points: Float64) -> list[Float64]:
    """Detections of a quad: the same, jittered, split in two, or scaled."""
    choice = rng.random()
    if choice < 0.3:
        return [points.copy()]
    if choice < 0.6:
        return [points + rng.normal(0, 3, points.shape)]
    if choice < 0.8 and len(points) == 4:
        top, bottom = (points[0] + points[1]) / 2, (points[3] + points[2]) / 2
        return [np.array([points[0], top, bottom, points[3]]), np.array([top, points[1], points[2], bottom])]
    centre = points.mean(0)
    return [centre + (points - centre) * rng.uniform(0.3, 1.8)]


def quad_page(seed: int, size: float = 150) -> tuple[list[Word], list[Float64]]:
    """Up to 12 words, with and without text, a quarter of them don't-care, and what a detector might make of them."""
    rng = np.random.default_rng(seed)
    kinds = [QUADS[k] for k in rng.choice(len(QUADS), size=2)]
    words: list[Word] = []
    found: list[Float64] = []
    for index in range(rng.integers(0, 12)):
        points = quad(rng, rng.choice(kinds), size)
        text = None if rng.random() < 0.4 else "x" * int(rng.integers(0, 14))
        words.append(Word(str(index), points, text, bool(rng.random() < 0.25)))
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            found += variations(rng, points)
    found += [quad(rng, rng.choice(kinds), size) for _ in range(rng.integers(0, 4))]
    if rng.random() < 0.3:
        found = [np.round(points) for points in found]
    order = rng.permutation(len(found))
    return words, [found[k] for k in order]


def polygon_page(seed: int, size: float = 150) -> tuple[list[Word], list[Float64]]:
    """The same with polygons of 3 to 9 vertices: quads, bent strips (concave), stars, and any points (crossing)."""
    rng = np.random.default_rng(seed)
    words: list[Word] = []
    found: list[Float64] = []
    for index in range(rng.integers(0, 10)):
        points = _polygon(rng, size)
        words.append(Word(str(index), points, "text", bool(rng.random() < 0.2)))
        for _ in range(rng.choice([0, 1, 1, 2])):
            found += variations(rng, points)
    found += [_polygon(rng, size) for _ in range(rng.integers(0, 4))]
    if rng.random() < 0.5:
        found = [np.round(points) for points in found]
    return words, found


def _polygon(rng: np.random.Generator, size: float) -> Float64:
    kind = rng.integers(4)
    if kind == 0:
        return quad(rng, QUADS[rng.integers(len(QUADS))], size)
    corner = rng.uniform(0, size, 2)
    if kind == 1:
        along = np.linspace(0, 60, rng.integers(2, 5))
        bend = rng.uniform(-15, 15, len(along))
        top, bottom = np.stack([along, bend], 1), np.stack([along, bend + rng.uniform(4, 20)], 1)
        return np.concatenate([top, bottom[::-1]]) + corner
    count = rng.integers(3, 10)
    if kind == 2:
        angle = np.sort(rng.uniform(0, 2 * np.pi, count))
        return np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(5, 30, (count, 1)) + corner
    return rng.uniform(0, 50, (count, 2)) + corner
