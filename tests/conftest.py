"""Shared fixtures: where the real receipts lie, and one thread per process so that two cores are enough."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with `sroie`, `sroie_mini` and `icdar2015`: $ORCHESTRATOR_TEST_DATA, else ../shared/data."""
    folder = Path(os.environ.get("ORCHESTRATOR_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "sroie_mini" / "val.json").is_file():
        pytest.skip(f"no real receipts in {folder}; set ORCHESTRATOR_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def two_cpus() -> Iterator[None]:
    """One Ray cluster of two CPUs for all tests that ask for it; it stays until the last test has run."""
    from orchestrator.execution import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster.connect(cpus=2)
        yield
        cluster.disconnect()
