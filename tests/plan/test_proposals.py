"""Sweeps that propose, before and while they run: what is known, what `check` says, what editing them changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan import preview
from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.difference import difference
from orchestrator.plan.expand import expand
from orchestrator.plan.forecast import forecast
from orchestrator.plan.loading import load
from orchestrator.plan.proposals import Outcome, Proposal, as_kept, proposed, read_proposals, with_proposals
from orchestrator.plan.study import Experiment, Study

NOW = datetime.fromisoformat("2026-11-23T12:00+00:00")
FACTS = DataFacts(10, 2, 0, 10, 2, "data")
PLAN = """
roadmap: r
data: {synthetic: {train: 4, val: 2}}
defaults: {encoder: resnet18, max_epochs: 4}
phases:
  - id: one
    experiments:
      - id: lr
        cost: 10h
        sweep: {space: {optimizer.lr: "loguniform(1e-4, 1e-2)", decoder: [fpn, unet]}, trials: 20, search: tpe}
"""


def study(tmp_path: Path, *overrides: str, plan: str = PLAN) -> Study:
    path = tmp_path / "plan.yaml"
    path.write_text(plan)
    return replace(expand(load(path, overrides), require_data=False), data=FACTS)


def sweep(found: Study) -> Experiment:
    return found.phases[0].experiments[0]


def having(found: Study, points: list[dict[str, Any]]) -> Study:
    """The study of a workspace in which these points have been proposed."""
    rule = sweep(found).proposals
    assert rule is not None
    rows = [
        Proposal(rule.starts + number, point, point, "0" * 16, "tpe", {number: Outcome("pruned", 0.5, 3)})
        for number, point in enumerate(points)
    ]
    kept = as_kept(rule, "one/lr", rows)
    assert read_proposals(kept, rule) == tuple(rows)
    return with_proposals(found, {rule.sweep: kept}.get)


def test_settings_that_came_later_leave_a_sweep_its_proposals(tmp_path: Path) -> None:
    # Pinned as it was before there were `keep_epochs`: what such a sweep has proposed stays its own.
    plain = sweep(study(tmp_path)).proposals
    other = sweep(study(tmp_path, "defaults.keep_epochs=3")).proposals
    assert plain is not None and other is not None
    assert plain.sweep == "83b1e04698134e89" != other.sweep


def test_the_starts_are_those_of_a_random_search(tmp_path: Path) -> None:
    tpe, random = (sweep(study(tmp_path, f"one.lr.sweep.search={search}")) for search in ("tpe", "random"))
    assert random.proposals is None and len(random.trials) == 20
    assert tpe.trials == random.trials[:6]  # two for each of two settings, and two
    assert [trial.config for trial in tpe.unproposed] == [trial.config for trial in random.trials[6:]]
    assert not {trial.digest for trial in tpe.unproposed} & {trial.digest for trial in random.trials}
    assert len(sweep(study(tmp_path, "one.lr.sweep.search={tpe: {starts: 3}}")).trials) == 3


def test_a_proposed_trial_is_made_as_all_trials_are(tmp_path: Path) -> None:
    found = study(tmp_path)
    (written,) = (
        study(
            tmp_path,
            plan=PLAN.split("      - id: lr")[0] + "      - {id: w, set: {optimizer: {lr: 0.002}, decoder: unet}}\n",
        )
        .phases[0]
        .experiments
    )
    made = proposed(found, sweep(found), 6, {"optimizer.lr": 0.002, "decoder": "unet"})
    assert (made.name, made.phase, made.experiment) == ("one/lr-06", "one", "lr")
    assert made.config == written.trials[0].config and made.settings == written.trials[0].settings
    known = sweep(having(found, [{"optimizer.lr": 0.002, "decoder": "unet"}]))
    assert known.trials[6:] == (made,) and len(known.unproposed) == 13


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("one.lr.sweep.trials=40", True),
        ("one.lr.sweep.stop=asha", True),
        ("one.lr.priority=3", True),
        ("one.lr.cost=3h", True),
        ("one.lr.resources.cpus=2", True),
        ('one.lr.sweep.space={decoder: [fpn, unet], optimizer.lr: "loguniform(0.0001, 0.010)"}', True),
        ("one.lr.sweep.seed=1", False),
        ("one.lr.sweep.search={tpe: {starts: 7}}", False),
        ("one.lr.sweep.search={tpe: {candidates: 100}}", False),
        ("one.lr.sweep.space.optimizer.lr=loguniform(1e-4, 2e-2)", False),
        ("one.lr.batch_size=2", False),
        ("seed=1", False),
    ],
)
def test_what_a_proposal_depends_on_is_its_sweeps_identity(tmp_path: Path, override: str, same: bool) -> None:
    one, other = sweep(study(tmp_path)).proposals, sweep(study(tmp_path, override)).proposals
    assert one is not None and other is not None and (one.sweep == other.sweep) is same


def test_check_counts_what_is_to_come(tmp_path: Path) -> None:
    found = having(study(tmp_path), [{"optimizer.lr": 0.002, "decoder": "unet"}])
    coming = forecast(found, (), (1, 20), NOW)
    # 20 trials of 4 epochs; 10 h over 80 epochs; side by side on 20 GPUs as long as one: half an hour.
    assert coming.epochs_most == 80 and coming.gpu_hours == pytest.approx(10)
    assert [ending.hours for ending in coming.endings] == [pytest.approx(10), pytest.approx(0.5)]
    told = preview.as_json(found, {}, coming)
    assert told["totals"]["states"] == {"new": 7, "to propose": 13} and told["totals"]["epochs"] == 80
    rows = told["trials"]
    assert [row["name"] for row in rows] == [f"one/lr-{number:02d}" for number in range(20)]
    assert [row["digest"] is None for row in rows] == [False] * 7 + [True] * 13
    assert rows[7]["settings"] == {} and rows[7]["epochs"] == 4 and rows[7]["gpu_hours"] == pytest.approx(0.5)
    text = preview.text(found, {}, coming)
    assert "7 trials known, 13 to be proposed by TPE" in text and "to propose" in text
    assert told["phases"][0]["experiments"][0]["work"] == "7 trials known, 13 to be proposed by TPE"


def test_what_is_swept_is_not_told_of_trials_to_come(tmp_path: Path) -> None:
    found = study(tmp_path, "one.lr.sweep.space={max_epochs: 2..8, workers: [1, 2]}", "one.lr.sweep.trials=14")
    rows = preview.as_json(found, {}, forecast(found, (), (1,), NOW))["trials"]
    assert {(row["epochs"], row["workers"]) for row in rows if row["digest"] is None} == {(None, None)}
    rule = sweep(found).proposals
    assert rule is not None and rule.max_epochs == 8


def test_two_plans_are_compared_by_what_they_would_propose(tmp_path: Path) -> None:
    found = study(tmp_path)
    longer = difference(found, study(tmp_path, "one.lr.sweep.trials=30"), {})
    assert (longer.count("reused"), longer.count("new"), longer.count("dropped")) == (7, 0, 0)
    other = difference(found, study(tmp_path, "one.lr.sweep.search={tpe: {candidates: 50}}"), {})
    assert [(change.fate, change.digest) for change in other.changes if change.fate != "reused"] == [
        ("new", None),
        ("dropped", None),
    ]
