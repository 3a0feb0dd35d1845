"""The synthetic pages of a plan: made once into its workspace, under a name of all that they depend on."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from detector.files import write_json
from orchestrator.plan.identity import short
from orchestrator.plan.schema_data import Synthetic

MAKER = 1  # version of the page maker's rules that folders are named by; raise it when equal seeds give other pages
PARTS = ("train", "val", "test")


def synthetic_folder(spec: Synthetic, workspace: Path) -> Path:
    """Where the pages of these settings lie, or will."""
    key = short(json.dumps([spec.model_dump(mode="json"), MAKER], sort_keys=True).encode())
    return workspace / "data" / f"synthetic-{key}"


def make_synthetic(spec: Synthetic, workspace: Path) -> Path:
    """The folder with `train`, `val` and `test`, made whole or not at all, once."""
    folder = synthetic_folder(spec, workspace)
    if (folder / "made.json").is_file():
        return folder
    from detector.data.synthetic import make_pages  # draws with OpenCV and Pillow: loaded where pages are made

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".synthetic-", dir=folder.parent))
    try:
        for index, part in enumerate(PARTS):
            count = int(getattr(spec, part))
            if count:
                # Three seeds a plan's seed, so that neighbouring plan seeds share no pages either.
                make_pages(draft / part, count, seed=spec.seed * len(PARTS) + index, size=spec.size, prefix=part)
        write_json(draft / "made.json", spec.model_dump(mode="json"))
        draft.chmod(0o777 & ~_umask())
        if folder.exists():  # a broken rest without made.json
            shutil.rmtree(folder, ignore_errors=True)
        try:
            draft.rename(folder)
        except OSError:
            if not (folder / "made.json").is_file():  # else another process was faster with equal pages
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
