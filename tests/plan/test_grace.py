"""Patience and ASHA together: no patience before the first rung, and another identity only where that matters."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.config import Config
from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.expand import expand
from orchestrator.plan.identity import digest
from orchestrator.plan.loading import load
from orchestrator.plan.rows import steps
from orchestrator.plan.settings import flat
from orchestrator.plan.study import Asha, Trial
from orchestrator.plan.trials import after_grace, trial_digest

DATA = DataFacts(train=10, val=2, test=0, train_words=9, val_words=9, digest="d", folds=3, fold_sizes=(2, 3, 5))
BASE = flat(Config().model_dump(mode="json")) | {"workers": 1}


def trial(**settings: int) -> Trial:
    made = Trial("", "p/e", "p", "e", Config.model_validate({"max_epochs": 20, **settings}))
    return Trial(trial_digest(made, DATA), "p/e", "p", "e", made.config)


@pytest.mark.parametrize(
    ("settings", "grace", "waits"),
    [
        ({"patience": 2}, 5, 5),
        ({"patience": 3}, 5, 5),  # after epoch 4 at the earliest
        ({"patience": 4}, 5, 0),  # after epoch 5, where the first rung is
        ({"patience": 0}, 5, 0),
        ({"patience": 2, "patience_from": 3}, 5, 5),
        ({"patience": 2, "patience_from": 8}, 5, 8),
        ({"patience": 2}, 30, 20),
    ],
)
def test_patience_waits_for_the_first_rung(settings: dict[str, int], grace: int, waits: int) -> None:
    before = trial(**settings)
    after = after_grace(before, Asha(grace, 2), DATA, BASE)
    assert after.config.patience_from == waits
    assert after.digest == digest(after.config, "d")
    same = waits == before.config.patience_from
    assert (after == before) is same and (after.digest == before.digest) is same
    assert same or after.settings["patience_from"] == waits
    assert after_grace(before, None, DATA, BASE) is before


def test_a_sweep_under_asha_says_so(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        """
roadmap: r
data: {train: {images: i, annotations: t.json}, val: {images: i, annotations: v.json}}
defaults: {encoder: resnet18, max_epochs: 20, patience: 2}
phases:
  - id: one
    experiments:
      - {id: plain}
      - {id: swept, sweep: {space: {ema: "uniform(0.9, 0.999)"}, trials: 3, stop: {asha: {grace: 6}}}}
""",
        encoding="utf-8",
    )
    plain, swept = expand(load(path), require_data=False).phases[0].experiments
    assert [t.config.patience_from for t in plain.trials] == [0]
    assert [t.config.patience_from for t in swept.trials] == [6, 6, 6]
    assert all(t.settings["patience_from"] == 6 for t in swept.trials)


def test_steps_are_those_of_the_folds_own_pages() -> None:
    # 10 pages, folds of 2, 3 and 5: ceil(8 / 2), ceil(7 / 2), ceil(5 / 2), and that of two workers and accumulate 2.
    def made(fold: int | None, workers: int, accumulate: int) -> Trial:
        config = Config(batch_size=2, accumulate=accumulate)
        return Trial("d", "p/e", "p", "e", config, fold=fold, workers=workers)

    assert [steps(made(fold, 1, 1), DATA) for fold in (None, 0, 1, 2)] == [5, 4, 4, 3]
    assert [steps(made(fold, 2, 2), DATA) for fold in (None, 0, 1, 2)] == [2, 1, 1, 1]
