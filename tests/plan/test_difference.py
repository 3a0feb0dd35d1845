"""`diff`: two plans by the digests of their trainings; and `--skip`, `--from`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.__main__ import main
from orchestrator.errors import PlanError
from orchestrator.ledger import Ledger
from orchestrator.plan.choice import choose
from orchestrator.plan.difference import Difference, difference
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load
from orchestrator.plan.study import Study

PLAN = """\
roadmap: r
workspace: {workspace}
data: {{synthetic: {{train: 2, val: 1, seed: 1, size: 160}}, folds: {{k: 2}}}}
defaults: {{encoder: resnet18}}
phases:
  - id: one
    experiments:
      - {{id: a, cost: 1h}}
      - {{id: b, set: {{batch_size: 2}}, priority: 2}}
      - {{id: c, from: "top(one, 1)", folds: all, priority: 3}}
  - id: two
    needs: [one]
    experiments:
      - {{id: d, set: {{seed: 4}}}}
      - {{id: e, ensemble: {{pool: "top(all, 3)"}}}}
"""


def study(tmp_path: Path, *overrides: str, text: str = PLAN, data: bool = False) -> Study:
    path = tmp_path / "plan.yaml"
    path.write_text(text.format(workspace=tmp_path / "w"))
    return expand(load(path, overrides), require_data=data)


def fates(found: Difference) -> list[tuple[str, str, str]]:
    return [(change.fate, change.name, change.why) for change in found.changes if change.digest or not change.state]


def test_a_plan_differs_in_nothing_from_itself_dressed_anew(tmp_path: Path) -> None:
    old = study(tmp_path)
    new = study(tmp_path, text=PLAN.replace("{{id: a, cost: 1h}}", "{{id: z, what: x, priority: 7, cost: 4h}}"))
    found = difference(old, new, {})
    assert {change.fate for change in found.changes} == {"reused"}
    assert [change.why for change in found.changes if change.name == "one/z"] == ["was one/a"]


def test_a_changed_setting_is_new_dropped_and_named(tmp_path: Path) -> None:
    found = difference(study(tmp_path), study(tmp_path, "b.batch_size=8", "c.folds=[1]"), {})
    assert fates(found) == [
        ("reused", "one/a", ""),
        ("new", "one/b", "batch_size 2 -> 8"),
        ("reused", "two/d", ""),
        ("dropped", "one/b", ""),
        ("new", "one/c", "1 trial: top(one, 1) x 1 folds; was 2 trials: top(one, 1) x 2 folds"),
        ("reused", "two/e", "up to 6 members of top(all, 3); views identity; 1 rule; if its sources are"),
    ]


def test_other_pages_make_all_new_whether_they_are_here_or_not(tmp_path: Path) -> None:
    other = PLAN.replace("seed: 1,", "seed: 2,")
    absent = difference(study(tmp_path), study(tmp_path, text=other), {})
    assert absent.count("reused") == 0 and any("`data` differs" in note for note in absent.notes)
    here = difference(study(tmp_path, data=True), study(tmp_path, text=other, data=True), {})
    assert here.notes == () and {c.fate for c in here.changes if c.digest} == {"new", "dropped"}
    # Test pages change no training.
    same = difference(study(tmp_path), study(tmp_path, text=PLAN.replace("val: 1", "val: 1, test: 3")), {})
    assert {change.fate for change in same.changes} == {"reused"}


def test_the_command_looks_into_the_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = study(tmp_path, data=True)
    trial = found.phases[0].experiments[0].trials[0]
    ledger = Ledger.open(found.workspace)
    ledger.register(trial)
    ledger.set_state(trial.digest, "finished", "budget")
    plan = str(tmp_path / "plan.yaml")
    assert main(["diff", plan, plan, "--set", "b.batch_size=8", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert (out["reused"], out["new"], out["dropped"]) == (4, 1, 1)
    assert (out["changes"][0]["digest"], out["changes"][0]["state"]) == (trial.digest, "finished")
    assert main(["diff", plan, plan]) == 0
    assert capsys.readouterr().out.endswith("5 reused, 0 new, 0 dropped\n")


def test_skip_and_from_choose_in_the_order_of_the_run(tmp_path: Path) -> None:
    found = study(tmp_path)
    assert choose(found, skip=["two"]) == ("one",)
    assert choose(found, skip=["b", "two.e"]) == ("one.a", "one.c", "two.d")
    assert choose(found, start="two") == ("two",)
    assert choose(found, start="b") == ("one.b", "one.c", "two")
    assert choose(found, skip=["c"], start="one.b") == ("one.b", "two")


@pytest.mark.parametrize(
    ("skip", "start", "message"),
    [
        (["tow"], None, "--skip tow: there is no such phase or experiment; did you mean `two`?"),
        ([], "one.f", "--from one.f: there is no such phase or experiment; did you mean `one.c`?"),
        (["two"], "d", "--skip two --from d: leaves nothing of the plan; leave a switch out"),
    ],
)
def test_wrong_choices_say_so(tmp_path: Path, skip: list[str], start: str | None, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        choose(study(tmp_path), skip, start)
    assert str(caught.value) == message


def test_the_switches_reach_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path)
    assert main(["check", str(tmp_path / "plan.yaml"), "--json", "--skip", "b", "--from", "one", "--only", "one"]) == 0
    assert {row["experiment"] for row in json.loads(capsys.readouterr().out)["trials"]} == {"a", "c"}
