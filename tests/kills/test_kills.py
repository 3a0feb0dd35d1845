"""`kill -9` of the driver, of a DDP worker and of a trial's process: the end is that of a run that was left alone.

One trial at a time (`concurrent: 1`), since ASHA judges whoever comes first: with two at once even undisturbed runs
differ.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from killing import ROOT, Run, Victim, epochs, ledger_of, results_of, run_and_kill, runs_of

PLAN = """
roadmap: tiny
concurrent: 1
data:
  synthetic: {train: 6, val: 4, test: 2, size: 192}
defaults:
  encoder: mobilenetv3_small_050
  encoder_weights: none
  inner_channels: 16
  output_channels: 16
  image_size: 192
  batch_size: 2
  max_epochs: 3
phases:
  - id: one
    experiments:
      - {id: baseline}
      - id: rates
        sweep:
          space: {optimizer.lr: "loguniform(0.002, 0.01)"}
          trials: 3
          search: {tpe: {starts: 2}}
          stop: {asha: {grace: 1, eta: 2}}
      - {id: ranks, set: {batch_size: 1, workers: 2, max_epochs: 10}}  # long enough to be met
      - {id: both, ensemble: {pool: "top(all, 2)", max_members: 2, thresh: [0.2, 0.3], box_thresh: [0.3]}}
"""


def compare(alone: Path, killed: Path) -> None:
    """Both homes hold the same ledger, the same files of results and the same MLflow runs."""
    (first,), (second,) = alone.glob("*/ledger.json"), killed.glob("*/ledger.json")
    assert ledger_of(second.parent) == ledger_of(first.parent)
    results = results_of(first.parent)
    assert any(name.endswith(".safetensors") for name in results)
    assert results_of(second.parent) == results
    assert runs_of(second.parent) == runs_of(first.parent)


def test_a_small_plan_survives_the_death_of_each_process(tmp_path: Path):
    plan = tmp_path / "tiny.yaml"
    plan.write_text(PLAN, encoding="utf-8")
    alone = Run(tmp_path / "alone", plan)
    assert alone.wait() == 0, alone.told
    victims: list[Victim] = ["trial", "driver", "worker"]
    log = run_and_kill(tmp_path / "killed", plan, (), victims, seed=0)
    assert len(log) == 3, log
    compare(tmp_path / "alone", tmp_path / "killed")


@pytest.mark.slow
def test_the_quickstart_survives_ten_deaths(tmp_path: Path):
    plan, words = ROOT / "plans" / "quickstart.yaml", ("--set", "concurrent=1")
    alone = Run(tmp_path / "alone", plan, *words)
    assert alone.wait() == 0, alone.told
    assert epochs(tmp_path / "alone") >= 40
    victims: list[Victim] = [*(["driver", "trial"] * 4), "worker", "driver"]  # the workers' trial comes last
    log = run_and_kill(tmp_path / "killed", plan, words, victims, seed=1)
    assert len(log) == 10, log
    compare(tmp_path / "alone", tmp_path / "killed")
