"""The `score` command's values: the JSON's shape, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detector.errors import DataError
from detector.metrics.report import score_files, score_set
from detector.types import Float64, Word


def box(x0: float, y0: float, x1: float, y1: float) -> Float64:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


PAGES = {"a.jpg": (Word("1", box(0, 0, 80, 20)),), "b.jpg": (Word("1", box(0, 0, 80, 20)),), "c.jpg": ()}
FOUND = {"a.jpg": (box(0, 0, 80, 20),), "b.jpg": (), "c.jpg": ()}


def write(folder: Path, rows: str) -> tuple[Path, Path]:
    words = {"0001": {"points": box(0, 0, 80, 20).tolist()}}
    images = {name: {"words": words if PAGES[name] else {}} for name in PAGES}
    annotations, submission = folder / "gt.json", folder / "submission.csv"
    annotations.write_text(json.dumps({"images": images}), encoding="utf-8")
    submission.write_text("filename,polygons\n" + rows, encoding="utf-8")
    return submission, annotations


def test_json_has_the_form_of_the_score_command() -> None:
    result = score_set(PAGES, FOUND).as_json()
    third = {"recall": pytest.approx(1 / 3), "precision": pytest.approx(1 / 3), "hmean": pytest.approx(1 / 3)}
    half = {"recall": 0.5, "precision": 1.0, "hmean": pytest.approx(2 / 3)}
    assert {key: result[key] for key in ("variant", "macro", "micro", "iou")} == {
        "variant": "competition",
        "macro": third,  # image a is perfect; b without detections and c without words score 0
        "micro": half,  # 4 of 8 characters, 4 of 4 detected
        "iou": half,
    }
    assert list(result["images"]) == ["a.jpg", "b.jpg", "c.jpg"]
    assert result["images"]["a.jpg"] == {
        "recall": 1.0,
        "precision": 1.0,
        "hmean": 1.0,
        "chars_gt": 4,
        "chars_det": 4,
        "chars_fp": 0,
        "chars_hit": 4,
        "gran_recall": 0,
        "gran_precision": 0,
        "splits": 0,
        "merges": 0,
        "overlaps": 0,
        "iou": {"recall": 1.0, "precision": 1.0, "hmean": 1.0, "gt": 1, "det": 1, "matched": 1},
    }
    assert json.loads(json.dumps(result)) == result


def test_files_are_scored_from_both_forms(tmp_path: Path) -> None:
    submission, annotations = write(tmp_path, "a.jpg,0 0 80 0 80 20 0 20\nb.jpg,\nc.jpg,\n")
    assert score_files(submission, annotations).as_json() == score_set(PAGES, FOUND).as_json()
    perfect = score_files(annotations, annotations, "official")
    assert (perfect.micro.hmean, perfect.iou.hmean, perfect.variant) == (1.0, 1.0, "official")


def test_a_file_without_predictions_is_named() -> None:
    with pytest.raises(DataError, match=r"predictions: no predictions for b\.jpg; every image needs an entry"):
        score_set(PAGES, {"a.jpg": (), "c.jpg": ()})
    many = {f"{k}.jpg": () for k in range(9)}
    with pytest.raises(DataError, match=r"0\.jpg, 1\.jpg, 2\.jpg, 3\.jpg, 4\.jpg \(4 more\)"):
        score_set(many, {})


def test_a_file_that_the_ground_truth_does_not_list_is_named(tmp_path: Path) -> None:
    submission, annotations = write(tmp_path, "a.jpg,\nb.jpg,\nc.jpg,\nd%s.jpg,\n")
    with pytest.raises(DataError, match=r"submission\.csv: the ground truth does not list d%s\.jpg; score against"):
        score_files(submission, annotations)


def test_an_empty_ground_truth_is_refused() -> None:
    with pytest.raises(DataError, match="lists no images"):
        score_set({}, {})


def test_scoring_loads_no_torch_ray_or_mlflow(tmp_path: Path) -> None:
    submission, annotations = write(tmp_path, "a.jpg,0 0 80 0 80 20 0 20\nb.jpg,\nc.jpg,\n")
    code = (
        "import sys; from pathlib import Path; from detector.metrics.report import score_files\n"
        "assert 'numba' not in sys.modules\n"
        f"score_files(Path({str(submission)!r}), Path({str(annotations)!r}))\n"
        "assert not {'torch', 'ray', 'mlflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
