"""The real training through Ray: one process, and two DDP ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import Seen, make_experiment, make_study

from detector.config import Config
from detector.data.synthetic import make_pages
from detector.files import read_json
from orchestrator.execution.search import search
from orchestrator.ledger import Ledger
from orchestrator.plan.datasets import Datasets
from orchestrator.plan.study import Asha, Trial

TINY = Config(
    encoder="mobilenetv3_small_050",
    encoder_weights="none",
    inner_channels=16,
    output_channels=8,
    image_size=64,
    batch_size=1,
    max_epochs=2,
)


@pytest.mark.usefixtures("two_cpus")
def test_one_process_and_two_ranks(ledger: Ledger, tmp_path: Path) -> None:
    pages = make_pages(tmp_path / "pages", count=7, seed=0, size=160).pages
    data = Datasets(pages[:4], pages[4:], (), "tiny")
    trials = [Trial(f"{workers:016x}", f"p/{workers}", "p", "e", TINY, workers=workers) for workers in (1, 2)]
    experiment = make_experiment(*trials, asha=Asha(1, 2))
    search([(experiment, trial) for trial in trials], make_study(ledger, datasets=data), ledger, Seen())
    for trial in trials:
        record = ledger.record(trial.digest)
        assert (record.state, record.reason) == ("finished", "budget")
        assert [row.number for row in record.epochs] == [1, 2]
        assert {"hmean", "precision", "recall", "iou_hmean", "train_loss", "lr"} <= record.epochs[0].metrics.keys()
        best = ledger.folder(trial.digest) / "best"
        assert (best / "model.safetensors").is_file()
        assert read_json(best / "config.json")["image_size"] == 64
    alone, together = (ledger.record(trial.digest).epochs for trial in trials)
    # 4 pages: 4 steps alone, 2 steps of two ranks; equal seeds, other gradients.
    assert alone[0].metrics["train_loss"] != together[0].metrics["train_loss"]
