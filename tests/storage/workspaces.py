"""A workspace as a finished plan leaves it, written without training: only what `runs` and `gc` look at is real."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from detector.checkpoint import CONFIG, META, WEIGHTS
from detector.files import write_bytes, write_json
from detector.metrics.cleval import Counts
from orchestrator.evaluation.map_cache import hold
from orchestrator.evaluation.maps import digest_of
from orchestrator.evaluation.scores import SCORES_FORMAT
from orchestrator.ledger import Ledger
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load
from orchestrator.plan.study import Study, Trial
from orchestrator.records import EpochRow, State

PLAN = """\
roadmap: r
workspace: {workspace}
data: {{synthetic: {{train: 2, val: 3, seed: 1, size: 160}}}}
defaults: {{encoder: resnet18, max_epochs: 2}}
phases:
  - id: one
    experiments:
      - {{id: a, seeds: [0, 1, 2, 3]}}
      - {{id: b, set: {{workers: 2}}}}
{more}
"""
WEIGHT_BYTES, STATE_BYTES, MAP_BYTES = 1000, 3000, 500


def write_plan(folder: Path, name: str = "plan.yaml", more: str = "", workspace: str = "") -> Path:
    path = folder / name
    path.write_text(PLAN.format(workspace=workspace or folder / "w", more=more))
    return path


def study_of(plan: Path) -> tuple[Study, Ledger, dict[str, Trial]]:
    study = expand(load(plan))
    trials = [trial for phase in study.phases for item in phase.experiments for trial in item.trials]
    return study, Ledger.open(study.workspace), {trial.name: trial for trial in trials}


def finish(study: Study, ledger: Ledger, trial: Trial, level: int, state: State = "finished") -> None:
    """Let a trial end, with `level` of 10 characters found on each page, weights, maps, pictures."""
    assert study.datasets is not None
    pages, folder = study.datasets.val, ledger.folder(trial.digest)
    ledger.register(trial)
    ledger.set_state(trial.digest, "running")
    ledger.append_epoch(trial.digest, EpochRow(1, {"hmean": level / 10, "precision": 1.0}, 2.0, 1, best=True))
    weights = f"{trial.digest}{level:016x}"
    write_bytes(folder / "best" / WEIGHTS, bytes(WEIGHT_BYTES))
    write_json(folder / "best" / CONFIG, trial.config.model_dump(mode="json"))
    write_json(folder / "best" / META, {"format": 1, "digest": weights})
    write_bytes(folder / "last.safetensors", bytes(STATE_BYTES))
    if state == "finished":
        counts = asdict(Counts(chars_gt=10, chars_det=level, chars_hit=level))
        key = f"val-{digest_of(pages)}-{trial.config.metric.variant}-{SCORES_FORMAT}"
        ledger.put_scores(trial.digest, key, {page.name: counts for page in pages})
        for name in ("1-worst", "2-median", "3-best"):
            write_bytes(folder / "pictures" / f"{name}.jpg", b"jpg")
        maps = ledger.workspace / "maps" / f"{weights[:16]}-{digest_of(pages)}"
        hold(maps).close()
        write_bytes(maps / "00000.npz", bytes(MAP_BYTES))
        write_json(maps / "index.json", {})
    ledger.set_state(trial.digest, state, "budget")
