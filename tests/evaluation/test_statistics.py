"""Intervals against the normal theory, against every possible resample of a small set, and against scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrator.evaluation.statistics import (
    bootstrap,
    detectable,
    difference_se,
    paired_bootstrap,
    resampled_means,
    widened_tail,
)


def test_interval_of_a_large_sample_is_the_normal_one() -> None:
    # SE = sd / sqrt(n); BCa, percentile and normal intervals agree to O(1 / n) for a symmetric sample.
    values = np.random.default_rng(1).normal(0.002, 0.03, 2000)
    found = bootstrap(values)
    se = values.std() / np.sqrt(2000)
    assert found.mean == pytest.approx(values.mean(), abs=1e-15)
    assert found.low == pytest.approx(values.mean() - 1.96 * se, abs=0.06 * se)
    assert found.high == pytest.approx(values.mean() + 1.96 * se, abs=0.06 * se)


def test_resamples_of_three_values_have_the_enumerated_distribution() -> None:
    # 27 equally likely draws of (0, 1, 5): means 0, 1/3, 2/3, 1, 5/3, ... each with its multiplicity / 27.
    values = np.array([0.0, 1.0, 5.0])
    exact: dict[float, float] = {}
    for draw in product(values, repeat=3):
        mean = round(sum(draw) / 3, 9)
        exact[mean] = exact.get(mean, 0) + 1 / 27
    means = resampled_means(values, seed=0, resamples=60_000).round(9)
    for mean, probability in exact.items():
        # binomial SE of a share p over 60,000 draws is below sqrt(.25 / 60,000) = .00204
        assert float(np.mean(means == mean)) == pytest.approx(probability, abs=4 * 0.0021)
    assert set(means) == set(exact)


@pytest.mark.parametrize("skew", ["normal", "beta"])
def test_bca_equals_scipy(skew: str) -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=60) if skew == "normal" else random.beta(8, 0.5, 60)
    level = 1 - 2 * widened_tail(0.025, values.size)  # t(59) = 2.001, x sqrt(60 / 59): 95.6 % of the normal kind
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, method="BCa", confidence_level=level, rng=np.random.default_rng(0)
    )
    ours = bootstrap(values, resamples=40_000, seed=5)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)


def test_coverage_of_a_skewed_mean_is_near_the_level() -> None:
    # 400 samples of 50 from Beta(8, .5), mean 8 / 8.5: a 90 % interval holds the truth in 90 % +- 3 x 1.5 % of them,
    # less the few points that every bootstrap of 50 skewed values loses.
    random = np.random.default_rng(0)
    hits = 0
    for seed in range(400):
        found = bootstrap(random.beta(8, 0.5, 50), seed=seed, resamples=600, level=0.9)
        hits += found.low <= 8 / 8.5 <= found.high
    assert 0.83 <= hits / 400 <= 0.95


def test_equal_models_differ_by_exactly_nothing() -> None:
    scores = np.array([0.1, 0.9, 0.5])
    found = paired_bootstrap(scores, scores)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_pairing_removes_what_images_have_in_common() -> None:
    # b = a - .01 on each image: the difference does not scatter although the scores do.
    scores = np.random.default_rng(0).uniform(0.2, 1, 100)
    found = paired_bootstrap(scores, scores - 0.01)
    assert found.low == pytest.approx(0.01) and found.high == pytest.approx(0.01)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_interval_lies_within_the_data_and_turns_with_the_sign(values: list[float], seed: int) -> None:
    data = np.array(values)
    found = bootstrap(data, seed=seed, resamples=400)
    assert data.min() - 1e-9 <= found.low <= found.high <= data.max() + 1e-9
    assert found == bootstrap(data, seed=seed, resamples=400)
    turned = bootstrap(-data, seed=seed, resamples=400)
    assert turned.mean == pytest.approx(-found.mean)


@pytest.mark.parametrize("bad", [[], [float("nan")], [1.0, float("inf")]])
def test_what_is_no_number_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        bootstrap(np.array(bad))


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="same images, got 2 and 3"):
        paired_bootstrap(np.zeros(2), np.zeros(3))


def test_detectable_difference_of_the_measured_facts() -> None:
    # sd .03, rho .7: SE(413) = .03 sqrt(.6 / 413) = .001143; x (1.960 + .842) = .0032. At 3,700 images: .0011.
    assert difference_se(0.03, 0.7, 413) == pytest.approx(0.001143, abs=1e-6)
    assert detectable(0.03, 0.7, 413) == pytest.approx(0.0032, abs=5e-5)
    assert detectable(0.03, 0.7, 3700) == pytest.approx(0.0011, abs=5e-5)
    # seeds: Var = Var_images + 2 sd_seed^2 / s = .001143^2 + 2 x .0007^2 / 2
    assert difference_se(0.03, 0.7, 413, seed_sd=0.0007, seeds=2) == pytest.approx(0.00134, abs=5e-6)


def test_small_samples_are_widened_as_student_has_it() -> None:
    # t(.025; 9) = -2.2622, x sqrt(10 / 9) = -2.3845; Phi = .00855.  Of 10,000 it is the normal .025 again.
    assert widened_tail(0.025, 10) == pytest.approx(0.00855, abs=1e-5)
    assert widened_tail(0.025, 10_000) == pytest.approx(0.025, abs=2e-5)


def test_every_resample_of_four_values_gives_the_interval() -> None:
    # All 4^4 = 256 draws of (0, 1, 3, 4), equally likely, symmetric about 2: no bias, no acceleration. Widened for 4:
    # Phi(sqrt(4 / 3) x t(.1; 3) = -1.8911) = .0293, so 7 of 256 lie below the low end: 1 + 4 draws of mean 0 and .25,
    # then those of .5 (6 ways): the low end is .5.
    values = np.array([0.0, 1.0, 3.0, 4.0])
    means = np.sort([sum(draw) / 4 for draw in product(values, repeat=4)])
    exact = float(np.quantile(means, widened_tail(0.1, 4)))
    found = bootstrap(values, level=0.8, resamples=60_000)
    assert exact == 0.5 and (found.low, found.high, found.count) == (0.5, 3.5, 4)
    assert not found.enough and not found.above_zero


def test_equal_models_on_few_skewed_images_are_seldom_told_apart() -> None:
    # Differences Beta(8, 1.2) less their mean 8 / 9.2, on 12 images: nominal 2.5 % above 0; the plain one has 8 %.
    random = np.random.default_rng(12)
    above = sum(bootstrap(random.beta(8, 1.2, 12) - 8 / 9.2, seed=i, resamples=600).above_zero for i in range(400))
    assert above / 400 <= 0.065
