"""The benchmarks' arithmetic, and that every job of the table is there."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import shapely
from numpy.testing import assert_array_equal

from benchmarks import pages
from benchmarks.__main__ import JOBS
from benchmarks.harness import GROWTH, STANDARD, Contest, Peer, Scale, measure
from benchmarks.settings import Spent, Times, rules_of


def test_medians_are_per_image_and_interleaved() -> None:
    now, order = [0.0], []

    def work(name: str, seconds: float) -> None:
        order.append(name)
        now[0] += seconds

    contest = Contest(
        ours=lambda: work("ours", 2.0),
        peers={"slow": Peer(lambda: work("slow", 30.0), at_least=10, images=3)},
        equal=lambda: True,
        images=4,
        rounds=3,
        clock=lambda: now[0],
    )
    # 2 s for 4 images, 30 s for 3
    assert measure(contest) == {"ours": pytest.approx(500.0), "slow": pytest.approx(10_000.0)}
    # two calls each to warm up and to choose repeats, then ours and slow take turns at being first
    assert order == ["ours", "ours", "slow", "slow", "ours", "slow", "slow", "ours", "ours", "slow"]


def test_what_was_not_run_is_extrapolated_from_one_setting() -> None:
    # By hand 2 + 1 + 4 = 7 s a setting; with cached maps 5 s a setting, and the network once.
    parts = [Spent(seconds, seconds / 2) for seconds in (3.0, 1.0, 2.0, 1.0, 4.0)]
    times = Times(100, 4, 1, *parts, equal=True)
    assert (times.service, times.by_hand) == (Spent(4.0, 2.0), Spent(700.0, 350.0))
    assert times.cached == Spent(502.0, 251.0)
    assert "by hand, extrapolated        700.0 s      350.0 s   not run" in str(times)
    assert "ratio, by hand                 175          175" in str(times)


def test_the_grid_of_settings_has_at_least_so_many() -> None:
    assert [len(set(rules_of(least))) for least in (8, 9, 1000, 1001)] == [8, 27, 1000, 1331]


@pytest.mark.parametrize("scale", [STANDARD, *GROWTH], ids=str)
def test_pages_have_their_words_apart_and_inside(scale: Scale) -> None:
    words = pages.words(scale)
    assert len(words) == scale.words
    shapes = shapely.polygons(np.stack([word.polygon_V2 for word in words]))
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    assert (first == second).all()  # each meets itself alone
    assert all((word.polygon_V2 > 0).all() and (word.polygon_V2 < scale.side_px).all() for word in words)
    assert_array_equal(words[7].polygon_V2, pages.words(scale)[7].polygon_V2)  # seeded


@pytest.mark.parametrize("job", JOBS)
def test_every_job_is_there(job: str) -> None:
    assert importlib.util.find_spec(f"benchmarks.jobs.{job}") is not None
