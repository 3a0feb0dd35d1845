"""Maps on disk: a limit, least recently used first, never a folder in use, and all is computed again on demand."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector import checkpoint
from detector.config import Config
from detector.errors import DataError, InputError
from detector.model.detector import build
from detector.types import Page
from orchestrator.evaluation import maps
from orchestrator.evaluation.map_cache import VARIABLE, hold, limit_bytes, room, trim


def fill(maps_dir: Path, name: str, size: int, used: float) -> Path:
    folder = maps_dir / name
    hold(folder).close()
    (folder / "00000.npz").write_bytes(bytes(size))
    os.utime(folder / "lock", (used, used))
    return folder


def test_least_recently_used_go_first(tmp_path):
    for name, used in (("b", 2), ("a", 3), ("c", 1)):
        fill(tmp_path, name, 100, used)
    # 300 bytes are there: c, the oldest, goes for 299, c and b for 100
    assert trim(tmp_path, 300) == ()
    assert trim(tmp_path, 299) == ("c",)
    fill(tmp_path, "c", 100, 4)
    assert trim(tmp_path, 100) == ("b", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    hold(tmp_path / "c").close()  # asked for again: it is the newest now
    fill(tmp_path, "d", 100, 5)
    assert trim(tmp_path, 150) == ("d",)
    assert trim(tmp_path / "none", 0) == ()


def test_what_is_in_use_stays(tmp_path):
    mine, theirs = fill(tmp_path, "mine", 100, 1), fill(tmp_path, "theirs", 100, 2)
    fill(tmp_path, "free", 100, 3)
    (tmp_path / ".gone-x").mkdir()  # of a process killed while it deleted
    code = (
        "import sys; from pathlib import Path; from orchestrator.evaluation.map_cache import hold; "
        "held = hold(Path(sys.argv[1])); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(theirs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        other.stdout.readline()
        held = hold(mine)
        assert trim(tmp_path, 0) == ("free",)
        other.communicate("\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "theirs"]
    assert trim(tmp_path, 0) == ("theirs",)
    held.close()
    assert trim(tmp_path, 0) == ("mine",)


@pytest.mark.parametrize(("text", "want"), [("0", 0), ("1.5", 1_500_000_000), (None, 20_000_000_000)])
def test_the_limit_is_a_number(monkeypatch, text, want):
    monkeypatch.delenv(VARIABLE, raising=False)
    if text is not None:
        monkeypatch.setenv(VARIABLE, text)
    assert limit_bytes() == want
    for wrong in ("many", "-1", "nan", "inf"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(InputError, match=f"{VARIABLE}.*got '{wrong}'"):
            limit_bytes()


def test_a_full_disk_is_told(tmp_path):
    with pytest.raises(DataError, match=rf"the disk is full.*smaller {VARIABLE}"), room(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), room(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_evicted_maps_are_computed_again(tmp_path, monkeypatch):
    config = Config(
        encoder="test_resnet.r160_in1k", encoder_weights="none", inner_channels=16, output_channels=8, image_size=64
    )
    best = tmp_path / "best"
    checkpoint.save(best, build(config), config)
    pages = []
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / name)
        pages.append(Page(name, tmp_path / name))
    digest, pages_key = str(checkpoint.load_meta(best)["digest"]), maps.digest_of(pages)
    folder = tmp_path / "maps" / maps._key(digest, pages_key, maps.IDENTITY)

    def compute() -> maps.MapStore:
        """As Ray's tasks do; `ensure_maps` then finds nothing missing, and starts no Ray."""
        for chunk in maps._missing(best, folder, maps.IDENTITY, pages):
            maps.write_maps(chunk, on_gpu=False)
        (store,) = maps.ensure_maps([best], pages, tmp_path)
        return store

    monkeypatch.setenv(VARIABLE, "0")
    store = compute()
    first = store.map("b.png").prob_HW  # over the limit, but in use
    assert first.dtype == np.uint8
    fill(tmp_path / "maps", "other", 10, 1)
    assert trim(tmp_path / "maps", limit_bytes()) == ("other",)
    store.hold.close()
    assert trim(tmp_path / "maps", limit_bytes()) == (folder.name,)
    assert not folder.exists()
    np.testing.assert_array_equal(compute().map("b.png").prob_HW, first)
