"""The fast post-processor equals the plain one, every vertex; the plain one finds what RapidOCR's and docTR's find."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from shapely import Polygon

from benchmarks import pages
from benchmarks.harness import STANDARD, Scale
from benchmarks.peers import plain_postprocess
from detector.config import Postprocess
from detector.inference.postprocess import words_from_map

PAGE = pages.probability_map(pages.words(STANDARD), STANDARD.side_px)


def assert_same_words(prob_HW, rule):
    ours, plain = words_from_map(prob_HW, rule), plain_postprocess.words(prob_HW, rule)
    assert len(ours.polygons) == len(plain)
    for polygon, score, (their_score, theirs) in zip(ours.polygons, ours.scores_N, plain, strict=True):
        assert score == pytest.approx(their_score, abs=1e-12)
        assert_allclose(polygon, theirs, rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.4, 4.0), st.booleans(), st.floats(0.3, 0.6), st.floats(0.0, 3.0))
def test_quads_of_blobs_equal_the_plain_ones(seed, smooth, whole, thresh, ratio):
    prob = cv2.GaussianBlur(np.random.default_rng(seed).random((60, 90), np.float32), (0, 0), smooth)
    prob = (prob - prob.min()) / (prob.max() - prob.min())
    prob = np.rint(prob * 255).astype(np.uint8) if whole else prob
    assert_same_words(prob, Postprocess(thresh=thresh, box_thresh=0.35, unclip_ratio=ratio))


@pytest.mark.parametrize("scale", [STANDARD, Scale(3072, 1000)], ids=str)
def test_quads_of_a_page_equal_the_plain_ones(scale):
    prob = pages.probability_map(pages.words(scale), scale.side_px)
    rule = Postprocess(max_candidates=5000)
    assert len(words_from_map(prob, rule).polygons) == scale.words
    assert_same_words(prob, rule)


@pytest.mark.parametrize("peer", ["rapidocr", "doctr_postprocess"])
def test_real_peers_find_the_plain_ones_words(peer):
    # They differ by design: RapidOCR rounds corners to whole pixels, both give coordinates of pixel centres, neither
    # grows the outline first (docTR adds a pixel to its sides for the offset), docTR opens the map by 3 x 3 first.
    pytest.importorskip({"rapidocr": "rapidocr_onnxruntime", "doctr_postprocess": "doctr"}[peer])
    module = pytest.importorskip(f"benchmarks.peers.{peer}")
    theirs = [Polygon(quad + 0.5) for quad in module.postprocessor(PAGE, Postprocess())()]
    plain = [Polygon(word) for _, word in plain_postprocess.words(PAGE, Postprocess())]
    assert len(theirs) == len(plain) == STANDARD.words
    overlaps = [max(_iou(word, other) for other in theirs if word.intersects(other)) for word in plain]
    assert min(overlaps) > 0.88
    assert np.mean(overlaps) > 0.945  # .960 and .951


def _iou(one, two):
    return one.intersection(two).area / one.union(two).area
