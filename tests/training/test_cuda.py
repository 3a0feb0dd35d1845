"""A real GPU: the same learning as a CPU's, half precision, a real lack of memory, ranks that share it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bars import TINY, run, two_ranks
from hungry import room_on_gpu

from detector import checkpoint
from detector.training.micro import read_micro

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def losses(epochs):
    return [epoch.metrics["train_loss"] for epoch in epochs]


def test_it_learns_what_a_cpu_learns(pages, tmp_path):
    here, there = (run(TINY, pages, tmp_path / device, device=device) for device in ("cpu", "cuda"))
    # Rounding grows over 8 steps; another image, order or distortion would change the first epoch by tenths.
    assert losses(here)[0] == pytest.approx(losses(there)[0], rel=1e-3)
    assert losses(here) == pytest.approx(losses(there), rel=0.05)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_goes_on_from_its_last_epoch(pages, tmp_path, precision):
    config = TINY.model_copy(update={"precision": precision})
    whole = run(config, pages, tmp_path / "a", device="cuda")
    broken = run(config, pages, tmp_path / "b", stop_after=2, device="cuda")
    broken += run(config, pages, tmp_path / "b", device="cuda")
    assert [epoch.number for epoch in broken] == [1, 2, 2, 3, 4]
    assert losses(broken)[-1] == pytest.approx(losses(whole)[-1], rel=0.05)
    assert losses(whole)[-1] < losses(whole)[0]


def test_half_a_batch_after_a_real_lack_of_memory(pages, tmp_path):
    # Four images at once need 4 GiB, two 2 GiB.
    hungry = TINY.model_copy(update={"encoder": "hungry_resnet", "batch_size": 4, "max_epochs": 2})
    with room_on_gpu(3.5):
        epochs = run(hungry, pages, tmp_path, device="cuda")
    assert [epoch.metrics["micro_batch"] for epoch in epochs] == [2, 2]
    assert read_micro(tmp_path, 4).reason.startswith("CUDA out of memory")


def test_two_ranks_share_a_gpu(pages, tmp_path):
    # What execution does where workers outnumber GPUs: gloo, both ranks on the one device.
    job = {"config": TINY, "train": pages[:4], "val": pages[4:], "folder": tmp_path / "ranks"}
    first, second = two_ranks(tmp_path, **job, device="cuda")
    assert first["scored"] == second["scored"]
    assert [row["train_loss"] for row in first["epochs"]] == [row["train_loss"] for row in second["epochs"]]


def test_maps_of_a_gpu_are_those_of_a_cpu(pages, tmp_path):
    run(TINY, pages, tmp_path, device="cpu")
    models = [checkpoint.load(tmp_path / "best", device=device)[0] for device in ("cpu", "cuda")]
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        here, there = (
            model.eval().probabilities(image.to(device)).cpu().numpy()
            for model, device in zip(models, ("cpu", "cuda"), strict=True)
        )
    np.testing.assert_allclose(here, there, atol=1e-5)
