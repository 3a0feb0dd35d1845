"""What a budget and a deadline let start: every answer with the arithmetic that it rests on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.plan.allowance import Admission, Allowance, LeaveOut, Start, Wait
from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load
from orchestrator.plan.pace import Past
from orchestrator.plan.study import Asha, Experiment, Study, Trial

NOON = datetime.fromisoformat("2026-11-23T12:00+00:00")
DATA = DataFacts(4, 2, 0, 1, 1, "data")
PLAN = """\
roadmap: r
data: {synthetic: {train: 4, val: 2}}
defaults: {encoder: resnet18, max_epochs: 10}
phases:
  - id: one
    experiments:
      - {id: a}
      - {id: b, set: {optimizer.lr: 1e-4}}
      - {id: wide, set: {seed: 3, workers: 2}, cost: 2h}
      - {id: c, set: {encoder: resnet34}, cost: 90min}
      - {id: d, set: {encoder: resnet50}}
      - {id: e, set: {encoder: resnet50, seed: 1}}
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Study:
    path = tmp_path_factory.mktemp("p") / "plan.yaml"
    path.write_text(PLAN)
    return expand(load(path), require_data=False)


class Case:
    def __init__(self, study: Study, *pasts: Past, budget: float | None = None, deadline: str | None = None) -> None:
        self.owned = {e.id: (e, e.trials[0]) for e in study.phases[0].experiments}
        self.now = NOON
        limits = replace(study, budget_gpu_h=budget, deadline=deadline)
        self.allowance = Allowance(limits, pasts, None, clock=lambda: self.now)

    def admit(self, name: str, *running: str) -> Admission:
        return self.allowance.admit(*self.owned[name], {self.owned[one][1].digest for one in running})

    def run(self, name: str, epochs: int, seconds: float, state: str = "running") -> None:
        self.allowance.saw(past(self.owned[name][1], epochs, seconds, state))


def past(trial: Trial, epochs: int, seconds: float, state: str = "running", phase: str = "one") -> Past:
    config = trial.config.model_dump(mode="json")
    gpus = trial.resources.gpus
    return Past(trial.digest, phase, "x", state, epochs, seconds, trial.workers, gpus, trial.fold, config)


def test_without_limits_all_may_start(plan: Study) -> None:
    case = Case(plan)
    assert not case.allowance.limited
    assert all(isinstance(case.admit(name, "a", "d"), Start) for name in case.owned)


def test_what_is_spent_and_what_it_costs_must_fit(plan: Study) -> None:
    a = next(iter(plan.phases[0].experiments)).trials[0]
    case = Case(plan, past(a, 10, 3600.0, "finished"), budget=2.5)
    # a took 360 s an epoch, so b costs 10 x 360 s = 1 h: 1 + 1 <= 2.5; c 1.5 h by its author: 1 + 1.5 = 2.5 fits, too.
    assert case.admit("b") == Start("expected: 1.00 GPU-h (10 epochs of 360.0 s, by like trainings)")
    assert case.admit("c") == Start("expected: 1.50 GPU-h (10 epochs of 540.0 s, by its author's cost)")
    # Two workers: 2 h for both; 1 + 2 > 2.5, whatever ends.
    assert case.admit("wide") == LeaveOut(
        "would cost 2.00 GPU-h (10 epochs of 360.0 s x 2, by its author's cost), and 1.00 of 2.5 GPU-h are spent"
    )


def test_what_runs_keeps_what_it_is_expected_to_cost(plan: Study) -> None:
    a = next(iter(plan.phases[0].experiments)).trials[0]
    case = Case(plan, past(a, 10, 3600.0, "finished"), budget=2.9)
    assert isinstance(case.admit("b"), Start)
    # 1 spent + 1 kept for b + 1.5 > 2.9; without b 2.5 would do: wait.
    assert case.admit("c", "b") == Wait(
        "would cost 1.50 GPU-h (10 epochs of 540.0 s, by its author's cost); 1.00 of 2.9 GPU-h are spent, 1.00 kept "
        "for 1 that run"
    )
    case.run("b", 2, 720.0)  # as much, told: 1.2 spent, .8 kept
    assert isinstance(case.admit("c", "b"), Wait)
    case.run("b", 3, 1080.0, "pruned")  # it ended early: 1.3 + 1.5 <= 2.9
    assert isinstance(case.admit("c"), Start)
    case.run("b", 5, 1800.0, "finished")  # 1.5 + 1.5 > 2.9
    assert isinstance(case.admit("c"), LeaveOut)


def test_of_a_kind_of_unknown_pace_one_measures_it(plan: Study) -> None:
    case = Case(plan, budget=1.0)
    assert case.admit("d") == Start("expected: nobody knows how much")
    assert case.admit("e", "d") == Wait("its pace is not known; one/d of its kind tells it after an epoch")
    assert isinstance(case.admit("a", "d"), Start)  # another encoder
    case.run("d", 1, 180.0)  # 10 epochs: .5 h; d keeps .45, e costs .5: .05 + .45 + .5 = 1
    assert isinstance(case.admit("e", "d"), Start)
    case.run("d", 1, 190.0)
    assert isinstance(case.admit("e", "d"), Wait)
    case.run("d", 10, 3600.0, "finished")  # all is spent: not even one of unknown pace starts
    assert case.admit("a") == LeaveOut("would cost nobody knows how much, and 1.00 of 1 GPU-h are spent")


def test_edited_settings_give_nothing_back(plan: Study) -> None:
    a = next(iter(plan.phases[0].experiments)).trials[0]
    gone = replace(past(a, 10, 3600.0, "finished"), digest="f" * 16)
    other = replace(past(a, 10, 3600.0, "finished", phase="another"), digest="e" * 16)
    assert Case(plan, gone, other, budget=5).allowance.spent_h() == pytest.approx(1.0)


def test_nothing_starts_that_cannot_end_before_the_deadline(plan: Study) -> None:
    a = next(iter(plan.phases[0].experiments)).trials[0]
    case = Case(plan, past(a, 10, 3600.0, "finished"), deadline="2026-11-23T13:15+00:00")
    assert isinstance(case.admit("b"), Start)  # an hour, and 75 minutes are left
    case.now = NOON + timedelta(minutes=16)
    assert case.admit("b") == LeaveOut(
        "would take 1:00:00 (10 epochs of 360.0 s, by like trainings), and 0:59:00 are left before the deadline "
        "2026-11-23T13:15+00:00"
    )
    case.run("b", 1, 360.0)  # it goes on from epoch 2: 54 minutes
    assert isinstance(case.admit("b"), Start)
    assert isinstance(case.admit("wide"), LeaveOut)  # 2 GPU-h on two workers are an hour
    assert isinstance(case.admit("d"), Start)  # nobody knows
    case.now = NOON + timedelta(minutes=75)
    assert case.admit("d") == LeaveOut("the deadline 2026-11-23T13:15+00:00 has passed")


def test_a_sweep_pays_for_what_asha_leaves_but_must_be_able_to_end(plan: Study) -> None:
    a, b = (item.trials[0] for item in plan.phases[0].experiments[:2])
    sweep = Experiment("s", "one", "", 1, tuple(replace(b, digest=f"{n:016x}") for n in range(8)), Asha(grace=2, eta=2))
    study = replace(plan, phases=(replace(plan.phases[0], experiments=(sweep,)),))
    known = past(a, 10, 3600.0, "finished", phase="another")
    # Of 8: 2 x 8 epochs to rung 2, 4.5 go on to 4, 2.75 to 8, 1.875 to 10 (test_forecast): 39.75 / 8 = 4.97 each.
    allowance = Allowance(replace(study, budget_gpu_h=0.5), [known], None)
    assert allowance.admit(sweep, sweep.trials[0], ()) == Start(
        "expected: 0.50 GPU-h (4.97 epochs of 360.0 s, by like trainings)"
    )
    late = (NOON + timedelta(minutes=59)).isoformat()
    allowance = Allowance(replace(study, deadline=late), [known], None, clock=lambda: NOON)
    assert isinstance(allowance.admit(sweep, sweep.trials[0], ()), LeaveOut)


def test_a_worker_without_a_gpu_counts_as_one(plan: Study) -> None:
    item = plan.phases[0].experiments[3]
    trial = replace(item.trials[0], resources=replace(item.trials[0].resources, gpus=0.0))
    allowance = Allowance(replace(plan, budget_gpu_h=1.0), (), None)
    assert allowance.admit(replace(item, trials=(trial,)), trial, ()) == LeaveOut(
        "would cost 1.50 device-h (10 epochs of 540.0 s, by its author's cost), and 0.00 of 1 device-h are spent"
    )


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    budget=st.integers(1, 60),
    slots=st.integers(1, 4),
)
def test_a_queue_never_spends_more_than_the_budget_and_never_stands_still(
    plan: Study, costs: list[int], budget: int, slots: int
) -> None:
    """Trials of `costs` tenths of an hour, each exactly as dear as its author says, handed out in order."""
    trial = plan.phases[0].experiments[0].trials[0]
    items = [
        Experiment("x", "one", "", 1, (replace(trial, digest=f"{n:016x}"),), cost_gpu_h=cost / 10)
        for n, cost in enumerate(costs)
    ]
    study = replace(plan, phases=(replace(plan.phases[0], experiments=tuple(items)),), budget_gpu_h=budget / 10)
    allowance = Allowance(study, (), None)
    waiting, running, left, spent = list(items), list[Experiment](), list[Experiment](), 0
    while waiting or running:
        found: Admission | None = None
        if waiting and len(running) < slots:
            item = waiting[0]
            found = allowance.admit(item, item.trials[0], [one.trials[0].digest for one in running])
            if not isinstance(found, Wait):
                (running if isinstance(found, Start) else left).append(waiting.pop(0))
                continue
        assert running, "nothing runs and nothing may start"
        ended = running.pop(0)
        spent += round(10 * (ended.cost_gpu_h or 0))
        allowance.saw(past(ended.trials[0], 10, 3600.0 * (ended.cost_gpu_h or 0), "finished"))
    assert spent <= budget
    assert all(spent + round(10 * (item.cost_gpu_h or 0)) > budget or item in left for item in left)
    if sum(costs) <= budget:
        assert not left
