"""The whole path on the smallest of plans, through the command line: interrupted, carried on, and then left alone.

The networks are untrained but for two epochs on six pages, so all scores are 0; what is tested is what runs, when, and
what is left in the workspace.
"""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLAN = """
roadmap: tiny
data:
  synthetic: {{train: 6, val: 4, test: 2, size: 192}}
defaults:
  encoder: mobilenetv3_small_050
  encoder_weights: none
  inner_channels: 16
  output_channels: 16
  image_size: 192
  batch_size: 2
  max_epochs: 2
phases:
  - id: one
    what: first steps
    experiments:
      - {{id: baseline, what: as it is}}
      - {{id: fast, what: a higher rate, set: {{optimizer: {{lr: 0.003}}}}, expect: {{hmean: +0.001..+0.5}}}}
      - {{id: again, what: another seed, from: "top(one, 1)", seeds: [7]}}
      - {{id: rules, thresholds: {{of: fast, thresh: [0.2, 0.3], box_thresh: [0.3, 0.5]}}}}
      - {{id: both, ensemble: {{pool: "top(all, 3)", max_members: 2, thresh: [0.2, 0.3], box_thresh: [0.3]}}}}
      - {{id: turned, ensemble: {{pool: "top(one, 1)", views: [identity, hflip], thresh: [0.2, 0.3]}}}}
{more}
"""
GATE = """
    gate: {{pass: hmean(best) >= 0.9, otherwise: {otherwise}}}
  - id: two
    needs: [one]
    experiments: [{{id: later, ensemble: {{pool: "top(one, 2)", thresh: [0.3]}}}}]
"""
# A finished plan needs neither Ray nor torch nor MLflow: importing one of them ends this program.
BARRED = "import sys; sys.modules.update(ray=None, torch=None, mlflow=None); import orchestrator.__main__ as m; "


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.yaml").write_text(PLAN.format(more=""))
    return folder


def environment(home: Path) -> Mapping[str, str]:
    taken = {"ORCHESTRATOR_WORKSPACE": str(home / "w"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))} | taken


def command(home: Path, *words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-c", f"{code}sys.exit(m.main(sys.argv[1:]))"] if code else ["-m", "orchestrator"]
    return subprocess.run(
        [sys.executable, *start, *words], cwd=home, env=environment(home), capture_output=True, text=True, timeout=240
    )


def states(home: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (home / "w" / "tiny").glob("trials/*/state.json")}


def test_a_plan_is_interrupted_carried_on_and_finished(home: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "tiny.yaml"],
        cwd=home,
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    journal, until = home / "w" / "tiny" / "journal.jsonl", time.monotonic() + 120
    while not (journal.exists() and "trial_started" in journal.read_text()):
        assert first.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    told, _ = first.communicate(timeout=120)
    assert first.returncode == 130, told
    assert "Go on with: python -m orchestrator tiny.yaml" in told

    done = command(home, "tiny.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    workspace = home / "w" / "tiny"
    assert [json.loads(state)["state"] for state in states(home).values()] == ["finished"] * 3
    rows = (workspace / "ensembles" / "one-both" / "submission.csv").read_text().splitlines()
    assert rows[0] == "filename,polygons" and len(rows) == 3
    assert_bundle_gives_its_submission(home, workspace)
    assert json.loads((workspace / "champion.json").read_text())["kind"] == "single"  # no gain, no ensemble
    report = (workspace / "report.md").read_text()
    # both score 0, but on 4 pages, which show nothing
    assert "| fast: a higher rate | hmean +0.0010..+0.5000 | 0.0000 |" in report
    assert "4 images cannot show a difference; at least 8 are needed | undecided |" in report
    assert len(list(workspace.glob("trials/*/pictures/*.jpg"))) == 9
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    kinds = [event["kind"] for event in events]
    assert kinds.count("trial_ended") == 3 and kinds.count("decision") == 1 and kinds.count("ensemble") == 3
    assert "| hflip | +0.0000 " in report and "does not pay for its time, leave it out" in report
    assert "one/turned: not recommended; H against" in done.stdout and " without views: +0.0000" in done.stdout
    assert "views that do not pay for their time: hflip" in done.stdout
    assert (workspace / "ensembles" / "one-turned" / "submission.csv").exists()
    assert not list((workspace / "maps").glob("scored-*"))
    assert [event["state"] for event in events if event["kind"] == "finished"] == ["interrupted", "done"]


def assert_bundle_gives_its_submission(home: Path, workspace: Path) -> None:
    """A fresh process that has neither Ray nor MLflow, the bundle alone and moved: the same file, byte for byte."""
    shutil.copytree(workspace / "ensembles" / "one-both", home / "bundle")
    (home / "bundle" / "submission.csv").unlink()
    (images,) = workspace.glob("data/*/test/images")
    barred = BARRED.replace("torch=None, ", "")
    found = command(home, "predict", "bundle", str(images), "-o", "again.csv", "--device", "cpu", code=barred)
    assert "2 pages" in found.stdout, found.stdout + found.stderr
    assert (home / "again.csv").read_bytes() == (workspace / "ensembles" / "one-both" / "submission.csv").read_bytes()


def test_a_finished_plan_starts_nothing(home: Path) -> None:
    before = states(home)
    again = command(home, "tiny.yaml", code=BARRED)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing left to do" in again.stdout and "submission" in again.stdout
    assert states(home) == before


ASKED = "phase one: gate hmean(best) >= 0.9: failed (0.0000 >= 0.9000)"


def test_a_gate_that_does_not_pass_holds_what_needs_it(home: Path) -> None:
    (home / "stop.yaml").write_text(PLAN.format(more=GATE.format(otherwise="stop")))
    found = command(home, "stop.yaml", code=BARRED)
    assert found.returncode == 1, found.stdout + found.stderr
    assert f"! {ASKED}\n! phase two waits" in found.stdout and "answer" not in found.stdout
    refused = command(home, "answer", "stop.yaml", "one", "go-on", code=BARRED)
    assert refused.returncode == 2 and "phase `one` asks nothing" in refused.stderr
    assert "otherwise: stop); nothing was recorded" in refused.stderr


def test_a_question_is_answered_by_a_command_and_the_next_run_heeds_it(home: Path) -> None:
    (home / "ask.yaml").write_text(PLAN.format(more=GATE.format(otherwise="ask")))
    found = command(home, "ask.yaml", code=BARRED)
    assert found.returncode == 1, found.stdout + found.stderr
    how = "python -m orchestrator answer ask.yaml one go-on|stop --because TEXT"
    assert f"! {ASKED}\n! phase two waits" in found.stdout and f"? shall two run all the same?  {how}" in found.stdout

    slip = command(home, "answer", "ask.yaml", "on", "go-on", code=BARRED)
    assert (slip.returncode, slip.stderr) == (2, "ask.yaml: there is no phase `on`; did you mean `one`?\n")
    early = command(home, "answer", "ask.yaml", "two", "go-on", code=BARRED)
    assert early.returncode == 2 and "it waits for another gate" in early.stderr
    done = command(home, "answer", "ask.yaml", "one", "stop", "--because", "too weak", code=BARRED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{ASKED}; answered stop by ") and ": too weak\n" in done.stdout
    held = command(home, "ask.yaml", code=BARRED)
    assert held.returncode == 1 and ": too weak\n! phase two waits" in held.stdout and "? shall" not in held.stdout
    workspace = home / "w" / "tiny"
    report = (workspace / "report.md").read_text()
    assert "Phase two: waits for a gate that did not pass (answered stop by " in report
    events = [json.loads(line) for line in (workspace / "journal.jsonl").read_text().splitlines()]
    told = [event["decision"] for event in events if event["kind"] == "decision"]
    assert told[-1]["gate"]["answer"]["because"] == "too weak" and told[-1]["state"] == "failed"

    # A stricter gate has other numbers: nobody has answered that one.
    stricter = command(home, "ask.yaml", "--set", "one.gate.pass=hmean(best) >= 0.95", code=BARRED)
    assert stricter.returncode == 1 and "--set 'one.gate.pass=hmean(best) >= 0.95'" in stricter.stdout


def test_on_a_terminal_the_question_is_put_there(home: Path) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "ask.yaml", "--set", "one.gate.pass=best >= 0.9"],
        cwd=home,
        env={**environment(home), "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    told, until = "", time.monotonic() + 120
    replies = iter(
        [("or later: ", "perhaps\n"), ("or later: ", "go-on\n"), ("may be empty): ", "a test\n"), ("\0", "")]
    )
    prompt, reply = next(replies)
    while running.poll() is None or select.select([ours], [], [], 0)[0]:
        assert time.monotonic() < until, told
        if not select.select([ours], [], [], 0.2)[0]:
            continue
        try:
            told += os.read(ours, 4096).decode("utf-8", "replace")
        except OSError:  # the other end is closed
            break
        if told.rstrip("\r\n").endswith(prompt):
            os.write(ours, reply.encode())
            told += " "
            prompt, reply = next(replies)
    assert running.wait(30) == 0, told
    assert "phase one: gate best >= 0.9: failed (0.0000 >= 0.9000)" in told and "two: not run yet" in told
    assert ": a test" in told and "phase two: best" in told
    again = command(home, "ask.yaml", "--set", "one.gate.pass=best >= 0.9", code=BARRED)
    assert again.returncode == 0 and "answered go-on by " in again.stdout, again.stdout
