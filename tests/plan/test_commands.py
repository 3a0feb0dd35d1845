"""The command line: exit codes, one clear message, JSON for machines, and no heavy import where none is needed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detector.config import Config
from orchestrator.__main__ import main
from orchestrator.ledger import Ledger
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load
from orchestrator.records import EpochRow

ROOT = Path(__file__).resolve().parents[2]
PLAN = """\
roadmap: r
workspace: {workspace}
data: {{synthetic: {{train: 2, val: 1, seed: 1, size: 160}}, folds: {{k: 2}}}}
defaults: {{encoder: resnet18}}
phases:
  - id: one
    target: {{hmean: 0.9}}
    experiments:
      - {{id: a, what: the baseline, cost: 30min}}
      - {{id: b, set: {{workers: 2}}, expect: {{hmean: +0.001}}}}
      - {{id: c, from: "top(one, 1)", folds: all, seeds: [1, 2]}}
      - {{id: t, thresholds: {{of: c, thresh: 0.2..0.4}}}}
      - {{id: e, ensemble: {{pool: "top(all, 3)"}}}}
"""


@pytest.fixture
def plan_path(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.format(workspace=tmp_path / "w"))
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_an_unknown_command_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "chek", "x.yaml") == (
        2,
        "",
        "chek: neither a command nor a plan file; did you mean `check`?\n",
    )


def test_no_words_are_answered_with_help_and_a_tip(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys)
    assert code == 0
    assert "Tip: begin with `python -m orchestrator check plans/quickstart.yaml`" in out


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["runs"], ["report"], ["ui"], ["sync"]])
def test_a_wrong_plan_ends_every_command_with_2_and_its_faults(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "roadmap: r\ndata: {synthetic: {train: 2, val: 1}}\nphases: [{id: one, experiments: [{id: a, shet: 1}]}]\n"
    )
    code, out, err = answer(capsys, *command, path)
    assert (code, out) == (2, "")
    assert err == f"{path}:3:42: phases[0].experiments[0].shet: unknown key `shet`; did you mean `set`?\n"


def test_check_before_the_data_is_there(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(capsys, "check", plan_path)
    assert code == 0
    assert "digests are provisional" in out
    assert "4 trials: top(one, 1) x 2 folds x 2 seeds" in out
    assert "5 rules on c" in out
    assert "up to 6 members of top(all, 3); views identity; 1 rule" in out
    assert (
        "6 trials (2 new, 4 waiting), at most 40 epochs known now; 0.5 GPU-h by their authors (2 without a cost)" in out
    )
    assert "will hold the validation images" in out
    assert not (plan_path.parent / "w").exists()


def test_check_and_runs_know_the_ledger(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = expand(load(plan_path))
    trial, other = (e.trials[0] for e in study.phases[0].experiments[:2])
    ledger = Ledger.open(study.workspace)
    ledger.register(trial)
    ledger.append_epoch(
        trial.digest, EpochRow(1, {"hmean": 0.5, "precision": 0.6, "recall": float("nan")}, 2.0, 1, True)
    )
    ledger.set_state(trial.digest, "finished", "budget")
    checked = json.loads(answer(capsys, "check", plan_path, "--json")[1])
    assert checked["provisional"] is False
    assert checked["data"]["train"] == 2
    assert [(row["name"], row["digest"], row["state"]) for row in checked["trials"]] == [
        ("one/a", trial.digest, "finished"),
        ("one/b", other.digest, "new"),
        *((f"one/c-fold{fold}-seed{seed}", None, "waiting") for fold in (0, 1) for seed in (1, 2)),
    ]
    assert checked["trials"][1]["settings"] == {"workers": 2}
    listed = json.loads(answer(capsys, "runs", plan_path, "--json")[1])
    assert [(r["experiment"], r["digest"], r["state"], r["epochs"], r["best"], r["seconds"]) for r in listed] == [
        ("a", trial.digest, "finished", 1, {"hmean": 0.5, "precision": 0.6, "recall": None}, 2.0),
        ("b", other.digest, "queued", 0, None, 0.0),
    ]
    assert "0.5000" in answer(capsys, "runs", plan_path)[1]


def test_only_and_set_reach_check(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = json.loads(answer(capsys, "check", plan_path, "--json", "--only", "a", "--set", "one.a.max_epochs=3")[1])
    assert [(row["name"], row["epochs"]) for row in out["trials"]] == [("one/a", 3)]


def test_score_prints_what_machines_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = [[10, 10], [90, 10], [90, 30], [10, 30]]
    truth, found = tmp_path / "truth.json", tmp_path / "found.csv"
    truth.write_text(json.dumps({"images": {"p.jpg": {"words": {"0001": {"points": box}}}}}))
    found.write_text("filename,polygons\np.jpg,10 10 90 10 90 30 10 30\n")
    for variant in ("competition", "official"):
        code, out, _ = answer(capsys, "score", found, truth, "--variant", variant, "--json")
        result = json.loads(out)
        assert (code, result["variant"]) == (0, variant)
        assert result["macro"] == result["micro"] == result["iou"] == {"recall": 1.0, "precision": 1.0, "hmean": 1.0}
        assert result["images"]["p.jpg"]["hmean"] == 1.0
    assert "CLEval macro" in answer(capsys, "score", found, truth)[1]
    code, out, err = answer(capsys, "score", tmp_path / "nowhere.csv", truth)
    assert (code, out) == (2, "") and "nowhere.csv" in err and "Traceback" not in err


def test_data_is_made_checked_and_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("data", "synth", tmp_path / "d", "--count", 2, "--size", 160, "--seed", 5)
    assert answer(capsys, *words)[0] == 0
    assert answer(capsys, *words)[0] == 2
    assert answer(capsys, *words, "--force")[0] == 0
    code, out, _ = answer(capsys, "data", "check", tmp_path / "d", "--json")
    assert code == 0 and json.loads(out)["parts"][0]["pages"] == 2


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(answer(capsys, "schema")[1])["title"] == "Plan"


def test_predict_writes_both_forms_and_never_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from detector import checkpoint
    from detector.model.detector import build

    config = Config(
        encoder="mobilenetv3_small_050", encoder_weights="none", inner_channels=16, output_channels=8, image_size=64
    )
    checkpoint.save(tmp_path / "model", build(config), config, {})
    main(["data", "synth", str(tmp_path / "d"), "--count", "2", "--size", "160"])
    images, names = tmp_path / "d" / "images", ["page_00000.jpg", "page_00001.jpg"]
    code, _, err = answer(capsys, "predict", tmp_path / "model", images, "-o", tmp_path / "x.csv", "--device", "cpu")
    assert code == 0, err
    assert [line.split(",")[0] for line in (tmp_path / "x.csv").read_text().splitlines()] == ["filename", *names]
    code, _, err = answer(capsys, "predict", tmp_path / "model", images, "-o", tmp_path / "x.csv")
    assert code == 2 and "--force" in err
    page = images / names[1]
    assert answer(capsys, "predict", tmp_path / "model", page, "-o", tmp_path / "y.json", "--device", "cpu")[0] == 0
    assert list(json.loads((tmp_path / "y.json").read_text())["images"]) == [names[1]]
    for wrong, hint in ((["nowhere"], "no such file"), ([images, page], "twice")):
        code, _, err = answer(capsys, "predict", tmp_path / "model", *wrong, "-o", tmp_path / "z.csv")
        assert code == 2 and hint in err
    code, _, err = answer(capsys, "predict", "champion", images, "-o", tmp_path / "z.csv")
    assert code == 2 and "--plan" in err


def test_an_interruption_is_one_line(
    plan_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.plan.preview.text", lambda *_: interrupted(None))
    assert answer(capsys, "check", plan_path) == (130, "", "interrupted; the same command carries on\n")


LOADED = """
import sys
from orchestrator.__main__ import main
code = main(sys.argv[1:])
print(code, sorted({"torch", "ray", "mlflow", "optuna"} & set(sys.modules)), file=sys.stderr)
"""


def test_looking_loads_neither_torch_nor_ray_nor_mlflow(plan_path: Path, tmp_path: Path) -> None:
    expand(load(plan_path))  # with data, so that the path through the formats and the ledger is the one that is timed
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"images": {"p.jpg": {"words": {"0001": {"points": [[0, 0], [9, 0], [9, 9]]}}}}}))
    looks = (["check", plan_path], ["runs", plan_path], ["explain", plan_path, "b"], ["diff", plan_path, plan_path])
    for words in (*looks, ["schema"], ["score", truth, truth]):
        done = subprocess.run(
            [sys.executable, "-c", LOADED, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stderr.splitlines()[-1] == "0 []", (words, done.stderr)


def test_a_reader_that_leaves_early_is_no_error(plan_path: Path) -> None:
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m orchestrator schema | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_a_thousand_trials_are_checked_in_two_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "big.yaml"
    sweeps = "\n".join(
        f"      - {{id: s{i}, set: {{seed: {i}}}, sweep: {{trials: 100, space: "
        '{optimizer.lr: "loguniform(1e-4, 1e-2)"}}}'
        for i in range(10)
    )
    path.write_text(
        f"roadmap: r\ndata: {{synthetic: {{train: 2, val: 1}}}}\nphases:\n  - id: one\n    experiments:\n{sweeps}\n"
    )
    started_s = time.process_time()
    study = expand(load(path), require_data=False)
    assert len({t.digest for e in study.phases[0].experiments for t in e.trials}) == 1000
    assert time.process_time() - started_s < 2.0
    # The whole command, with data that is there and a ledger that knows every trial.
    monkeypatch.setenv("ORCHESTRATOR_WORKSPACE", str(tmp_path / "w"))
    study = expand(load(path))
    ledger = Ledger.open(study.workspace)
    for item in study.phases[0].experiments:
        for trial in item.trials:
            ledger.register(trial)
    started_s = time.process_time()
    code, out, _ = answer(capsys, "check", path, "--json")
    assert time.process_time() - started_s < 2.0
    told = json.loads(out)
    assert code == 0 and len(told["trials"]) == 1000 and told["preflight"]["sizes"]["train"]["files"] == 2
    assert {row["state"] for row in told["trials"]} == {"queued"}
