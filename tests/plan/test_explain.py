"""`explain`: the value of a key, the line that set it, and what that replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detector.errors import InputError
from orchestrator.__main__ import main
from orchestrator.plan.explain import Explanation, explain
from orchestrator.plan.loading import load

ROOT = Path(__file__).resolve().parents[2]
BASE = """\
roadmap: r
seed: 5
data: {synthetic: {train: 2, val: 1}, folds: {k: 2}}
defaults:
  encoder: resnet18
  optimizer: {lr: 5e-4}
"""
PLAN = """\
extends: base.yaml
defaults: {optimizer.lr: 2e-4}
phases:
  - id: one
    experiments:
      - {id: plain, cost: 2h}
      - {id: fast, set: {optimizer: {lr: 1e-3}}, seeds: [1, 2]}
      - {id: lr, sweep: {space: {optimizer.lr: "loguniform(1e-4, 1e-3)"}, trials: 2}}
      - {id: folds, from: "top(one, 1)", folds: all, set: {patience: 3}}
      - {id: pair, ensemble: {pool: "top(one, 2)", max_members: 3}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path / "plan.yaml"


def one(path: Path, experiment: str, key: str, *overrides: str) -> Explanation:
    (found,) = explain(load(path, overrides), experiment, key)
    return found


def places(found: Explanation) -> list[tuple[object, str, str]]:
    return [(layer.value, Path(layer.file).name, layer.how) for layer in found.layers]


def test_the_layers_of_a_setting_are_told_from_the_strongest_to_what_is_built_in(path: Path) -> None:
    found = one(path, "fast", "optimizer.lr", "fast.optimizer.lr=3e-3")
    assert places(found) == [
        (3e-3, "--set fast.optimizer.lr=3e-3", "set"),
        (1e-3, "plan.yaml", "set"),
        (2e-4, "plan.yaml", "defaults"),
        (5e-4, "base.yaml", "defaults"),
        (1e-3, "config.py", "built in"),
    ]
    assert [(layer.line, layer.column) for layer in found.layers[:4]] == [(0, 0), (7, 42), (2, 26), (6, 19)]


def test_the_line_of_what_is_built_in_declares_it(path: Path) -> None:
    for key, text in (("optimizer.lr", "lr: Positive"), ("workers", "workers: int"), ("resources.gpus", "gpus: ")):
        layer = one(path, "one.plain", key).layers[-1]
        assert (ROOT / layer.file).read_text(encoding="utf-8").splitlines()[layer.line - 1].strip().startswith(text)


def test_seeds_sweeps_and_sources_are_named(path: Path) -> None:
    assert places(one(path, "fast", "seed"))[:2] == [
        ([1, 2], "plan.yaml", "seeds, one training each"),
        (5, "base.yaml", "the plan's seed"),
    ]
    assert places(one(path, "lr", "optimizer.lr"))[0] == (
        "loguniform(1e-4, 1e-3)",
        "plan.yaml",
        "sweep, drawn from it",
    )
    # Upon a source nothing but the experiment's own settings is known.
    assert places(one(path, "folds", "patience")) == [
        (3, "plan.yaml", "set"),
        ("that of top(one, 1)", "plan.yaml", "from, known once it has run"),
    ]
    assert [what for *_, what in places(one(path, "folds", "encoder"))] == ["from, known once it has run"]


def test_keys_of_the_experiment_and_their_defaults(path: Path) -> None:
    assert places(one(path, "plain", "cost")) == [("2h", "plan.yaml", "experiment")]
    assert places(one(path, "plain", "priority")) == [(1, "schema.py", "default")]
    assert places(one(path, "pair", "ensemble.max_members")) == [(3, "plan.yaml", "experiment")]
    assert places(one(path, "pair", "ensemble.views")) == [(["identity"], "schema.py", "default")]


def test_a_group_and_no_key_at_all(path: Path) -> None:
    assert [item.key for item in explain(load(path), "plain", "optimizer")] == [
        "optimizer.lr",
        "optimizer.weight_decay",
        "optimizer.betas",
        "optimizer.clip_norm",
    ]
    assert {"encoder", "workers", "metric.variant"} <= {item.key for item in explain(load(path), "plain")}
    assert [item.key for item in explain(load(path), "pair")] == ["id", "ensemble"]


@pytest.mark.parametrize(
    ("experiment", "key", "message"),
    [
        ("plane", "cost", "no experiment `plane`; did you mean `plain`?"),
        ("plain", "lr", "one.plain: unknown key `lr`; did you mean `optimizer.lr`?"),
        ("pair", "ensemble.view", "one.pair: unknown key `ensemble.view`; did you mean `ensemble`?"),
    ],
)
def test_wrong_names_are_told_the_nearest(path: Path, experiment: str, key: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        explain(load(path), experiment, key)
    assert str(caught.value).endswith(message)


def test_the_command_for_people_and_for_machines(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(path), "fast", "optimizer.lr"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"one.fast: optimizer.lr = 0.001    {path}:7:42  (set)\n    instead of 0.0002    {path}:2:26")
    assert main(["explain", str(path), "fast", "optimizer.lr", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["value"], found["layers"][0]["line"]) == (1e-3, 7)
