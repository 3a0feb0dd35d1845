"""The plans that are shipped: they load, expand, say their question, and the schema beside them is current."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from orchestrator.plan.expand import expand
from orchestrator.plan.json_schema import json_schema
from orchestrator.plan.loading import load
from orchestrator.plan.parsing import parse
from orchestrator.plan.study import Study

PLANS = Path(__file__).resolve().parents[2] / "plans"
NAMES = sorted(path.stem for path in PLANS.glob("*.yaml"))
RUN = [name for name in NAMES if not name.endswith("base")]  # the others are what `extends:` names


def study(name: str) -> Study:
    return expand(load(PLANS / f"{name}.yaml"), require_data=False)


@pytest.mark.parametrize("name", RUN)
def test_it_loads_and_expands(name: str) -> None:
    assert study(name).phases


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_with_the_schema_and_its_question(name: str) -> None:
    lines = (PLANS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=plan.schema.json"
    if name in RUN:
        assert "?" in lines[1] and "Expected:" in lines[1]
        head = " ".join(lines[:5])
        assert "Cost:" in head and f"python -m orchestrator plans/{name}.yaml" in head


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_it(name: str) -> None:
    tree = parse((PLANS / f"{name}.yaml").read_text(encoding="utf-8"), name, [])
    jsonschema.validate(tree.plain(), json_schema())


def test_the_schema_file_is_current() -> None:
    # python -m orchestrator schema -o plans/plan.schema.json
    assert json.loads((PLANS / "plan.schema.json").read_text(encoding="utf-8")) == json_schema()


def test_every_key_has_a_description() -> None:
    def bare(node: object, path: str) -> list[str]:
        if isinstance(node, list):
            return [found for item in node for found in bare(item, path)]
        if not isinstance(node, dict):
            return []
        keys = node.get("properties", {})
        missing = [f"{path}.{key}" for key, value in keys.items() if not value.get("description")]
        below = [found for key, value in keys.items() for found in bare(value, f"{path}.{key}")]
        inner = [found for key, value in node.get("$defs", {}).items() for found in bare(value, key)]
        parts = [found for key in ("anyOf", "allOf", "items") for found in bare(node.get(key), path)]
        return [*missing, *below, *inner, *parts]

    assert bare(json_schema(), "") == []


@pytest.mark.parametrize("wrong", ["phasez: []", "defaults: {batchsize: 8}", "defaults: {batch_size: 0}"])
def test_the_schema_refuses_slips(wrong: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(parse(wrong, "x", []).plain(), json_schema())


def test_the_reference_roadmap_is_that_of_its_authors() -> None:
    rows = {
        f"{e.phase}.{e.id}": e
        for name in ("phase1", "phase2", "phase3")
        for p in study(name).phases
        for e in p.experiments
    }
    effects = {key: [(x.low, x.high, x.relative) for x in e.expect] for key, e in rows.items() if e.expect}
    assert effects == {
        "phase1.early_stopping": [(0.003, 0.005, True)],
        "phase1.size1024": [(0.0025, 0.0025, True)],
        "phase1.lr": [(0.002, 0.002, True)],
        "phase1.box_thresh": [(0.0015, 0.0015, True)],
        "phase2.resnet50": [(0.005, 0.005, True)],
        "phase2.batch4": [(0.001, 0.002, True)],
        "phase2.reproduction": [(0.98, 0.981, False)],
        "phase3.kfold_ensemble": [(0.981, 1.0, False)],
        "phase3.hybrid": [(0.982, 1.0, False)],
        "phase3.tta": [(0.982, 1.0, False)],
    }
    reference = rows["phase2.reproduction"].trials[0].config
    assert (reference.encoder, reference.decoder, reference.image_size) == ("resnet50", "fpn", 1024)
    assert (reference.optimizer.lr, reference.batch_size, reference.patience, reference.max_epochs) == (1e-3, 4, 3, 6)
    assert (reference.postprocess.thresh, reference.postprocess.box_thresh) == (0.3, 0.4)
    baseline = rows["phase1.baseline"].trials[0].config
    assert (baseline.encoder, baseline.decoder, baseline.image_size) == ("hrnet_w44", "fpn", 1280)
    assert (baseline.optimizer.lr, baseline.batch_size, baseline.patience, baseline.max_epochs) == (5e-4, 8, 0, 17)
    assert [dict(study(name).phases[0].target) for name in ("phase1", "phase2", "phase3")] == [
        {"hmean": 0.978, "recall": 0.972},
        {"hmean": 0.98, "precision": 0.985, "recall": 0.976},
        {"hmean": 0.982},
    ]


def test_the_quickstart_shows_every_part_of_the_path() -> None:
    experiments = [e for phase in study("quickstart").phases for e in phase.experiments]
    sweeps = [e for e in experiments if len(e.trials) >= 4]
    assert sweeps and all(e.asha is not None for e in sweeps)
    assert any(trial.workers == 2 for e in experiments for trial in e.trials)
    assert any(e.ensemble is not None for e in experiments)
    assert any(e.id == "baseline" for e in experiments)
