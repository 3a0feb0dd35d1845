"""A gate's question, answered by a command and on a terminal, over a ledger that was filled by hand."""

from __future__ import annotations

import json
import os
import pty
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detector.metrics.cleval import Counts
from orchestrator.__main__ import main
from orchestrator.evaluation.answers import answers
from orchestrator.evaluation.maps import digest_of
from orchestrator.evaluation.review import Review, review
from orchestrator.evaluation.scores import SCORES_FORMAT, ImageScores
from orchestrator.ledger import Ledger
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load
from orchestrator.plan.study import Study
from orchestrator.records import EpochRow
from orchestrator.report.asking import answered, questions
from orchestrator.report.telling import conclusion, faults

PLAN = """\
roadmap: asked
workspace: {workspace}
data: {{synthetic: {{train: 2, val: 8, seed: 1, size: 160}}}}
defaults: {{encoder: resnet18}}
phases:
  - id: one
    target: {{hmean: 0.7}}
    experiments: [{{id: a}}]
    gate: {{pass: hmean(best) >= 0.9, otherwise: ask}}
  - id: two
    needs: [one]
    experiments: [{{id: b, set: {{seed: 1}}}}]
"""
ASKED = "phase one: gate hmean(best) >= 0.9: failed (0.8000 >= 0.9000)"


class Home:
    """A plan whose one trained model has scored some H on each of 8 pages."""

    def __init__(self, folder: Path) -> None:
        self.plan = folder / "plan.yaml"
        self.plan.write_text(PLAN.format(workspace=folder / "w"))
        self.study: Study = expand(load(self.plan))
        self.ledger = Ledger.open(self.study.workspace)
        trial = self.study.phases[0].experiments[0].trials[0]
        self.ledger.register(trial)
        self.ledger.append_epoch(trial.digest, EpochRow(1, {"hmean": 0.8}, 1.0, 1, True))
        self.ledger.set_state(trial.digest, "finished", "budget")
        self.score(0.8)

    def score(self, hmean: float) -> None:
        assert self.study.datasets is not None
        pages = self.study.datasets.val
        counts = tuple(Counts(chars_gt=1000, chars_det=1000, chars_hit=round(1000 * hmean)) for _ in pages)
        found = ImageScores(tuple(page.name for page in pages), counts)
        trial = self.study.phases[0].experiments[0].trials[0]
        self.ledger.put_scores(trial.digest, f"val-{digest_of(pages)}-competition-{SCORES_FORMAT}", found.as_json())

    def review(self) -> Review:
        return review(self.study, self.ledger, frozenset({"one", "two"}))

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.study.workspace / "journal.jsonl").read_text().splitlines()
        return [event for line in lines if (event := json.loads(line))["kind"] == kind]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_the_run_names_the_command_and_the_answer_is_kept(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    state = home.review()
    assert (state.left, state.waiting) == ((), ("two",))
    assert faults(state, home.ledger, None) == [ASKED, "phase two waits for a gate that did not pass"]
    told = conclusion(state, home.ledger, None, [Path("report.html")], None, ["seed=0"])
    how = f"python -m orchestrator answer {home.plan} one go-on|stop --because TEXT --set seed=0"
    assert f"? shall two run all the same?  {how}" in told
    assert questions(state, frozenset({"one.a"})) == []  # `--only a`: nobody waits

    assert main(["answer", str(home.plan), "one", "stop", "--because", "too <weak>"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{ASKED}; answered stop by ") and out.endswith(": too <weak>\n")
    state = home.review()
    assert state.left == () and state.waiting == ("two",) and questions(state) == []
    assert ": too <weak>" in faults(state, home.ledger, None)[0]
    assert "waits for a gate that did not pass (answered stop by " in (home.study.workspace / "report.md").read_text()

    assert main(["answer", str(home.plan), "one", "go-on"]) == 0
    assert f"Go on with: python -m orchestrator {home.plan}\n" in capsys.readouterr().out
    state = home.review()
    assert (state.left, state.waiting) == (("two/b",), ())
    assert [line for line in faults(state, home.ledger, None) if "phase one" in line] == []
    assert [answer.word for answer in answers(home.study.workspace, "one")] == ["stop", "go-on"]
    decisions = [event["decision"] for event in home.events("decision")]
    assert [decision["gate"]["answer"]["word"] for decision in decisions] == ["stop", "go-on"]
    assert {decision["state"] for decision in decisions} == {"failed"}


def test_other_numbers_are_asked_about_again(home: Home) -> None:
    assert main(["answer", str(home.plan), "one", "go-on"]) == 0
    assert home.review().waiting == ()
    home.score(0.81)
    state = home.review()
    assert state.waiting == ("two",) and len(questions(state)) == 1
    home.score(0.95)
    assert home.review().waiting == () and faults(home.review(), home.ledger, frozenset()) == []


def test_a_failed_target_ends_a_run_with_1(home: Home) -> None:
    home.score(0.6)  # on all 8 pages: the interval is [.6, .6]
    assert faults(home.review(), home.ledger, None)[0] == (
        "phase one: target hmean >= 0.7000: failed (0.6000 [0.6000, 0.6000] on 8 images)"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["on", "stop"], "there is no phase `on`; did you mean `one`?"),
        (["two", "stop"], "phase `two` has not run: it waits for another gate; answer that one first"),
        (["one", "stop", "--set", "one.gate=null"], "phase `one` asks nothing (it has no gate); nothing was recorded"),
        (
            ["one", "stop", "--set", "one.gate.pass=best >= 0.5"],
            "phase `one` asks nothing (gate best >= 0.5: passed (0.8000 >= 0.5000); otherwise: ask); nothing was "
            "recorded",
        ),
        (
            ["one", "go-on", "--set", "one.gate.otherwise=stop"],
            "phase `one` asks nothing (gate hmean(best) >= 0.9: failed (0.8000 >= 0.9000); otherwise: stop); nothing "
            "was recorded",
        ),
    ],
)
def test_what_was_not_asked_is_not_answered(
    home: Home, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["answer", str(home.plan), *words]) == 2
    assert capsys.readouterr().err == f"{home.plan}: {message}\n"
    assert not (home.study.workspace / "answers").exists()


def test_on_a_terminal_the_question_is_put_there(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    for typed, goes_on, kept in (
        ("later\n", False, 0),
        ("perhaps\nSTOP\nit is late\n", False, 1),
        ("go-on\n\n", True, 1),
        ("\x04", False, 0),  # Ctrl-D
    ):
        state = replace(home.review())
        ours, theirs = pty.openpty()
        os.write(ours, typed.encode())
        with (
            os.fdopen(theirs, "r", closefd=False) as reads,
            os.fdopen(theirs, "w") as writes,
            monkeypatch.context() as p,
        ):
            p.setattr("sys.stdin", reads)
            p.setattr("sys.stdout", writes)
            assert answered(state, home.ledger, None, told.append) is goes_on
        os.close(ours)
        assert len(answers(home.study.workspace, "one")) == kept
        if kept:
            (home.study.workspace / "answers" / "one.json").unlink()
    assert told == [f"{ASKED}\ntwo: not run yet"] * 4
    # Without a terminal nobody is asked, but an answer that came meanwhile counts.
    state = home.review()
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123
    assert not answered(state, home.ledger, None, told.append)
    assert main(["answer", str(home.plan), "one", "go-on"]) == 0
    assert answered(state, home.ledger, None, told.append)


def test_a_damaged_answer_says_so(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    path = home.study.workspace / "answers" / "one.json"
    path.parent.mkdir()
    path.write_text('[{"word": "yes"}]')
    assert main(["report", str(home.plan)]) == 2
    assert f"{path}: not an answer: {{'word': 'yes'}}; remove the file to be asked again" in capsys.readouterr().err


def test_beside_a_running_driver_the_answer_is_left_to_it(home: Home) -> None:
    with home.ledger.drive():
        assert main(["answer", str(home.plan), "one", "go-on", "--because", "seen"]) == 0
    assert not (home.study.workspace / "journal.jsonl").exists()
    assert home.review().decisions[0].as_json()["gate"]["answer"]["because"] == "seen"
