"""Every plan in tests/plans/doubtful is allowed, with exactly the warnings beside it.

Those in tests/plans/doubtful/pictures come with a file that says which pictures lie where: `part -> name -> shade`. An
equal shade is an equal picture; in .png and .bmp it is the same picture in other bytes. `folds` and `words` may follow.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

from orchestrator.__main__ import main
from orchestrator.evaluation.scatter import RHO, SD, STATS, Scatter
from orchestrator.plan.advice import faint
from orchestrator.plan.expand import expand
from orchestrator.plan.forecast import forecast
from orchestrator.plan.limits import limits
from orchestrator.plan.loading import load

DOUBTFUL = Path(__file__).resolve().parents[1] / "plans" / "doubtful"
PICTURES = DOUBTFUL / "pictures"
# What `check` would compute without scores in the ledger: 2.80 x .03 x sqrt(.6 / 404) = .0032.
IMAGES, SMALLEST = 404, dict.fromkeys(STATS, Scatter(SD, RHO, 0).smallest(404))
NOW = datetime.fromisoformat("2026-11-23T12:00+00:00")
GPUS = (1, 8)


def warnings(name: str) -> str:
    plan = load(f"{name}.yaml")
    study = expand(plan, require_data=False)
    doubts = [*faint(plan, IMAGES, SMALLEST), *limits(plan, study, forecast(study, (), GPUS, NOW), NOW)]
    return "\n".join([*study.warnings, *doubts])


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


@pytest.mark.parametrize("name", names(DOUBTFUL))
def test_doubtful_plan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOUBTFUL)
    assert warnings(name) == (DOUBTFUL / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def draw(listed: Path, folder: Path) -> None:
    """The pictures of a plan, with a word on each and what its file adds."""
    value = json.loads(listed.read_text())
    words = value.get("words", {})
    for part in ("train", "val", "test"):
        (folder / part).mkdir()
        for name, shade in value[part].items():
            Image.new("RGB", (32, 24), (shade, 0, 0)).save(folder / part / name)
        word = {"0001": {"points": [[1, 1], [20, 1], [20, 9], [1, 9]]}}
        images = {name: {"words": word | words.get(name, {})} for name in value[part]}
        (folder / f"{part}.json").write_text(json.dumps({"images": images}))
    rows = [f"{name},{fold}" for name, fold in value.get("folds", {}).items()]
    (folder / "folds.csv").write_text("\n".join(["image,fold", *rows, ""]))


@pytest.mark.parametrize("name", names(PICTURES))
def test_doubtful_pictures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(PICTURES / f"{name}.json", tmp_path)
    shutil.copy(PICTURES / f"{name}.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_WORKSPACE", str(tmp_path / "w"))
    expected = (PICTURES / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert main(["check", f"{name}.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == expected
    assert main(["check", f"{name}.yaml"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {line}\n" in told for line in expected)


def test_every_warning_belongs_to_a_plan() -> None:
    for folder in (DOUBTFUL, PICTURES):
        assert {path.stem for path in folder.glob("*.txt")} == set(names(folder))
    assert {path.stem for path in PICTURES.glob("*.json")} == set(names(PICTURES))
