"""The pages that the trainings of this folder learn from."""

from __future__ import annotations

import pytest
from bars import make_bars

from detector.types import Page


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, ...]:
    return make_bars(tmp_path_factory.mktemp("bars"))
