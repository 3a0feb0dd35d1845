"""Scores here against a leaderboard's, by hand: ranks and their intervals, the best of k, budgets, signs of a chase."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sent import model, sent

from orchestrator.evaluation.following import (
    Budget,
    agreement,
    agreements,
    comparable,
    expected_maximum,
    latest,
    optimism,
    spent,
    tau_interval,
    warnings,
)
from orchestrator.evaluation.local import Local


def test_ranks_by_hand():
    # 6 pairs of 4: 1-2, 1-3, 1-4, 2-4, 3-4 agree, 2-3 do not: tau = (5 - 1) / 6; rho = 1 - 6 (0 + 1 + 1 + 0) / 60
    found = agreement([0.1, 0.2, 0.3, 0.4], [0.5, 0.7, 0.6, 0.8])
    assert (found.count, found.tau, found.rho) == (4, pytest.approx(4 / 6), pytest.approx(0.8))
    # c = 2 x 1.96^2 / 4 = 1.9207: (.6667 -+ sqrt(c (1 + c - .4444))) / (1 + c)
    assert (found.low, found.high) == (pytest.approx(-0.5184, abs=1e-4), pytest.approx(0.9749, abs=1e-4))
    assert str(agreement([0.1, 0.2, 0.3], [1, 2, 3])) == "Kendall tau +1.00, n = 3: too few for an interval"
    assert str(agreement([0.1, 0.2], [0.5, 0.5])) == "n = 2: no ranks to compare"
    assert str(agreement([], [])) == "n = 0: no ranks to compare"


@given(st.floats(-1, 1), st.integers(4, 500))
def test_intervals_hold_their_point_and_stay_within_one(tau: float, count: int):
    low, high = tau_interval(tau, count)
    assert -1 - 1e-12 <= low <= tau + 1e-12 and tau - 1e-12 <= high <= 1 + 1e-12
    wider = tau_interval(tau, count // 2 + 1)
    assert wider[0] <= low + 1e-12 and high <= wider[1] + 1e-12


def test_intervals_cover_the_true_tau():
    # Of normals with correlation r, tau is 2 / pi x asin(r).
    from scipy.stats import kendalltau

    random = np.random.default_rng(0)
    for r, count in ((0.0, 6), (0.6, 6), (0.9, 8), (0.6, 20)):
        truth, inside = 2 / math.pi * math.asin(r), 0
        for _ in range(300):
            x, y = random.multivariate_normal([0, 0], [[1, r], [r, 1]], count).T
            low, high = tau_interval(float(kendalltau(x, y).statistic), count)
            inside += low <= truth <= high
        assert inside >= 0.93 * 300, (r, count, inside)


def test_the_best_of_k_by_the_known_values():
    # Harter 1961, "Expected values of normal order statistics", Biometrika 48
    known = {1: 0.0, 2: 0.56419, 3: 0.84628, 5: 1.16296, 10: 1.53875, 20: 1.86748, 50: 2.24907}
    for count, want in known.items():
        assert expected_maximum(count) == pytest.approx(want, abs=1e-5)


def test_thresholds_searched_on_the_board_are_told():
    three = [sent(1 + i, 0.98 + i * 1e-4, 0.98, model(0.2 + i / 10)) for i in range(3)]
    assert not any("thresholds alone" in text for text in warnings(three[:2], None, Budget()))
    (told,) = [text for text in warnings(three, None, Budget()) if "thresholds alone" in text]
    assert "3 submissions of one model differ in thresholds alone (#1, #2, #3; public H within 0.0002)" in told
    other = [*three[:2], sent(3, 0.98, 0.98, model(0.4, "other"))]
    assert not any("thresholds alone" in text for text in warnings(other, None, Budget()))


def test_a_choice_by_the_board_is_told():
    here, there = sent(1, 0.9800, 0.9850, model(0.3, "a")), sent(2, 0.9810, 0.9840, model(0.3, "b"))
    text = "#2 is the best on the public board (0.9810, local 0.9840)"
    told = warnings([here, there], None, Budget())
    assert f"{text} is the board's alone; #1 is the best here (local 0.9850, public 0.9800)" in told[0]
    followed = sent(3, 0.9805, 0.9835, model(0.4, "b"))
    assert (
        f"{text} and was chosen (#3 followed with its members)" in warnings([here, there, followed], None, Budget())[0]
    )
    private = replace(sent(4, 0.97, 0.9840, model(0.3, "b"), "private"), file=there.file)
    assert "was chosen (it has a private score)" in warnings([here, there, private], None, Budget())[0]
    assert "was chosen (it is the champion)" in warnings([here, there], "b@0.3", Budget())[0]
    agreed = sent(2, 0.9810, 0.9860, model(0.3, "b"))
    assert not any("was chosen" in text or "board's alone" in text for text in warnings([here, agreed], None, Budget()))


def test_optimism_by_hand():
    # Per image the two differ by +.02 and -.02: variance .0008 (n - 1), half of it .0004, sd .02; on 400 images .001.
    one = replace(sent(1, 0.98, 0.5), local=Local("own rule", 0.5, 0.5, 0.5, "val", (0.51, 0.49), 2))
    two = replace(sent(2, 0.981, 0.5), local=Local("own rule", 0.5, 0.5, 0.5, "val", (0.49, 0.51), 2))
    found = optimism([one, two], 400)
    assert found is not None and found.from_local and found.sd == pytest.approx(0.001)
    assert found.value == pytest.approx(0.00056419, abs=1e-7)
    told = warnings([one, two], None, Budget())[-1]
    assert told.startswith("the best of 2 equal models would look 0.0006 better than it is on 400 images")
    assert "on 200 images" in warnings([one, two], None, Budget(public_images=200))[-1]
    # Without local scores: the scatter of the board's own, .0010 / sqrt(2)
    bare = optimism([sent(1, 0.98, None), sent(2, 0.981, None)], 400)
    assert bare is not None and not bare.from_local and bare.sd == pytest.approx(0.001 / math.sqrt(2))
    assert optimism([one], 400) is None


def test_budgets_count_files():
    now = datetime.fromisoformat("2026-11-03T20:00:00+00:00")
    found = [sent(number, 0.9, None) for number in (1, 2, 3)]
    found.append(replace(found[0], number=4, board="private"))
    used = spent(found, Budget(5, 2), now)
    assert (used.total, used.today, used.left, used.left_today) == (3, 1, 2, 1)
    assert str(used) == "3 of 5 submissions, 2 left; today 1 of 2"
    assert "over the budget" in str(spent(found, Budget(2), now))
    assert str(spent(found, Budget(), now)) == "3 submissions; the plan sets no `budget.submissions`"
    # 20:00 in Greenwich is tomorrow in Seoul, where nothing was sent yet
    assert spent(found, Budget(5, 2), datetime.fromisoformat("2026-11-04T05:00:00+09:00")).today == 0


def test_the_last_score_of_a_file_counts():
    first, corrected = sent(1, 0.9, None), replace(sent(1, 0.8, None), number=2)
    assert latest([first, corrected, sent(3, 0.7, None)], "public")[0].hmean == 0.8


def test_each_kind_of_score_here_has_ranks_of_its_own():
    # Local ranks 1 2 3 4 against the board's 2 1 3 4: one of six pairs is turned, tau = 4 / 6. Out-of-fold there are
    # three, of which #1 was scored on other images, and the two left agree.
    rows = [sent(1, 0.92, 0.80), sent(2, 0.91, 0.81), sent(3, 0.93, 0.82), sent(4, 0.94, 0.83)]
    of = {1: ("older", 0.99), 2: ("train", 0.71), 3: ("train", 0.72)}
    rows = [
        replace(one, outoffold=Local("own rule", of[one.number][1], 0.5, 0.5, of[one.number][0], (), 600))
        if one.number in of
        else one
        for one in rows
    ]
    assert [one.number for one in comparable(rows, "outoffold")] == [2, 3]
    assert [one.number for one in comparable(rows)] == [1, 2, 3, 4]
    assert agreements(rows, "public", "local").tau == pytest.approx(4 / 6)
    assert str(agreements(rows, "public", "outoffold")) == "Kendall tau +1.00, n = 2: too few for an interval"
    assert agreements(rows, "private", "outoffold").count == 0
    assert comparable([sent(1, 0.9, None)]) == comparable([], "outoffold") == []
    assert rows[1].difference_outoffold == pytest.approx(0.2) and rows[3].difference_outoffold is None
