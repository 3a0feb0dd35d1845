"""YAML 1.2 with places: scalars by the core schema, faults where PyYAML is silent, merges that keep their files."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import Fault
from orchestrator.plan.parsing import parse
from orchestrator.plan.tree import Mark, Tree, merge, scalar


def read(text: str) -> tuple[Tree, list[Fault]]:
    faults: list[Fault] = []
    return parse(text, "x.yaml", faults), faults


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),  # a string for PyYAML
        ("no", "no"),  # False for PyYAML
        ("017", 17),  # 15 in YAML 1.1
        ("0o17", 15),
        ("0x1F", 31),
        ("+0.0025", 0.0025),
        (".5", 0.5),
        ("1.", 1.0),
        ("12:30", "12:30"),  # 750 in YAML 1.1
        ("1_000", "1_000"),
        ("~", None),
        ("", None),
        ("TRUE", True),
        ("1..5", "1..5"),
        ("2026-12-05", "2026-12-05"),
        ("-.inf", -math.inf),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_numbers_come_back(number: float) -> None:
    assert scalar(repr(number)) == number


def test_every_key_and_value_knows_its_place() -> None:
    tree, faults = read("a: 1\nb:\n  - {c: x}\n")
    assert not faults
    found = tree.get("b", 0, "c")
    assert found is not None
    assert (found.key, found.mark) == (Mark("x.yaml", 3, 6), Mark("x.yaml", 3, 9))


def test_signs_survive_below_expect_only() -> None:
    tree, _ = read("expect: {hmean: +0.0025}\nlr: +0.0025\n")
    assert tree.plain() == {"expect": {"hmean": "+0.0025"}, "lr": 0.0025}


def test_a_key_given_twice_keeps_the_first_and_is_a_fault() -> None:
    tree, faults = read("a: 1\na: 2\n")
    assert tree.plain() == {"a": 1}
    assert [str(f) for f in faults] == ["x.yaml:2:1: a: key `a` is given twice, first in line 1; keep one"]


def test_a_torn_call_is_told_whole() -> None:
    _, faults = read("{lr: loguniform(1e-4, 3e-3), b: 1}\n")
    assert [f.message for f in faults] == [
        'within {...} the comma ends the value; write lr: "loguniform(1e-4, 3e-3)" in quotes'
    ]


@pytest.mark.parametrize(
    "text", ["a: &x [*x]\n", "<<: {a: 1}\n", "a: !!python/name:os.system x\n", "[1, 2]\n", "", "a: b: c"]
)
def test_what_is_not_a_plan_is_one_fault(text: str) -> None:
    assert len(read(text)[1]) == 1


def test_anchors_are_read() -> None:
    assert read("a: &x {b: 1}\nc: *x\n")[0].plain() == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_reference_takes_the_type_of_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHS", "3")
    monkeypatch.setenv("EMPTY", "")
    tree, faults = read('{a: "${env:EPOCHS}", b: "${env:NOT_SET:-1e-3}", c: "${env:EPOCHS}/x", d: "${env:EMPTY:-7}"}')
    assert not faults
    assert tree.plain() == {"a": 3, "b": 1e-3, "c": "3/x", "d": 7}


def test_merge_by_id_keeps_order_and_places() -> None:
    base, _ = read("phases: [{id: a, what: x, experiments: [{id: e, set: {lr: 1}}]}]\n")
    over: list[Fault] = []
    child = parse("phases: [{id: b}, {id: a, experiments: [{id: e, set: {wd: 2}}, {id: f}]}]\n", "y.yaml", over)
    merged = merge(base, child)
    assert merged.plain() == {
        "phases": [
            {"id": "a", "what": "x", "experiments": [{"id": "e", "set": {"lr": 1, "wd": 2}}, {"id": "f"}]},
            {"id": "b"},
        ]
    }
    kept, new = merged.near(("phases", 0, "what")), merged.near(("phases", 0, "experiments", 0, "set", "wd"))
    assert (kept.mark.file, new.mark.file) == ("x.yaml", "y.yaml")


def test_null_removes_and_other_lists_are_replaced() -> None:
    base, _ = read("a: {b: 1, c: 2}\nviews: [x, y]\n")
    child, _ = read("a: {b: null}\nviews: [z]\n")
    assert merge(base, child).plain() == {"a": {"c": 2}, "views": ["z"]}
