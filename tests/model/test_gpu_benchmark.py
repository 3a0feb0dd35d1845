"""benchmarks/gpu.py on a CPU, tiny, with torch, timm, numpy and OpenCV alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import pages
from benchmarks.gpu_feed import Plain, feed
from benchmarks.harness import Scale

ROOT = Path(__file__).parents[2]
# Everything of the lock file that the four do not bring along (timm brings safetensors, torchvision PIL).
ALONE = """
import sys
from importlib.machinery import PathFinder
BARRED = {"ray", "mlflow", "pydantic", "numba", "albumentations", "shapely", "pyclipper", "scipy", "pandas"}

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in BARRED else super().find_spec(name, path, target)

sys.meta_path = [Installed if finder is PathFinder else finder for finder in sys.meta_path]
from benchmarks.gpu import main
sys.exit(main())
"""


def test_it_runs_with_four_packages(tmp_path):
    out = tmp_path / "rows.json"
    command = [sys.executable, "-c", ALONE, "--tiny", "--device", "cpu", "--peak", "0.1", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "plain OpenCV" in done.stdout
    rows = json.loads(out.read_text())["rows"]
    # 2 networks x (4 variants of training, one of them fed as well, and 4 of inference)
    assert len(rows) == 2 * (4 + 1 + 4)
    measured = [row for row in rows if row["data_wait"] is None]
    for row in measured:
        # --peak counts half for fp32; share = images/s x arithmetic of an image / peak
        peak = 0.1e12 if row["variant"].startswith("bf16") else 0.05e12
        assert abs(row["images_s"] * row["gflop_image"] * 1e9 / peak - row["peak_share"]) < 1e-6
        assert row["memory_gb"] > 0
    assert all(0 <= row["data_wait"] <= 1 for row in rows if row["data_wait"] is not None)
    # a step's backward pass is about twice its forward pass, whose threshold branch inference leaves out
    flop = {(r["network"], r["work"]): r["gflop_image"] for r in measured}
    for network in ("test_resnet+unet", "test_resnet+fpn"):
        assert 3 < flop[network, "training"] / flop[network, "inference"] < 5


def test_both_pipelines_give_equal_keys_and_shapes(tmp_path):
    whose, ours = feed(tmp_path, 64, 3)
    assert whose == "detector.data"
    quads = [word.polygon_V2 for word in pages.words(Scale(64, 1))]
    plain = Plain(sorted(tmp_path.glob("*.jpg")), [np.stack(quads)] * 4, 64, 3)
    assert len(ours) == len(plain) == 3
    for a, b in zip((ours[i] for i in range(3)), (plain[i] for i in range(3)), strict=True):
        assert {name: tensor.shape for name, tensor in a.items()} == {name: tensor.shape for name, tensor in b.items()}
