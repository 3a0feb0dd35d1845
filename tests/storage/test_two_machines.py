"""A Ray cluster of several machines whose workspace is on s3://: what one does, the others see.

The machines are `ray start` processes with mirrors of their own; where mounting is permitted, each has also a disk of
its own: the driver's folders are empty for those that train. The head computes nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from machines import OPEN, Machine, free_port, head_words, ray_folder

from orchestrator.ledger import Ledger
from orchestrator.records import TrialRecord
from orchestrator.storage.mirror import mirror_of
from orchestrator.storage.s3 import S3Store

ENOUGH_S = 1500.0
ROOT = Path(__file__).resolve().parents[2]
PLAN = """
roadmap: tiny
data: {synthetic: {train: 4, val: 2, test: 2, size: 160}}
defaults:
  encoder: mobilenetv3_small_050
  encoder_weights: none
  inner_channels: 16
  output_channels: 16
  image_size: 160
  batch_size: 2
  max_epochs: 4
  resources: {cpus: 1}
concurrent: 1
phases:
  - id: one
    experiments:
      - {id: a, set: {max_epochs: 20}}
      - {id: ranks, set: {batch_size: 1, workers: 2}}
"""


class Site:
    """A folder of machines, each with its own home and mirrors, one cluster, and one workspace."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url, self.port = folder, f"{url}/tiny", free_port()
        self._workspace = url

    def home(self, name: str) -> Path:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        (home / "tiny.yaml").write_text(PLAN)
        return home

    @contextmanager
    def machine(self, name: str, words: list[str], others: list[str]) -> Iterator[Machine]:
        # Where the store is, the driver tells; what opens it, each machine has.
        taken = {"ORCHESTRATOR_CACHE": str(self.home(name) / "cache"), "OMP_NUM_THREADS": "1"}
        hides = [self.home(other) for other in others]
        machine = Machine(words, taken | {"AWS_ENDPOINT_URL_S3": None}, self.folder / f"{name}.log", hides)
        try:
            machine.wait_for("Ray runtime started")
            yield machine
        finally:
            machine.kill()

    def drive(self, name: str, cluster: str | None) -> subprocess.Popen[str]:
        known = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
        taken = {"ORCHESTRATOR_WORKSPACE": self._workspace, "ORCHESTRATOR_CACHE": str(self.home(name) / "cache")}
        taken |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        taken |= OPEN | {"RAY_ADDRESS": cluster} if cluster else {}
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "tiny.yaml"],
            cwd=self.home(name),
            env=known | taken,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def seen(record: TrialRecord) -> object:
    """What must be equal however a trial came about."""
    untimed = [
        (row.number, row.best, {name: repr(value) for name, value in row.metrics.items() if "seconds" not in name})
        for row in record.epochs
    ]
    return record.digest, record.state, record.reason, record.best_epoch, untimed


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_one_machine_trains_another_goes_on_with_and_the_driver_gets(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, s3_url)
    cluster = f"127.0.0.1:{site.port}"
    store = S3Store(site.url)
    with ExitStack() as stack:
        folder = stack.enter_context(ray_folder())
        stack.enter_context(site.machine("h", head_words(site.port, folder, cpus=0), ["a", "b", "c"]))
        join = [f"--address={cluster}", "--num-cpus=2"]
        first = stack.enter_context(site.machine("b", join, ["a", "c"]))
        driver = site.drive("a", cluster)
        stack.callback(driver.kill)
        until = time.monotonic() + ENOUGH_S
        while not any(listed.name.endswith("last.safetensors") for listed in store.list("trials/")):
            assert driver.poll() is None and time.monotonic() < until, driver.communicate()
            time.sleep(0.1)
        first.kill()
        stack.enter_context(site.machine("c", join, ["a", "b"]))
        out, _ = driver.communicate(timeout=ENOUGH_S)
        assert driver.returncode == 0, out
        assert "started again after epoch" in out  # it was in the midst of its epochs

        monkeypatch.setenv("ORCHESTRATOR_CACHE", str(site.home("a") / "cache"))
        here = mirror_of(site.url)
        ledger = Ledger.open(here)
        records = ledger.records()
        assert [record.state for record in records] == ["finished"] * 2
        assert all(record.cost[0] > 0 for record in records)
        for record in records:
            assert len(list(ledger.maps(record.digest)[0].glob("*.npz"))) == 2
            assert ledger.score_names(record.digest)
        assert list(site.folder.glob("[bch]/cache/*/maps/*/*.npz")) == []

        written = {listed.name: listed.tag for listed in store.list("trials/")}
        for name in ("a", "d"):  # the same command again, there and on a machine that has never seen it
            again = site.drive(name, cluster)
            out, _ = again.communicate(timeout=ENOUGH_S)
            assert again.returncode == 0 and "nothing left to do" in out, out
            assert {listed.name: listed.tag for listed in store.list("trials/")} == written

    alone = Site(tmp_path / "alone-site", str(tmp_path / "plain"))
    alone.folder.mkdir()
    run = alone.drive("z", None)
    out, _ = run.communicate(timeout=ENOUGH_S)
    assert run.returncode == 0, out
    plain = tmp_path / "plain" / "tiny"
    assert list(map(seen, records)) == list(map(seen, Ledger.open(plain).records()))
    made = [
        file.relative_to(plain)
        for kind in ("best/model.safetensors", "scores/*.json")
        for file in plain.glob(f"trials/*/{kind}")
    ]
    assert len(made) == 4
    assert all((here / name).read_bytes() == (plain / name).read_bytes() for name in made)
