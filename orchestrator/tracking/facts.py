"""What a journal says about the machine, the code and the data; and what it must never say.

Only listed facts are recorded: nothing is taken from the environment's variables. Text that comes from elsewhere (a
plan after `${env:...}`, the reason of a failure) is scrubbed of values that the environment holds under a
secret-looking name.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from orchestrator.plan.datasets import Datasets

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.IGNORECASE)
URL_PASSWORD = re.compile(r"(?<=://)[^/\s@:]+:[^/\s@]+(?=@)")
SHORTEST_SECRET = 6  # shorter values ("1", "true", "token") would blot out ordinary words


def scrub(value: Any, environ: Mapping[str, str] | None = None) -> Any:
    """`value` (plain JSON) with secrets of the environment replaced by `<NAME>` and URL passwords by `<login>`."""
    environ = os.environ if environ is None else environ
    secrets = [(v, f"<{k}>") for k, v in environ.items() if SECRET_NAME.search(k) and len(v) >= SHORTEST_SECRET]
    return _scrub(value, sorted(secrets, key=lambda pair: -len(pair[0])))


def _scrub(value: Any, secrets: list[tuple[str, str]]) -> Any:
    if isinstance(value, str):
        for secret, name in secrets:
            value = value.replace(secret, name)
        return URL_PASSWORD.sub("<login>", value)
    if isinstance(value, Mapping):
        return {_scrub(str(k), secrets): _scrub(v, secrets) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrub(item, secrets) for item in value]
    return value


def environment() -> dict[str, Any]:
    """Python, package versions, platform, processors and GPUs of this machine; no host name, user or variable."""
    packages = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def code_version() -> dict[str, Any]:
    """Commit of the code that runs and whether files differ from it; both None outside a git checkout."""
    folder = Path(__file__).resolve().parent
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    changes = _output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)}


def data_facts(datasets: Datasets) -> dict[str, Any]:
    """Digest of the data, pages and words of each set, folds."""
    sets = {"train": datasets.train, "val": datasets.val, "test": datasets.test}
    return {
        "digest": datasets.digest,
        "pages": {name: len(pages) for name, pages in sets.items()},
        "words": {name: sum(len(page.words) for page in pages) for name, pages in sets.items()},
        "ignored_words": {
            name: sum(word.ignore for page in pages for word in page.words) for name, pages in sets.items()
        },
        "folds": len(set(datasets.folds)),
    }


def _output(*command: str) -> str | None:
    """Standard output of a command, stripped; None where it is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if sys.platform == "linux" and cpuinfo.exists():
        match = re.search(
            r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if match:
            return match.group(1).strip()
    return platform.processor() or "unknown"


def _memory_gib() -> float:
    import psutil

    return round(float(psutil.virtual_memory().total) / 2**30, 1)


def _gpus() -> list[str]:
    # nvidia-smi, not torch: the driver process of a plan has no other need of torch's 2-3 s import.
    listing = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return listing.splitlines() if listing else []
