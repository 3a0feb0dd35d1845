"""What happens to a printed sheet: shading, folds, a table under it, a shadow over it, a camera's noise.

Shapes: H, W in px. Light is a factor per pixel, float32, 1 where nothing changes; pictures are float32 RGB in 0..255
until they are finished.
"""

from __future__ import annotations

import cv2
import numpy as np

from detector.types import Float32, UInt8


def clouds(rng: np.random.Generator, hw: tuple[int, int], cells: int, spread: float) -> Float32:
    """Smooth noise around 0: a grid of `cells` x `cells` normal values of deviation `spread`, interpolated."""
    grid = rng.normal(0.0, spread, size=(cells, cells)).astype(np.float32)
    smooth: Float32 = cv2.resize(grid, hw[::-1], interpolation=cv2.INTER_CUBIC)
    return smooth


def paper_light(rng: np.random.Generator, hw: tuple[int, int]) -> Float32:
    """Curl, crumples and up to three folds of a sheet."""
    y, x = (np.linspace(0.0, 1.0, size, dtype=np.float32) for size in hw)
    light = 1.0 + clouds(rng, hw, 6, 0.02)
    bend = float(rng.uniform(0.0, 0.18))  # the edges of a curled sheet turn away from the light
    light -= (bend * (2.0 * (x - rng.uniform(0.35, 0.65))) ** 2).astype(np.float32)[None, :]
    for _ in range(int(rng.integers(0, 4))):
        across = rng.random() < 0.75
        place, thin = float(rng.uniform(0.15, 0.85)), float(rng.uniform(0.004, 0.012))
        line = (y if across else x) - np.float32(place)
        step = float(rng.uniform(-0.07, 0.07)) * np.tanh(line / 0.05) * np.exp(-np.abs(line) / 0.25)
        crease = step - float(rng.uniform(0.03, 0.12)) * np.exp(-((line / thin) ** 2))
        light += (crease[:, None] if across else crease[None, :]).astype(np.float32)
    return np.asarray(np.clip(light, 0.3, 1.15), dtype=np.float32)


def table(rng: np.random.Generator, hw: tuple[int, int]) -> Float32:
    """What the sheet lies on: (H, W, 3), one colour with clouds, perhaps grained like wood."""
    colour = rng.uniform(40.0, 190.0) + rng.uniform(-25.0, 25.0, size=3)
    light = 1.0 + clouds(rng, hw, 5, 0.08)
    if rng.random() < 0.5:
        stretched = clouds(rng, hw, 3, 1.0) * 0.6 + clouds(rng, hw, 9, 1.0) * 0.1
        along = np.linspace(0.0, float(rng.uniform(8.0, 25.0)), hw[rng.integers(2)], dtype=np.float32)
        wave = along[:, None] if len(along) == hw[0] else along[None, :]
        light += np.float32(rng.uniform(0.03, 0.10)) * np.sin(2.0 * np.pi * (wave + stretched))
    light += np.float32(0.03) * rng.standard_normal(hw, dtype=np.float32)
    return np.asarray(light[..., None] * colour.astype(np.float32), dtype=np.float32)


def room_light(rng: np.random.Generator, hw: tuple[int, int]) -> Float32:
    """Uneven light over the whole picture, and in most pictures somebody's soft shadow."""
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, size, dtype=np.float32) for size in hw), indexing="ij")
    angle = rng.uniform(0.0, 2.0 * np.pi, size=2)
    light = 1.0 + float(rng.uniform(0.0, 0.25)) * (np.cos(angle[0]) * x + np.sin(angle[0]) * y)
    if rng.random() < 0.6:
        distance = np.cos(angle[1]) * x + np.sin(angle[1]) * y - float(rng.uniform(-0.1, 0.35))
        soft = float(rng.uniform(0.01, 0.08))
        light = light * (1.0 - float(rng.uniform(0.1, 0.4)) / (1.0 + np.exp(-distance / soft)))
    return np.asarray(light, dtype=np.float32)


def printed(rng: np.random.Generator, ink_HW: Float32, light_HW: Float32) -> Float32:
    """Paper and ink in colour, in the light of its folds: (H, W, 3)."""
    paper = (rng.uniform(225.0, 250.0) + rng.uniform(-6.0, 4.0, size=3)).astype(np.float32)
    colour = (rng.uniform(15.0, 75.0) + rng.uniform(0.0, 1.0, size=3) * (0.0, 5.0, 30.0)).astype(np.float32)
    return np.asarray((paper + ink_HW[..., None] * (colour - paper)) * light_HW[..., None], dtype=np.float32)


def lay_down(rng: np.random.Generator, sheet_HW3: Float32, cover_HW: Float32, below_HW3: Float32) -> Float32:
    """The sheet on the table, with the shadow that it throws; `cover_HW` is 1 where the sheet is."""
    height, width = cover_HW.shape
    blurred = cv2.GaussianBlur(cover_HW, (0, 0), float(rng.uniform(2.0, 0.02 * max(height, width) + 2.0)))
    shift = np.array([[1.0, 0.0, rng.uniform(-6.0, 6.0)], [0.0, 1.0, rng.uniform(0.0, 8.0)]])
    shadow = cv2.warpAffine(blurred, shift, (width, height))[..., None]
    dark = below_HW3 * (1.0 - np.float32(rng.uniform(0.2, 0.6)) * shadow)
    return np.asarray(dark + cover_HW[..., None] * (sheet_HW3 - dark), dtype=np.float32)


def photograph(rng: np.random.Generator, scene_HW3: Float32) -> UInt8:
    """A camera's blur, noise and white balance; the finished 8-bit picture."""
    picture = scene_HW3 * rng.uniform(0.94, 1.06, size=3).astype(np.float32)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 0.9)))
    # Grain of the sensor: mostly equal in the three channels, a little of its own in each.
    spread = float(rng.uniform(1.0, 6.0))
    picture = picture + np.float32(spread) * rng.standard_normal((*picture.shape[:2], 1), dtype=np.float32)
    picture += np.float32(0.4 * spread) * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
