"""The fast post-processor equals the plain one, every vertex; the plain one finds what RapidOCR's and docTR's find."""

from __future__ import annotations

import cv2
import numpy as np
import pyclipper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from shapely import Polygon

from benchmarks import pages
from benchmarks.harness import STANDARD, Scale
from benchmarks.peers import plain_postprocess
from detector.config import Postprocess
from detector.inference.postprocess import find_candidates, words_from_map
from detector.kernels.outlines import MITRE, ROUND, offset_outlines
from detector.kernels.simplify import simplify

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


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.6, 4.0), st.floats(0.4, 0.6), st.floats(0.0, 2.0))
def test_polygons_of_blobs_equal_clippers(seed, smooth, thresh, ratio):
    # Concave and ring-like outlines of every kind, whose offsets cross themselves many times.
    prob = cv2.GaussianBlur(np.random.default_rng(seed).random((50, 70), np.float32), (0, 0), smooth)
    prob = (prob - prob.min()) / (prob.max() - prob.min())
    assert_same_words(prob, Postprocess(thresh=thresh, box_thresh=0.35, unclip_ratio=ratio, shape="polygon"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.4, 4.0), st.sampled_from([0.0, 0.002, 0.01, 0.1]))
def test_simplified_contours_equal_opencvs(seed, smooth, epsilon):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((50, 70), np.float32), (0, 0), smooth)
    contours, _ = cv2.findContours((noise > np.median(noise)).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    ends = np.cumsum([len(contour) for contour in contours])
    thin, thin_ends, _ = simplify(np.concatenate(contours).reshape(-1, 2), ends, np.arange(len(ends)), epsilon)
    for contour, found in zip(contours, np.split(thin, thin_ends[:-1]), strict=True):
        want = cv2.approxPolyDP(contour, epsilon * cv2.arcLength(contour, True), True)
        assert_array_equal(found, want.reshape(-1, 2))


@pytest.mark.parametrize("join", [ROUND, MITRE])
def test_most_words_need_no_clipper(join):
    joined = pyclipper.JT_MITER if join == MITRE else pyclipper.JT_ROUND
    done = words = 0
    for seed in range(8):
        page = pages.probability_map(pages.words(STANDARD, seed), STANDARD.side_px, seed + 2)
        candidates = find_candidates(page, 0.3)
        points, ends, sizes = simplify(
            candidates.points_P2, candidates.ends_N, np.arange(len(candidates.ends_N)), 0.002
        )
        distance = 1.5 * sizes[:, 0] / sizes[:, 1]
        found, until = offset_outlines(points, ends, distance, 256, 64.0, join)
        words += len(ends)
        for n, outline in enumerate(np.split(found, until[:-1])):
            if len(outline):
                done += 1
                clipped = plain_postprocess.offset(points[ends[n - 1] if n else 0 : ends[n]] + 0.5, distance[n], joined)
                want = np.array(max(clipped, key=pyclipper.Area))
                assert_array_equal(outline, np.roll(want, -np.lexsort(want.T)[0], axis=0))
    assert done > (0.95 if join == ROUND else 0.45) * words


@pytest.mark.parametrize("shape", ["quad", "polygon"])
@pytest.mark.parametrize("scale", [STANDARD, Scale(3072, 1000)], ids=str)
def test_words_of_a_page_equal_the_plain_ones(scale, shape):
    prob = pages.probability_map(pages.words(scale), scale.side_px)
    rule = Postprocess(max_candidates=5000, shape=shape)
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
