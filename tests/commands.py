"""The command line as a user has it: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENOUGH_S = 500


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m orchestrator WORDS` in `home`, workspaces under `home/w`, without the caller's Ray or MLflow."""
    taken = {"ORCHESTRATOR_WORKSPACE": str(home / "w"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
    start = [sys.executable, "-m", "orchestrator", *words]
    return subprocess.run(start, cwd=home, env=kept | taken, capture_output=True, text=True, timeout=ENOUGH_S)
