"""`from detector import fit` must give the function though a module has the same name, each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

import detector


@pytest.mark.parametrize("name", detector.__all__)
def test_public_name_is_callable(name: str) -> None:
    code = f"from detector import {name}; import sys; sys.exit(not callable({name}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
