"""The closed grammar: ranges in decimal arithmetic, effects with and without sign, gates as trees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.conditions import Call, Compare, Joined, Name, Number, Sum, gate, names
from orchestrator.plan.expressions import cost_gpu_h, distribution, effect, span, top
from orchestrator.plan.study import Effect, Top


def values(text: str, step: str = "1") -> tuple[float, ...]:
    found = span(text)
    assert found is not None
    return found.values(step)


def test_ranges_include_both_ends_exactly() -> None:
    assert values("0.15..0.45", "0.05") == (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
    assert values("0.3..0.7 step 0.2") == (0.3, 0.5, 0.7)
    assert values("320..640 step 32") == tuple(range(320, 641, 32))
    assert values("3..5") == (3, 4, 5)
    assert values("0..1 step 0.4") == (0.0, 0.4, 0.8)
    assert span("loguniform(1, 2)") is None


@given(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 7))
def test_a_whole_range_is_python_s(low: int, length: int, step: int) -> None:
    assert values(f"{low}..{low + length} step {step}") == tuple(range(low, low + length + 1, step))


@pytest.mark.parametrize(
    ("text", "rule"), [("5..3", "low <= high"), ("1..5 step 0", "step > 0"), ("0..1e9", "10000 values")]
)
def test_wrong_ranges_name_the_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        values(text)


@pytest.mark.parametrize("text", ["uniform(1)", "loguniform(0, 1)", "uniform(2, 1)", "normal(0, 1)", "uniform(a, b)"])
def test_wrong_distributions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|takes|must hold"):
        distribution(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+0.003..+0.005", Effect("hmean", 0.003, 0.005, True)),
        ("+0.0025", Effect("hmean", 0.0025, 0.0025, True)),
        ("-0.01..+0.01", Effect("hmean", -0.01, 0.01, True)),
        ("0.9800..0.9810", Effect("hmean", 0.98, 0.981, False)),
        (">= 0.9820", Effect("hmean", 0.982, 1.0, False)),
        (">= +0.002", Effect("hmean", 0.002, 1.0, True)),
    ],
)
def test_effects(text: str, expected: Effect) -> None:
    assert effect("hmean", text) == expected


@pytest.mark.parametrize("text", ["+0.003..0.005", "98.1", "0.5..0.4", "more", "+1.5", "1..2..3"])
def test_wrong_effects_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|must|scores lie"):
        effect("hmean", text)


def test_costs_are_gpu_hours() -> None:
    assert [cost_gpu_h(v) for v in ("4h", "90min", "1.5 GPU-h", 2, "0.5")] == [4.0, 1.5, 1.5, 2.0, 0.5]


def test_top() -> None:
    assert top("top( phase2.lr , 3)") == Top("phase2.lr", 3)
    for text in ("top(phase2)", "top(phase2, 0)", "best(phase2, 1)"):
        with pytest.raises(ValueError, match=r"expected|counts from 1"):
            top(text)


def test_gates_parse_into_trees() -> None:
    difference = Call("ci_low", Sum("-", Name("best"), Name("baseline")))
    assert gate("ci_low(best - baseline) > 0") == Compare(">", difference, Number(0.0))
    # `and` binds tighter than `or`
    a, b, c = (Compare(">", Name(n), Number(0.0)) for n in "abc")
    assert gate("a > 0 or b > 0 and c > 0") == Joined("or", a, Joined("and", b, c))
    assert gate("recall(phase1.unet-2) >= -0.5e-1") == Compare(
        ">=", Call("recall", Name("phase1.unet-2")), Number(-0.05)
    )
    assert names(gate("a > b and ci_low(c - (d + 1)) < e")) == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "best",
        "best >",
        "best > 0 0",
        "best > 0 and",
        "f(best) > 0",
        "best > 'x'",
        "(best > 0",
        "best = 0",
        "((" * 500,
    ],
)
def test_what_leaves_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|unexpected|unknown|at most"):
        gate(text)
