"""`competition` against its definition: cases by hand, and a plain twin on random polygons."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_oracles import competition, plain_centres, plain_ratio
from metrics_pages import polygon_page, quad_page, variations

from detector.data.formats import read_words
from detector.metrics.characters import (
    polygon_aspect_ratio,
    polygon_false_characters,
    polygon_length,
    section_centres,
    smallest_rectangle,
)
from detector.metrics.cleval import Counts, Score, Variant, cleval, cleval_prefixes, ground_truth, macro, micro
from detector.types import Float64, Word


def box(x0: float, y0: float, x1: float, y1: float) -> Float64:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def word(polygon: Float64, ignore: bool = False) -> Word:
    return Word("w", polygon, None, ignore)


WIDE = box(0, 0, 80, 20)  # hull from (0, 0) along the top: w = 80, h = 20, ar = .25; round(.5 + 3.99999) = 4 characters


def test_ratio_and_length_of_a_wide_box() -> None:
    assert smallest_rectangle(WIDE) == (80.0, 20.0)
    assert polygon_aspect_ratio(WIDE) == 20.0 / (80.0 + np.finfo(np.float32).eps)
    assert polygon_length(polygon_aspect_ratio(WIDE)) == 4


def test_rounding_of_lengths() -> None:
    # .5 + 1 / (1 + 1.2e-7) = 1.49999988 -> 1; .5 + 2.5 = 3.0 -> 3; .5 + 3 = 3.5 -> 4 (even); .5 + 4 = 4.5 -> 4 (even)
    assert [polygon_length(ratio) for ratio in (0.999999999, 2.5, 3.0, 4.0)] == [1, 3, 4, 4]
    assert polygon_length(0.0) == 100  # 1 / eps = 8.4e6, at most 100
    assert polygon_false_characters(0.0) == 100
    assert polygon_false_characters(100.0) == 1  # .5 + .01 = .51
    assert polygon_false_characters(0.25) == 4  # .5 + 3.999998
    assert polygon_aspect_ratio(box(0, 0, 10, 0)) == 0.0  # no area: h = 0


def test_centres_of_a_wide_box() -> None:
    # One section cut in 4: tops and bottoms at x = 0, 20, 40, 60, 80; s = (5 - 1) / 4 = 1; centres between neighbours.
    assert section_centres(WIDE, 0.25, 4).tolist() == [[10, 10], [30, 10], [50, 10], [70, 10]]


def test_centres_of_two_sections() -> None:
    # Six vertices: two sections of 30 px, each cut in 2: tops at x = 0, 15, 30, 45, 60, so m = 5, s = (5 - 1) / 2 = 2:
    # centre 0 from points 0 and 2, centre 1 from points 2 and 4; y: (0 + 6 + 10 + 16) / 4 = 8.
    strip = np.array([[0, 0], [30, 6], [60, 0], [60, 10], [30, 16], [0, 10]], dtype=np.float64)
    assert section_centres(strip, 0.2, 2).tolist() == [[15, 8], [45, 8]]


def test_inner_points_are_truncated_and_corners_are_not() -> None:
    # 10 px cut in 2: the inner point .5 + 5 = 5.5 becomes 5; the corners at .5 and 10.5 stay.
    # Centre 0: x = (.5 + 5 + .5 + 5) / 4 = 2.75; centre 1: (5 + 10.5 + 5 + 10.5) / 4 = 7.75.
    points = section_centres(box(0.5, 0, 10.5, 5), 0.5, 2)
    assert points[:, 0].tolist() == [2.75, 7.75]


def test_a_found_word_a_missed_word_and_a_false_detection() -> None:
    # Two words of 4 characters. One is found; a box of 60 x 20 in the void counts round(.5 + 2.999998) = 3 characters.
    counts = cleval([word(WIDE), word(box(0, 100, 80, 120))], [WIDE, box(300, 0, 360, 20)])
    assert counts == Counts(chars_gt=8, chars_det=7, chars_fp=3, chars_hit=4)
    assert (counts.recall, counts.precision) == (4 / 8, 4 / 7)


def test_a_split_word_pays_for_the_second_piece() -> None:
    counts = cleval([word(WIDE)], [box(0, 0, 40, 20), box(40, 0, 80, 20)])
    assert counts == Counts(chars_gt=4, chars_det=4, chars_hit=4, gran_recall=1, splits=1)
    assert (counts.recall, counts.precision) == (3 / 4, 4 / 4)


def test_a_detection_over_two_words_pays_for_the_second_word() -> None:
    counts = cleval([word(WIDE), word(box(90, 0, 170, 20))], [box(0, 0, 170, 20)])
    assert counts == Counts(chars_gt=8, chars_det=8, chars_hit=8, gran_precision=1, merges=1)
    assert (counts.recall, counts.precision) == (8 / 8, 7 / 8)


def test_a_duplicate_counts_its_characters_twice() -> None:
    # Both match one-to-many: 4 hit, 4 again as overlaps; the word is split in two pieces.
    counts = cleval([word(WIDE)], [WIDE, WIDE])
    assert counts == Counts(chars_gt=4, chars_det=8, chars_hit=4, gran_recall=1, splits=1, overlaps=4)
    assert (counts.recall, counts.precision) == (3 / 4, 4 / 8)


def test_centres_on_the_upper_border_are_inside_and_on_the_lower_are_not() -> None:
    # The centres lie at y = 10, as do these borders; both halves have area precision 1.
    assert cleval([word(WIDE)], [box(0, 10, 80, 20)]).chars_hit == 4
    assert cleval([word(WIDE)], [box(0, 0, 80, 10)]).chars_hit == 0


def test_triangles_are_skipped_on_both_sides() -> None:
    triangle = WIDE[:3]
    assert cleval([word(triangle), word(WIDE)], [triangle, WIDE]) == Counts(chars_gt=4, chars_det=4, chars_hit=4)


def test_detections_after_the_first_500_of_the_list_are_ignored() -> None:
    elsewhere = [box(500, 0, 520, 20)] * 499  # squares: 1 character each
    assert cleval([word(WIDE)], [*elsewhere, WIDE]) == Counts(chars_gt=4, chars_det=499 + 4, chars_fp=499, chars_hit=4)
    triangles = [WIDE[:3]] * 500  # skipped, but they fill the list
    assert cleval([word(WIDE)], [*triangles, WIDE]) == Counts(chars_gt=4)


def test_vertices_are_truncated_for_areas_and_inclusion() -> None:
    # The centres lie at y = 10. A lower border at 10.9 becomes 10, which is outside; one at 11 keeps them.
    assert [cleval([word(WIDE)], [box(0, 0, 80, y)]).chars_hit for y in (9.9, 10.9, 11)] == [0, 0, 4]
    assert cleval([word(WIDE)], [box(-0.9, 10.9, 80, 30)]).chars_hit == 4  # (0, 10): towards zero, border inside


def test_ignored_words_count_like_any_other_and_texts_are_not_read() -> None:
    plain, marked = [word(WIDE)], [Word("w", WIDE, "much longer text", ignore=True)]
    assert cleval(plain, [WIDE]) == cleval(marked, [WIDE]) == Counts(chars_gt=4, chars_det=4, chars_hit=4)


def test_a_self_crossing_detection_is_its_even_odd_region_over_its_shoelace_area() -> None:
    # A bow tie of two equal triangles: the shoelace sum is 0, so it has no area precision and matches nothing. With one
    # triangle larger it is not 0; GPC's own figures decide.
    tie = np.array([[0, 0], [80, 20], [80, 0], [0, 20]], dtype=np.float64)
    assert cleval([word(WIDE)], [tie]).chars_hit == 0
    skewed = np.array([[0, 0], [80, 20], [80, 0], [0, 90]], dtype=np.float64)
    assert cleval([word(WIDE)], [skewed]) == competition([word(WIDE)], [skewed])


def test_pages_without_words_or_detections_score_nothing() -> None:
    assert cleval([], []) == Counts()
    assert cleval([word(WIDE)], []) == Counts(chars_gt=4)
    assert cleval([], [WIDE]) == Counts(chars_det=4, chars_fp=4)


@pytest.mark.parametrize("block", range(6))
def test_random_polygons_have_every_count_of_the_plain_twin(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        words, polygons = polygon_page(seed) if seed % 2 else quad_page(seed)
        assert cleval(words, polygons) == competition(words, polygons), f"seed {seed}"


def test_real_boxes_have_every_count_of_the_plain_twin(real_data: Path) -> None:
    for number, words in enumerate(list(read_words(real_data / "icdar2015" / "val.json").values())[:12]):
        rng = np.random.default_rng(number)
        polygons = [polygon for item in words for polygon in variations(rng, item.polygon_V2)]
        assert cleval(words, polygons) == competition(words, polygons)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_ratios_and_centres_equal_the_plain_twin(seed: int, n: int) -> None:
    for polygon in polygon_page(seed)[1]:
        if len(polygon) >= 4:
            assert polygon_aspect_ratio(polygon) == pytest.approx(plain_ratio(polygon.tolist()), rel=1e-9)
            np.testing.assert_array_equal(section_centres(polygon, 1.0, n), plain_centres(polygon.tolist(), n))


def test_prepared_ground_truth_scores_alike_and_knows_its_variant() -> None:
    words, polygons = polygon_page(3)
    for variant in ("official", "competition"):
        truth = pickle.loads(pickle.dumps(ground_truth(words, variant)))  # noqa: S301
        assert cleval(truth, polygons, variant) == cleval(words, polygons, variant)
    with pytest.raises(ValueError, match="prepared for 'competition' cannot score 'official'"):
        cleval(truth, polygons, "official")


def test_macro_is_the_mean_of_images_and_micro_the_score_of_sums() -> None:
    # Image 1: R 2/4, P 2/2, H 2/3. Image 2: R 8/8, P 8/16, H 2/3. Image 3: no detections, all 0.
    counts = [Counts(4, 2, 0, 2), Counts(8, 16, 8, 8), Counts(chars_gt=4)]
    assert macro(counts) == Score(pytest.approx(0.5), pytest.approx(0.5), pytest.approx(4 / 9))
    # Sums: 16 characters, 18 detected, 10 hit: R 10/16, P 10/18, H 20/34.
    assert micro(counts) == Score(pytest.approx(10 / 16), pytest.approx(10 / 18), pytest.approx(20 / 34))
    for score in (macro, micro):
        with pytest.raises(ValueError, match="at least one image"):
            score([])


def test_counts_travel_as_rows() -> None:
    counts = Counts(9, 8, 7, 6, 5, 4, 3, 2, 1)
    assert counts.as_row() == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert Counts.from_row(counts.as_row()) == pickle.loads(pickle.dumps(counts)) == counts  # noqa: S301
    with pytest.raises(ValueError, match="9 numbers, got 2"):
        Counts.from_row([1, 2])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["competition", "official"]))
def test_prefixes_equal_one_scoring_each(seed: int, variant: Variant) -> None:
    words, found = polygon_page(seed)
    lengths = [len(found), 0, *range(len(found) + 1)]
    assert cleval_prefixes(words, found, lengths, variant) == [cleval(words, found[:n], variant) for n in lengths]


def test_prefixes_stop_at_the_first_500() -> None:
    polygons = [box(0, 0, 3, 3)[:3], *[box(500, 0, 580, 20)] * 499, WIDE]
    found = cleval_prefixes([word(WIDE)], polygons, [1, 500, 501])
    assert [counts.chars_hit for counts in found] == [0, 0, 0]  # the word's box is number 501 of the list
    assert found[1] == found[2]
