"""Trainings that cost nothing, and a ledger for them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import standins

from orchestrator.execution.training import Train
from orchestrator.ledger import Ledger


@pytest.fixture(scope="session", autouse=True)
def trainings_travel() -> None:
    """Ray's workers cannot import a test's module."""
    ray.cloudpickle.register_pickle_by_value(standins)


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    folder = tmp_path / "signs"
    folder.mkdir()
    return folder


@pytest.fixture
def curve(signs: Path) -> Train:
    return functools.partial(standins.curve, signs=signs)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(tmp_path / "workspace")
    with ledger.drive():
        yield ledger
