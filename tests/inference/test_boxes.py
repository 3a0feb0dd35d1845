"""Votes of box lists: by hand, and properties that hold for any lists."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from detector.inference.boxes import fuse_boxes, iou_matrix


def box(x: float, y: float = 0.0, w: float = 20.0, h: float = 10.0) -> np.ndarray:
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], dtype=np.float64)


def xs(found: list[np.ndarray]) -> list[float]:
    return [polygon[0, 0] for polygon in found]


def test_overlaps_by_hand():
    # 20 wide, moved by 10: 10 of 30 are common; by 5: 15 of 25
    found = iou_matrix([box(0), box(10), box(5), box(100)])
    third, far = 1 / 3, 0.6
    assert_allclose(found, [[1, third, far, 0], [third, 1, far, 0], [far, far, 1, 0], [0, 0, 0, 1]])


def test_a_majority_of_three_keeps_a_box_and_leaves_it_as_it_is():
    a, b, c = [box(0), box(100)], [box(2), box(200)], [box(4)]
    # 0, 2 and 4 are one word with three votes; its middle one stands for it. 100 and 200 have one vote of three each.
    found = fuse_boxes([a, b, c])
    assert len(found) == 1 and found[0] is b[0]
    assert xs(fuse_boxes([a, b, c], votes=0.3)) == [2, 100, 200]


def test_weights_decide_who_votes_and_who_stands_for_the_others():
    a, b = [box(0), box(100)], [box(2), box(200)]
    assert xs(fuse_boxes([a, b])) == [0]  # half is no majority: what both found, as the first has it
    assert xs(fuse_boxes([a, b], [1, 2])) == [2, 200]  # two thirds are: what the second found
    assert xs(fuse_boxes([a, b], [2, 1])) == [0, 100]
    assert xs(fuse_boxes([a, b, [box(1)]], [3, 1, 1])) == [0, 100]


def test_one_list_never_votes_twice_for_a_word():
    # The two of b lie on one another; only one of them may join a's, and the other has one vote of two.
    assert xs(fuse_boxes([[box(0)], [box(1), box(2)]])) == [0]
    assert xs(fuse_boxes([[box(0)], [box(1), box(2)]], votes=0.4)) == [0, 2]


def test_chains_do_not_grow_into_one_word():
    # 0-5 and 5-10 overlap by .6, 0-10 by 1/3: all boxes of a cluster must overlap.
    assert xs(fuse_boxes([[box(0)], [box(5)], [box(10)]], iou=0.5)) == [0]
    assert xs(fuse_boxes([[box(0)], [box(5)], [box(10)]], iou=0.3)) == [5]


def test_order_is_by_votes_then_by_the_lists_own():
    a, b, c = [box(300), box(0), box(100)], [box(100), box(0)], [box(0)]
    assert xs(fuse_boxes([a, b, c], votes=0.2)) == [0, 100, 300]


def test_pages_without_boxes():
    assert fuse_boxes([[], []]) == [] == fuse_boxes([])
    assert xs(fuse_boxes([[box(0)], []], votes=0.4)) == [0]
    for weights in ([1], [1, 0], [1, float("nan")], [1, -1]):
        with pytest.raises(ValueError, match="weights > 0"):
            fuse_boxes([[box(0)], [box(0)]], weights)


quads = st.tuples(*(st.integers(0, 60) for _ in range(2)), *(st.integers(3, 30) for _ in range(2)))
some_lists = st.lists(st.lists(quads, max_size=5), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(some_lists, st.floats(0.1, 0.9), st.floats(0.0, 0.9))
def test_what_comes_out_was_put_in(lists, iou, votes):
    boxes = [[box(*quad) for quad in quads_] for quads_ in lists]
    found = fuse_boxes(boxes, iou=iou, votes=votes)
    known = [id(polygon) for quads_ in boxes for polygon in quads_]
    assert len({id(polygon) for polygon in found} & set(known)) == len(found)  # each once, none made


@settings(deadline=None, max_examples=40)
@given(st.lists(quads, min_size=1, max_size=6), st.integers(2, 4))
def test_lists_of_one_mind_change_nothing(quads_, copies):
    kept = list({quad: box(*quad) for quad in quads_}.values())
    # Only boxes that overlap less than the limit are told apart from one another with certainty.
    alone = [i for i, row in enumerate(iou_matrix(kept)) if (np.delete(row, i) < 0.5).all()]
    kept = [kept[i] for i in alone]
    for found, want in zip(fuse_boxes([kept] * copies), kept, strict=True):
        assert_array_equal(found, want)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=4, max_size=7), max_size=4))
def test_overlaps_equal_shapely_on_any_valid_polygon(points):
    polygons = [np.array(one, dtype=np.float64) for one in points]
    polygons = [polygon for polygon in polygons if shapely.Polygon(polygon).is_valid]
    if not polygons:
        return
    found, shapes = iou_matrix(polygons), [shapely.Polygon(polygon) for polygon in polygons]
    for i, one in enumerate(shapes):
        for j, two in enumerate(shapes):
            if i != j:
                assert found[i, j] == pytest.approx(one.intersection(two).area / one.union(two).area, abs=1e-9)
