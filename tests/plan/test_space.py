"""Sweeps drawn at reading time: inclusive, distinct, stable when trials or keys are added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.plan import points
from orchestrator.plan.points import size
from orchestrator.plan.space import Axis, axes_of, axis, probes, relations


def draw(axes: Mapping[str, Axis], trials: int, seed: int) -> list[dict[str, Any]]:
    return [dict(drawn.point) for drawn in points.draw(axes, trials, seed)]


def grid(axes: Mapping[str, Axis]) -> list[dict[str, Any]]:
    return [dict(drawn.point) for drawn in points.grid(axes)]


@given(st.integers(0, 1000), st.integers(1, 20))
def test_draws_lie_within_their_bounds_and_differ(seed: int, trials: int) -> None:
    made = draw({"lr": axis("loguniform(1e-4, 3e-3)"), "n": axis("1..5")}, trials, seed)
    assert len(made) == trials == len({tuple(point.values()) for point in made})
    assert all(1e-4 <= point["lr"] <= 3e-3 and point["n"] in range(1, 6) for point in made)


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


# --- settings that depend on others ----------------------------------------------------------------------------------

TIED = {
    "inner_channels": {"by": "decoder", "values": {"unet": [128, 256]}},
    "decoder": ["fpn", "unet"],
    "batch_size": [2, 4],
    "optimizer": {"lr": {"values": [1e-4, 2e-4], "times": "batch_size"}},
}


def test_the_grid_of_a_tied_space_is_that_of_nested_loops() -> None:
    expected: list[dict[str, Any]] = []
    for decoder in ("fpn", "unet"):
        for channels in (128, 256) if decoder == "unet" else (None,):
            for batch in (2, 4):
                for lr in (1e-4, 2e-4):
                    own = {} if channels is None else {"inner_channels": channels}
                    expected.append({**own, "decoder": decoder, "batch_size": batch, "optimizer.lr": lr * batch})
    axes = axes_of(TIED)
    assert sorted(map(str, grid(axes))) == sorted(map(str, expected))
    assert size(axes) == len(expected) == 12


@given(st.integers(0, 1000), st.integers(1, 12))
@settings(deadline=None)
def test_draws_of_a_tied_space_are_points_of_its_grid(seed: int, trials: int) -> None:
    axes = axes_of(TIED)
    made, every = draw(axes, trials, seed), grid(axes)
    assert all(point in every for point in made) and len(made) == trials
    assert made == draw(axes, 12, seed)[:trials]


def test_the_last_points_of_a_long_list_are_found() -> None:
    # 1,000 redraws miss the last of 1,500 points half the time; then what is left is listed.
    drawn = points.draw(axes_of({"seed": "0..1499"}), 1500, 0)
    assert sorted(point.point["seed"] for point in drawn) == list(range(1500))


def test_what_was_picked_makes_the_point_again() -> None:
    axes = axes_of(TIED)
    for drawn in (*points.draw(axes, 6, 0), *points.grid(axes)):
        assert points.walk(axes, lambda key, name, values, drawn=drawn: drawn.picks[key]) == drawn  # type: ignore[misc]


def test_a_drawn_number_is_scaled_and_a_whole_one_stays_whole() -> None:
    axes = axes_of({"batch_size": [2, 4], "optimizer.lr": {"values": "loguniform(1e-4, 2e-4)", "times": "batch_size"}})
    assert size(axes) is None
    for point in draw(axes, 20, 0):
        assert 1e-4 <= point["optimizer.lr"] / point["batch_size"] <= 2e-4
    (point,) = grid(axes_of({"batch_size": [3], "max_epochs": {"values": [4], "times": "batch_size"}}))
    assert point == {"batch_size": 3, "max_epochs": 12} and isinstance(point["max_epochs"], int)


def test_what_depends_on_something_absent_is_absent() -> None:
    axes = axes_of(
        {
            "decoder": ["fpn", "unet"],
            "accumulate": {"by": "decoder", "values": {"unet": [2]}},
            "batch_size": {"values": [1, 2], "times": "accumulate"},
        }
    )
    assert grid(axes) == [
        {"decoder": "fpn"},
        {"decoder": "unet", "accumulate": 2, "batch_size": 2},
        {"decoder": "unet", "accumulate": 2, "batch_size": 4},
    ]


def test_cases_are_read_as_yaml_reads_values() -> None:
    axes = axes_of({"batch_size": [4, 8], "accumulate": {"by": "batch_size", "values": {"4": [2], "8": [1]}}})
    assert grid(axes) == [{"batch_size": 4, "accumulate": 2}, {"batch_size": 8, "accumulate": 1}]


def test_probes_reach_every_end() -> None:
    axes = axes_of(TIED)
    assert list(probes(axes, "inner_channels")) == [
        {"decoder": "unet", "inner_channels": 128},
        {"decoder": "unet", "inner_channels": 256},
    ]
    assert {probe["optimizer.lr"] for probe in probes(axes, "optimizer.lr")} == {2e-4, 4e-4, 8e-4}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"a": {"by": "b", "values": {"1": [1]}}}, "`by` must name a setting of this space, got `b`"),
        ({"a": {"times": "b", "values": [1]}, "b": {"times": "a", "values": [1]}}, "in a circle, got a -> b -> a"),
        ({"a": {"by": "b", "values": {"x": [1]}}, "b": "uniform(0, 1)"}, "is drawn from a distribution; use `times`"),
        ({"a": {"by": "b", "values": {"y": [1]}}, "b": ["x", "z"]}, "`y` is not among the values of `b`"),
        ({"a": {"times": "b", "values": [1]}, "b": ["x"]}, "`times` needs numbers, got 'x'"),
    ],
)
def test_wrong_ties_are_told(space: dict[str, Any], message: str) -> None:
    axes = {key: axis(value) for key, value in space.items()}
    assert message in next(iter(relations(axes)))[1]


@pytest.mark.parametrize(
    "value",
    [{"by": "b"}, {"by": "b", "values": [1]}, {"by": "b", "values": {}}, {"values": {"x": [1]}, "times": "b"}],
)
def test_wrong_forms_of_ties_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected, got a mapping of"):
        axis(value)
