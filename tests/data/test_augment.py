"""Vertices move exactly as pixels do, no word is lost or exchanged, and equal seeds give equal pictures."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from detector.config import Augment
from detector.data.augment import MIN_VISIBLE, Placed, apply_matrix, change_light, draw_matrix, place_words, scale_of
from detector.geometry import BORDER_RGB, area, clip_polygon, transform
from detector.types import Float64

WILD = Augment(
    rotate_deg=30.0, scale=(0.6, 1.6), shear_deg=10.0, perspective=0.15, hflip=0.5, quarter_turns=0.5, brightness=0.4
)
STILL = Augment(rotate_deg=0.0, scale=(1.0, 1.0), brightness=0.0, blur=0.0, noise=0.0)
WH = (300, 400)


def boxes(rng: np.random.Generator, count: int = 12, margin: float = 0.0) -> list[Float64]:
    """Random rectangles inside the page."""
    start = rng.uniform(margin, np.array(WH) * 0.7, size=(count, 2))
    size = rng.uniform(8, 60, size=(count, 2))
    corner = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    return [place + extent * corner for place, extent in zip(start, size, strict=True)]


@pytest.mark.parametrize("seed", range(25))
def test_a_blob_moves_exactly_as_its_vertex(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = draw_matrix(rng, WILD, WH, longest=320, side=320)
    y, x = np.mgrid[: WH[1], : WH[0]] + 0.5
    for vertex in rng.uniform(20, np.array(WH) - 20, size=(6, 2)):
        expected = transform(vertex, matrix)[0]
        if (expected < 26).any() or (expected > 294).any():
            continue
        blob = 130 * np.exp(-((x - vertex[0]) ** 2 + (y - vertex[1]) ** 2) / (2 * 3.0**2))
        # On the border's own red, so that only the blob differs from it, inside the page and outside.
        image = np.rint(np.repeat(blob[..., None], 3, axis=2) + BORDER_RGB[0]).astype(np.uint8)
        canvas = apply_matrix(image, WH, matrix, (320, 320))[..., 0].astype(float) - BORDER_RGB[0]
        left, top = (int(value) - 25 for value in expected)
        rows, columns = np.mgrid[:51, :51] + 0.5
        window = canvas[top : top + 51, left : left + 51]
        centre = np.array([(columns * window).sum(), (rows * window).sum()]) / window.sum() + (left, top)
        # Truncation to 8 bits and the change of scale across the blob move its centre a little.
        assert_allclose(centre, expected, atol=0.3)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_words_inside_keep_every_vertex_in_its_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = boxes(rng)
    matrix = draw_matrix(rng, WILD, WH, 320, 320, words)
    placed = place_words(words, [False] * len(words), WH, matrix, (320, 320))
    assert list(placed.indices) == sorted(placed.indices)
    for polygon, ignore, index in zip(placed.polygons, placed.ignore, placed.indices, strict=True):
        moved = transform(words[index], matrix)
        if (moved >= 0).all() and (moved <= 320).all():
            assert_allclose(polygon, moved, rtol=0, atol=1e-10)
            assert not ignore
        assert (polygon >= 0).all() and (polygon <= 320).all()
    for index in set(range(len(words))) - set(placed.indices):
        moved = shapely.Polygon(transform(words[index], matrix))
        assert moved.intersection(shapely.box(0, 0, 320, 320)).area < 1e-6


def plain_place(words: list[Float64], ignore: list[bool], matrix: Float64, canvas_wh: tuple[int, int]) -> Placed:
    """Word by word, by the functions of `detector.geometry`."""
    placed = []
    for index, (polygon, skip) in enumerate(zip(words, ignore, strict=True)):
        on_image = clip_polygon(polygon, WH)
        moved = transform(on_image, matrix)
        shown = clip_polygon(moved, canvas_wh)
        if len(on_image) >= 3 and len(shown) >= 3 and area(shown) > 0.0:
            visible = area(on_image) / area(polygon) * area(shown) / area(moved)
            placed.append((shown, skip or visible < MIN_VISIBLE, index))
    return Placed(*(tuple(zip(*placed, strict=True)) or ((), (), ())))


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_placing_equals_its_plain_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = [word + rng.uniform(-60, 60, 2) for word in boxes(rng, 20)] + [rng.uniform(-40, 400, (7, 2))]
    ignore = (rng.random(len(words)) < 0.2).tolist()
    matrix = draw_matrix(rng, WILD, WH, 320, 256, words)
    found, wanted = place_words(words, ignore, WH, matrix, (256, 256)), plain_place(words, ignore, matrix, (256, 256))
    assert (found.indices, found.ignore) == (wanted.indices, wanted.ignore)
    for ours, plain in zip(found.polygons, wanted.polygons, strict=True):
        assert_allclose(ours, plain, rtol=0, atol=1e-9)
    assert place_words([], [], WH, matrix, (256, 256)).indices == ()


def test_cut_words_by_hand() -> None:
    # A page of 100 x 100 as it is; words cut by its right border with 60 %, 20 % and nothing left.
    square = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
    words = [square + np.array(shift) for shift in ((94, 20), (98, 40), (110, 60), (50, 50))]
    placed = place_words(words, [False, False, False, True], (100, 100), np.eye(3), (100, 100))
    assert placed.indices == (0, 1, 3) and placed.ignore == (False, True, True)
    assert_array_equal(placed.polygons[0], [[94, 20], [100, 20], [100, 30], [94, 30]])
    # The same words cut by the canvas instead of the picture.
    again = place_words(words, [False, False, False, True], (200, 200), np.eye(3), (100, 100))
    assert again.indices == placed.indices and again.ignore == placed.ignore


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_the_strongest_perspective_never_folds_the_page(seed: int) -> None:
    rule = Augment(perspective=0.3, rotate_deg=180.0, scale=(0.5, 2.0), shear_deg=30.0)
    matrix = draw_matrix(np.random.default_rng(seed), rule, WH, 320, 320)
    corners = np.array([[0, 0, 1], [WH[0], 0, 1], [*WH, 1], [0, WH[1], 1]])
    depth = corners @ matrix[2]
    assert (depth > 0).all() or (depth < 0).all()


def test_without_distortion_the_page_is_only_scaled() -> None:
    # 300 x 400 at 320: 240 x 320, somewhere along the wider side of a 320 px square.
    matrix = draw_matrix(np.random.default_rng(0), STILL, WH, 320, 320)
    assert_allclose(matrix[:2, :2], np.eye(2) * 0.8, atol=1e-12)
    assert 0 <= matrix[0, 2] <= 80 and matrix[1, 2] == pytest.approx(0, abs=1e-9)
    assert matrix[0, 2] == pytest.approx(round(matrix[0, 2]), abs=1e-9)  # a whole pixel: nothing is blurred
    assert scale_of(matrix, WH) == pytest.approx(0.8)


def test_borders_are_constant() -> None:
    image = np.full((400, 300, 3), 255, np.uint8)
    matrix = draw_matrix(np.random.default_rng(0), Augment(rotate_deg=45.0, scale=(0.5, 0.5)), WH, 320, 320)
    canvas = apply_matrix(image, WH, matrix, (320, 320))
    colours = {tuple(corner) for corner in (canvas[0, 0], canvas[0, -1], canvas[-1, 0], canvas[-1, -1])}
    assert BORDER_RGB in colours and colours <= {BORDER_RGB, (255, 255, 255)}


def test_crops_are_placed_on_text() -> None:
    # One word on a large page: a crop of a sixteenth of it holds the whole word in nine of ten draws.
    word = np.array([[700.0, 900.0], [760.0, 900.0], [760.0, 920.0], [700.0, 920.0]])
    whole = 0
    for seed in range(200):
        matrix = draw_matrix(np.random.default_rng(seed), STILL, (1000, 1000), 1000, 256, [word])
        moved = transform(word, matrix)
        whole += bool((moved >= -1e-9).all() and (moved <= 256 + 1e-9).all())
    assert whole >= 170


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32))
def test_light_depends_on_the_seed_alone(seed: int) -> None:
    rule = Augment(brightness=0.3, blur=0.7, noise=0.7)
    image = np.random.default_rng(1).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    before = image.copy()
    first = change_light(np.random.default_rng(seed), rule, image)
    change_light(np.random.default_rng(seed + 1), rule, image)
    again = change_light(np.random.default_rng(seed), rule, image)
    assert_array_equal(first, again)
    assert_array_equal(image, before)
    assert first.shape == image.shape and first.dtype == np.uint8
    assert_array_equal(change_light(np.random.default_rng(seed), STILL, image), image)


def test_blur_and_noise_are_drawn_apart() -> None:
    # albumentations gives all members of a Compose one seed, so that all are applied or none; here each is drawn alone.
    rule = Augment(brightness=0.0, blur=0.5, noise=0.5)
    flat = np.full((32, 32, 3), 128, np.uint8)
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 255
    kinds = set()
    for seed in range(40):
        noisy = (change_light(np.random.default_rng(seed), rule, flat) != flat).any()
        blurred = (change_light(np.random.default_rng(seed), rule, edge)[16, 13:19, 0] != edge[16, 13:19, 0]).any()
        kinds.add((bool(noisy), bool(blurred)))
    assert (False, True) in kinds and (False, False) in kinds and len(kinds) >= 3
