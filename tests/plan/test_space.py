"""Sweeps drawn at reading time: inclusive, distinct, stable when trials or keys are added."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.space import axis, draw, grid, size


@given(st.integers(0, 1000), st.integers(1, 20))
def test_draws_lie_within_their_bounds_and_differ(seed: int, trials: int) -> None:
    points = draw({"lr": axis("loguniform(1e-4, 3e-3)"), "n": axis("1..5")}, trials, seed)
    assert len(points) == trials == len({tuple(point.values()) for point in points})
    assert all(1e-4 <= point["lr"] <= 3e-3 and point["n"] in range(1, 6) for point in points)


def test_more_trials_keep_the_first_ones() -> None:
    axes = {"lr": axis("loguniform(1e-4, 3e-3)")}
    assert draw(axes, 20, 7)[:12] == draw(axes, 12, 7)


def test_another_key_leaves_the_draws_of_the_others() -> None:
    lr = axis("uniform(0.1, 0.2)")
    alone, both = draw({"lr": lr}, 8, 0), draw({"lr": lr, "wd": axis("uniform(0, 1)")}, 8, 0)
    assert [point["lr"] for point in alone] == [point["lr"] for point in both]


def test_drawn_numbers_have_six_digits() -> None:
    assert all(float(f"{p['lr']:.6g}") == p["lr"] for p in draw({"lr": axis("uniform(0, 1)")}, 20, 0))


def test_loguniform_spreads_over_decades() -> None:
    # Of values over two decades half lie in each; 400 draws, so 5 standard deviations are 50.
    low = sum(point["lr"] < 1e-3 for point in draw({"lr": axis("loguniform(1e-4, 1e-2)")}, 400, 3))
    assert 150 < low < 250


def test_a_finite_space_is_drawn_to_its_last_point_and_no_further() -> None:
    axes = {"a": axis([1, 2]), "b": axis("1..3")}
    assert size(axes) == 6
    assert sorted(map(str, draw(axes, 6, 0))) == sorted(map(str, grid(axes)))
    with pytest.raises(ValueError, match="too few points for 7"):
        draw(axes, 7, 0)


def test_the_grid_runs_its_last_key_fastest() -> None:
    assert grid({"a": axis([1, 2]), "b": axis(["x", "y"])}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]


@pytest.mark.parametrize("value", [[], [1, 1], "0.1..0.5", "choice(1, 2)", 5, None, {"a": 1}])
def test_wrong_axes_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected|must not|once|needs a step"):
        axis(value)
