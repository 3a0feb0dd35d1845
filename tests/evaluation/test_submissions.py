"""What a leaderboard said, kept beside what is known here: the commands on real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detector import checkpoint
from detector.config import Config, Postprocess
from detector.files import write_json
from detector.inference.bundle import save_bundle
from detector.inference.described import describe
from detector.metrics.cleval import Counts
from detector.model.detector import build
from orchestrator.__main__ import main
from orchestrator.evaluation.local import local_of
from orchestrator.evaluation.outoffold import key_of
from orchestrator.evaluation.submitted import file_facts, submissions
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Trial

TINY = Config(
    encoder="test_resnet.r160_in1k",
    encoder_weights="none",
    inner_channels=16,
    output_channels=8,
    image_size=64,
    postprocess=Postprocess(thresh=0.1, box_thresh=0.1),
)
PLAN = """\
roadmap: r
workspace: {home}/w
data:
  train: {{images: {home}/images, annotations: {home}/t.json}}
  val: {{images: {home}/images, annotations: {home}/v.json}}
budget: {{submissions: {{total: 3, per_day: 2, public_images: 50}}}}
phases:
  - id: one
    experiments: [{{id: a, what: the baseline}}]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two finished folds, their scores and a champion; images; a plan with a budget."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "images").mkdir()
    for name, seed in (("a.png", 0), ("b.png", 1), ("c.png", 2)):
        pixels = np.random.default_rng(seed).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
    words = {"0001": {"points": [[1, 1], [30, 1], [30, 12], [1, 12]]}}
    write_json(folder / "t.json", {"images": {"a.png": {"words": words}, "b.png": {"words": words}}})
    write_json(folder / "v.json", {"images": {"c.png": {"words": words}}})
    (folder / "plan.yaml").write_text(PLAN.format(home=folder))
    ledger = Ledger.open(folder / "w")
    with ledger.drive():
        for fold in (0, 1):
            digest = f"{fold:016x}"
            ledger.register(
                Trial(digest, f"one/a-fold{fold}", "one", "a", TINY.model_copy(update={"seed": fold}), fold)
            )
            torch.manual_seed(fold)
            network = build(TINY)
            nn.init.normal_(network.head.prob.out.weight, std=0.5)
            config = TINY.model_copy(update={"seed": fold})
            checkpoint.save(ledger.folder(digest) / "best", network, config, {})
            ledger.set_state(digest, "finished")
            counts = {"c.png": Counts(10, 10, 2, 8), "d.png": Counts(10, 10, 0, 10)}
            ledger.put_scores(digest, "val-x-competition-2", {name: asdict(c) for name, c in counts.items()})
            # out-of-fold: the page that each leaves out
            left_out = {("a.png", "b.png")[fold]: asdict((Counts(10, 10, 1, 9), Counts(10, 10, 3, 7))[fold])}
            ledger.put_scores(digest, key_of([digest], "competition"), left_out)
    save_bundle(folder / "w" / "singles" / "s", [(ledger.folder(f"{0:016x}") / "best", 1.0)])
    champion = {"format": 1, "path": "singles/s", "kind": "single", "name": "one/a", "hmean": 0.9, "precision": 0.9}
    champion |= {"recall": 0.9, "why": "", "images": "x", "plan": "plan.yaml"}
    write_json(folder / "w" / "champion.json", champion)
    return folder


Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    def call(*words: object) -> tuple[int, str, str]:
        try:
            code = main([str(word) for word in words])
        except SystemExit as error:  # argparse's own refusals
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_predict_knows_names_and_add_knows_what_it_made(home: Path, told: Told):
    plan, images = home / "plan.yaml", home / "images"
    for name, out in (("champion", "c.csv"), ("one/a", "folds.csv"), ("one/a-fold1", "fold1.csv")):
        code, text, err = told("predict", name, images, "-o", home / out, "--plan", plan, "--device", "cpu")
        assert code == 0, text + err
    bundle = describe(home / "w" / "bundles" / "one-a")
    assert [weight for _, weight in bundle.members] == [0.5, 0.5]
    code, _, err = told("predict", "one/b", images, "-o", home / "x.csv", "--plan", plan)
    assert code == 2 and "no finished model is called `one/b`; did you mean `one/a`?" in err

    scores = ("--hmean", "0.85", "--precision", "0.9", "--recall", "0.82")
    code, text, err = told("submissions", "add", home / "c.csv", "--plan", plan, *scores, "--note", "the first")
    assert code == 0, err
    # chars: recall (8 + 10) / ... of each image .8 and 1; precision .8 and 1, by the counts; own rule, two images
    local = local_of(home / "w", describe(home / "w" / "singles" / "s").as_json())
    assert local is not None and local.what == "own rule" and len(local.hmean_N) == 2
    assert "#1: public H 0.8500; made by champion (" in text
    assert f"local H {local.hmean:.4f} (own rule), board - local {0.85 - local.hmean:+.4f}" in text
    assert "1 of 3 submissions, 2 left; today 1 of 2" in text
    again = told("submissions", "add", home / "c.csv", "--plan", plan, *scores)
    assert again == (0, "#1: is kept already, with these scores\n", "")
    code, _, err = told("submissions", "add", home / "c.csv", "--plan", plan, "--hmean", 0.8, *scores[2:])
    assert code == 2 and "has a public score already (#1, H 0.8500" in err and "--force" in err
    code, text, _ = told("submissions", "add", home / "c.csv", "--plan", plan, "--private", *scores)
    assert code == 0 and "#2: private" in text and "1 of 3 submissions" in text

    (home / "outside.csv").write_text("filename,polygons\na.png,1 1 9 1 9 9 1 9\nb.png,\nc.png,\n")
    code, text, _ = told("submissions", "add", home / "outside.csv", "--plan", plan, "--hmean", 0.95, *scores[2:])
    assert code == 0 and "no model of this workspace is known to have made this file" in text
    # .9 may be .95 and .82 be .825: 2 x .95 x .825 / 1.775; and .95 is .945 at least
    assert "! H 0.95 lies above 2PR / (P + R) = 0.8831, rounding allowed for" in text

    code, text, _ = told("submissions", "list", plan)
    assert code == 0
    assert "the first" in text and "unknown" in text
    assert "public against local H: n = 1: no ranks to compare" in text and "2 of 3 submissions, 1 left" in text
    value = json.loads(told("submissions", "list", plan, "--json")[1])
    assert [one["hmean"] for one in value["submissions"]] == [0.85, 0.85, 0.95]
    assert value["budget"] == {
        "used": 2, "left": 1, "used_today": 2, "left_today": 0, "total": 3, "per_day": 2, "public_images": 50
    }  # fmt: skip
    code, text, _ = told("submissions", "list", home / "w")
    assert code == 0 and "the plan sets no `budget.submissions`" in text


def test_own_files_are_not_fused(home: Path, told: Told):
    ours, outside = home / "own.csv", home / "outside2.csv"
    code, *_ = told("predict", "champion", home / "images", "-o", ours, "--plan", home / "plan.yaml", "--device", "cpu")
    assert code == 0
    outside.write_text("filename,polygons\na.png,1 1 9 1 9 9 1 9\nb.png,\nc.png,\n")
    lines = ours.read_text().splitlines()
    shuffled = home / "shuffled.csv"
    shuffled.write_text("\r\n".join([lines[0], *reversed(lines[1:])]) + "\r\n")  # other bytes, the same words
    for file in (ours, shuffled):
        code, _, err = told("fuse", outside, file, "-o", home / "f.csv", "--plan", home / "w")
        assert (
            code == 2 and f"{file}: was made by champion (" in err and "fuse maps with an `ensemble:` experiment" in err
        )
    other = home / "outside3.csv"
    other.write_text("filename,polygons\nb.png,\na.png,2 1 9 1 9 9 2 9|20 20 40 20 40 30 20 30\nc.png,\n")
    code, text, err = told("fuse", outside, other, "-o", home / "f.csv", "--plan", home / "w")
    assert code == 0, err
    assert "3 images: 1 of outside2.csv, 2 of outside3.csv -> 1 boxes" in text
    assert (home / "f.csv").read_text() == "filename,polygons\na.png,1 1 9 1 9 9 1 9\nb.png,\nc.png,\n"
    words = ("fuse", outside, other, "-o", home / "f.csv")
    assert told(*words)[0] == 2 and "--force" in told(*words)[2]
    code, text, _ = told(*words, "--force", "--weights", 1, 2)
    assert code == 0 and "-> 2 boxes" in text
    for more, hint in (
        (("--weights", 1), "--weights: one for each of the 2 files, got 1"),
        (("--weights", 1, 0), "`weight > 0` must hold"),
        (("--iou", 0), "`0 < iou <= 1` must hold"),
        (("--votes", 1), "`0 <= votes < 1` must hold"),
    ):
        code, _, err = told(*words, "--force", *more)
        assert code == 2 and hint in err
    (home / "few.csv").write_text("filename,polygons\na.png,\n")
    code, _, err = told("fuse", outside, home / "few.csv", "-o", home / "g.csv")
    assert code == 2 and "few.csv: must have the images of" in err and "b.png is in one alone (2 such images)" in err


def test_submissions_are_checked_by_command(home: Path, told: Told):
    plan, file = home / "plan.yaml", home / "check.csv"
    box = "1 1 30 1 30 12 1 12"
    file.write_text(f"filename,polygons\na.png,{box}\nb.png,{box}\nc.png,{box}\n")
    code, text, err = told("submissions", "check", file, "--images", home / "images", "--plan", plan)
    assert (code, text) == (0, f"{file}: 3 rows for 3 images, 3 boxes: nothing is wrong\n"), err
    file.write_text(f"filename,polygons\na.png,{box}|1 1 99 1 99 12 1 12\nb.png,{box}\n")
    code, text, _ = told("submissions", "check", file, "--images", home / "images")
    assert code == 1 and f"{file}:2: image a.png: polygon 2: 0 <= x <= 90 and 0 <= y <= 70 must hold, got 99 1" in text
    assert "image c.png: every image must have a line" in text and "must not be sent so" in text
    value = json.loads(told("submissions", "check", file, "--images", home / "images", "--json")[1])
    assert value["sound"] is False and {one["rule"] for one in value["findings"]} == {"inside", "missing", "training"}
    assert told("submissions", "check", file)[0] == 2
    assert told("submissions", "check", home / "t.json", "--images", home / "images")[0] == 2
    assert told("submissions", "check", file, "--plan", plan)[0] == 1  # without --images: the plan's test or val pages
    for wrong, hint in (("98.5", "write 0.985"), ("x", "a number in 0..1")):
        code, _, err = told(
            "submissions", "add", file, "--plan", plan, "--hmean", wrong, "--precision", 1, "--recall", 1
        )
        assert code == 2 and hint in err


def test_submissions_reach_the_journal_and_mlflow_once(home: Path, told: Told):
    from orchestrator.tracking.board import Board
    from orchestrator.tracking.events import read_events
    from orchestrator.tracking.journal import Journal

    workspace, plan, file = home / "w", home / "plan.yaml", home / "j.csv"
    file.write_text("filename,polygons\na.png,1 1 9 1 9 9 1 9\nb.png,1 1 9 1 9 9 1 9\nc.png,\n")
    scores = ("--hmean", 0.5, "--precision", 0.6, "--recall", 0.55)
    with Journal(workspace):  # a plan runs
        code, text, _ = told("submissions", "add", file, "--plan", plan, *scores)
        assert code == 0 and "not in the journal yet" in text
    assert told("submissions", "add", file, "--plan", plan, "--private", *scores)[0] == 0
    events = [event for event, _ in read_events(workspace / "journal.jsonl") if event.kind == "submission"]
    assert [event.payload["number"] for event in events] == [one.number for one in submissions(workspace)]
    board = Board()
    for event, _ in read_events(workspace / "journal.jsonl"):
        board.apply(event)
    runs = {run.key: run for run, _, _ in board.take()}
    last = runs[f"submission/{events[-1].key}"]
    assert last.status == "FINISHED" and last.tags["board"] == "private" and last.tags["kind"] == "submission"
    assert last.tags["file_sha256"] == file_facts(file).sha256


def test_a_mean_of_folds_is_held_against_its_out_of_fold_score(home: Path, told: Told):
    from orchestrator.tracking.board import Board
    from orchestrator.tracking.events import read_events
    from orchestrator.tracking.journal import Journal

    workspace, plan, file = home / "w", home / "plan.yaml", home / "mean.csv"
    with Journal(workspace):  # a plan was run here
        pass
    code, text, err = told("predict", "one/a", home / "images", "-o", file, "--plan", plan, "--device", "cpu")
    assert code == 0, text + err
    code, text, err = told(
        "submissions", "add", file, "--plan", plan, "--hmean", 0.85, "--precision", 0.9, "--recall", 0.82
    )
    assert code == 0, err
    # a.png without fold 0: 9 of 10 characters, P = R = .9; b.png without fold 1: 7 of 10. H = (.9 + .7) / 2.
    assert "out-of-fold H 0.8000 (own rule) on 2 training images, board - out-of-fold +0.0500" in text
    text = told("submissions", "list", plan)[1]
    head, *rows = text.splitlines()
    assert head.split()[11:16] == ["oof", "H", "board", "-", "oof"]
    (row,) = [row for row in rows if "one/a" in row]
    assert row.split()[6:10] == ["0.8200", "0.8000", "+0.0500", "one/a"]  # no score on the validation images
    assert "public against out-of-fold H: n = 1: no ranks to compare" in text
    value = json.loads(told("submissions", "list", plan, "--json")[1])
    last = value["submissions"][-1]
    assert (last["local"], last["difference"]) == (None, None)
    assert last["outoffold"]["hmean"] == pytest.approx(0.8) and last["outoffold"]["count"] == 2
    assert "hmean_N" not in last["outoffold"] and last["difference_outoffold"] == pytest.approx(0.05)
    assert value["ranks_outoffold"]["public"]["count"] == 1
    board = Board()
    for event, _ in read_events(workspace / "journal.jsonl"):
        board.apply(event)
    points = {point.name: point.value for point in board.runs[f"submission/{last['number']:06d}"].points}
    assert points["oof_hmean"] == pytest.approx(0.8) and points["leaderboard_minus_oof"] == pytest.approx(0.05)
    assert "local_hmean" not in points and points["leaderboard_recall"] == 0.82
