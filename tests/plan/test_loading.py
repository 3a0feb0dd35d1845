"""A plan file read: extends, --set, --only, settings nested or dotted."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan.loading import load
from orchestrator.plan.schema import Plan
from orchestrator.plan.study import Effect

PLAN = """\
roadmap: r
data: {synthetic: {train: 4, val: 2}, folds: {k: 2}}
defaults: {encoder: resnet18, optimizer: {lr: 1e-3}}
phases:
  - id: one
    experiments:
      - {id: a}
      - {id: b, set: {optimizer.lr: 2e-3}}
  - id: two
    needs: [one, zero]
    experiments:
      - {id: c, from: "top(one, 1)", seeds: [1, 2]}
      - {id: d, ensemble: {pool: "top(zero.x, 2)"}}
"""


@pytest.fixture
def plan_path(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def wrong(path: Path, *overrides: str, only: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(PlanError) as caught:
        load(path, overrides, only)
    return str(caught.value).splitlines()


def row(plan: Plan, identity: str) -> object:
    return next(e.changes for phase in plan.phases for e in phase.experiments if e.id == identity)


def test_settings_may_be_nested_or_dotted(plan_path: Path) -> None:
    assert row(load(plan_path), "b") == {"optimizer": {"lr": 2e-3}}


def test_set_reaches_every_kind_of_key(plan_path: Path) -> None:
    plan = load(
        plan_path,
        [
            "seed=3",
            "defaults.max_epochs=2",
            "defaults.optimizer.lr=5e-4",
            "data.synthetic.train=6",
            "workspace=/tmp/w",
            "two.target.hmean=0.9",
            "one.a.image_size=320",
            "b.optimizer.weight_decay=0.1",
            "two.c.seeds=[4, 5, 6]",
            "one.a.expect.hmean=+0.002",
            "one.b.cost=30min",
        ],
    )
    assert (plan.seed, plan.workspace) == (3, "/tmp/w")
    assert plan.defaults == {"encoder": "resnet18", "optimizer": {"lr": 5e-4}, "max_epochs": 2}
    assert plan.data.synthetic is not None and plan.data.synthetic.train == 6
    assert plan.phases[1].target.hmean == 0.9
    assert row(plan, "a") == {"image_size": 320}
    assert row(plan, "b") == {"optimizer": {"lr": 2e-3, "weight_decay": 0.1}}
    assert plan.phases[1].experiments[0].seeds == (4, 5, 6)
    assert plan.phases[0].experiments[0].expect == (Effect("hmean", 0.002, 0.002, True),)
    assert plan.phases[0].experiments[1].cost == 0.5


def test_a_star_reaches_every_experiment_that_trains(plan_path: Path) -> None:
    plan = load(plan_path, ["*.image_size=320", "one.*.max_epochs=1"])
    assert row(plan, "a") == {"image_size": 320, "max_epochs": 1}
    assert row(plan, "c") == {"image_size": 320}
    assert row(plan, "d") == {}


def test_wrong_arguments_are_told_with_the_argument_as_their_place(plan_path: Path) -> None:
    assert wrong(plan_path, "nonsense", "one.aa.seed=1", "image_size=3", "one.a.lr=1", "one.a.patience=soon") == [
        "--set image_size=3: image_size: unknown key `image_size`; did you mean `defaults.image_size`?",
        "--set nonsense: KEY=VALUE expected, such as --set defaults.max_epochs=2",
        "--set one.a.lr=1: phases[0].experiments[0].set.lr: unknown key `lr`; did you mean `optimizer.lr`?",
        "--set one.a.patience=soon: phases[0].experiments[0].set.patience: a whole number expected, got 'soon'",
        "--set one.aa.seed=1: one.aa.seed: unknown `aa`; did you mean `a`?",
    ]


def test_only_keeps_a_phase_an_experiment_or_both(plan_path: Path) -> None:
    def kept(*only: str) -> list[str]:
        return [f"{p.id}.{e.id}" for p in load(plan_path, only=only).phases for e in p.experiments]

    assert kept("one") == ["one.a", "one.b"]
    assert kept("c") == ["two.c"]
    assert kept("one.b", "d") == ["one.b", "two.d"]
    assert wrong(plan_path, only=("twoo",)) == [
        "--only twoo: there is no such phase or experiment; did you mean `two`?"
    ]


def test_extends_is_relative_to_the_file_and_places_stay(tmp_path: Path, plan_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    child = tmp_path / "sub" / "child.yaml"
    child.write_text(
        "extends: ../plan.yaml\n"
        "defaults: {optimizer.lr: 3e-3}\n"
        "phases:\n  - {id: one, experiments: [{id: b, set: {image_size: 1000}}]}\n"
    )
    plan_path.write_text(PLAN.replace("resnet18", "[]"))
    assert wrong(child) == [
        f"{tmp_path}/sub/../plan.yaml:3:21: defaults.encoder: text expected, got []",
        f"{child}:4:55: phases[0].experiments[1].set.image_size: must be a multiple of 32, got 1000; take 992 or 1024",
    ]
    plan_path.write_text(PLAN)
    child.write_text("extends: ../plan.yaml\ndefaults: {optimizer.lr: 3e-3}\n")
    assert load(child).defaults == {"encoder": "resnet18", "optimizer": {"lr": 3e-3}}


def test_a_missing_file_is_one_message(tmp_path: Path) -> None:
    assert wrong(tmp_path / "x.yaml") == [
        f"{tmp_path / 'x.yaml'}: cannot be read (No such file or directory); check the path"
    ]
    (tmp_path / "y.yaml").write_text("extends: nowhere.yaml\n")
    assert wrong(tmp_path / "y.yaml") == [
        f"{tmp_path / 'y.yaml'}:1:10: extends: there is no file {tmp_path / 'nowhere.yaml'}; "
        "paths are relative to this plan"
    ]


def test_a_byte_order_mark_and_korean_prose_are_read(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + PLAN.replace("{id: a}", "{id: a, what: 기준 모델}").encode())
    assert load(path).phases[0].experiments[0].what == "기준 모델"


def test_a_plan_is_frozen(plan_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(plan_path).seed = 1  # type: ignore[misc]
