"""A study whose trainings have finished without having run: drawn pages, untrained networks, drawn maps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from drawn import CONFIG, MISSES, draw_maps, make_pages

from detector import checkpoint
from detector.config import Postprocess
from detector.model.detector import build as build_model
from detector.types import Page
from orchestrator.ledger import Ledger
from orchestrator.plan.datasets import Datasets
from orchestrator.plan.study import EnsembleSpec, Experiment, Gate, Phase, Study, ThresholdSearch, Top, Trial
from orchestrator.records import EpochRow


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, ...]:
    return make_pages(tmp_path_factory.mktemp("pages"), "", 12)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A real (untrained) network for each name; only digests and files matter here."""
    folders = {}
    for seed, name in enumerate(MISSES):
        folders[name] = tmp_path_factory.mktemp("models") / name
        config = CONFIG.model_copy(update={"seed": seed})
        checkpoint.save(folders[name], build_model(config), config)
    return folders


@pytest.fixture
def made(
    tmp_path: Path, pages: tuple[Page, ...], checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> tuple[Study, Ledger]:
    """A study whose three trainings have finished, with their maps; an import of ray fails from here on."""
    monkeypatch.setitem(sys.modules, "ray", None)
    ledger = Ledger.open(tmp_path / "w")
    experiments = []
    for seed, (name, misses) in enumerate(MISSES.items()):
        trial = Trial(f"{name * 16}", f"p/{name}", "p", name, CONFIG.model_copy(update={"seed": seed}))
        ledger.register(trial)
        ledger.append_epoch(trial.digest, EpochRow(1, {"hmean": 0.5}, 1.0, 0, best=True))
        ledger.set_state(trial.digest, "finished", "budget")
        (ledger.folder(trial.digest) / "best").symlink_to(checkpoints[name])
        draw_maps(ledger, trial, pages, misses)
        experiments.append(Experiment(name, "p", f"misses {misses}", 1, (trial,)))
    rules = tuple(Postprocess(thresh=thresh, unclip_ratio=0.0) for thresh in (0.3, 0.4, 0.6))
    experiments.append(Experiment("both", "p", "", 2, ensemble=EnsembleSpec(Top("p", 8), ("identity",), 3, rules)))
    experiments.append(Experiment("search", "p", "", 2, thresholds=ThresholdSearch("a", rules)))
    phase = Phase(
        "p", "what members add", (), tuple(experiments), {"hmean": 0.9}, Gate("ci_low(best - p.a) > 0", "stop")
    )
    datasets = Datasets((), pages, (), "d")
    return Study("r", Path("plan <x>.yaml"), ledger.workspace, (phase,), {}, datasets, None, "", {}), ledger
