"""Half a batch at a time where the memory is not enough: the same steps on the same images, once, and told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from bars import TINY, run, scores
from hungry import room_for
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from detector import checkpoint
from detector.errors import TrainingFailed
from detector.training.batches import Batches
from detector.training.micro import Micro, OutOfMemory, halve, noticing, read_micro
from detector.training.schedule import steps_per_epoch
from detector.training.world import World

HUNGRY = TINY.model_copy(update={"encoder": "hungry_resnet", "batch_size": 4, "max_epochs": 2})
TOLD = "[enforce fail"  # how torch's allocator begins


def untold(epochs):
    """Scores without `micro_batch`."""
    return [{name: value for name, value in row.items() if name != "micro_batch"} for row in scores(epochs)]


def same_weights(a: Path, b: Path) -> bool:
    first, second = (load_file(folder / "last.safetensors") for folder in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_half_a_batch_trains_as_if_it_had_been_asked_for(pages, tmp_path):
    # Four images at once need 4 GiB, two 2 GiB: 4 pages, one step an epoch, as with batches of 2 that accumulate twice.
    with room_for(3.5):
        epochs = run(HUNGRY, pages, tmp_path / "a")
    asked = run(HUNGRY.model_copy(update={"batch_size": 2, "accumulate": 2}), pages, tmp_path / "b")
    assert untold(epochs) == scores(asked)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert [epoch.metrics["micro_batch"] for epoch in epochs] == [2, 2]
    micro = read_micro(tmp_path / "a", 4)
    assert (micro.images, micro.of, micro.epoch, micro.parts) == (2, 4, 1, 2)
    assert micro.reason.startswith(TOLD) and "DefaultCPUAllocator: can't allocate memory" in micro.reason
    assert checkpoint.load_meta(tmp_path / "a" / "best")["micro_batch"] == 2
    assert checkpoint.load_config(tmp_path / "a" / "best").batch_size == 4  # what was asked for, and is identified by


def test_it_goes_on_from_its_last_epoch(pages, tmp_path):
    config = HUNGRY.model_copy(update={"max_epochs": 3})
    epochs = run(config, pages, tmp_path / "a", stop_after=2)  # the state is that of epoch 1
    with room_for(3.5):
        epochs += run(config, pages, tmp_path / "a")
    assert [(e.number, e.metrics.get("micro_batch")) for e in epochs] == [(1, None), (2, None), (2, 2), (3, 2)]
    run(config, pages, tmp_path / "b", stop_after=2)
    halve(tmp_path / "b", Micro(4, 4), OutOfMemory(2, "known before"))
    assert scores(run(config, pages, tmp_path / "b")) == scores(epochs[2:])
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_half_is_tried_once(pages, tmp_path):
    with (
        room_for(1.5),
        pytest.raises(TrainingFailed) as caught,
    ):
        run(HUNGRY, pages, tmp_path)
    text = str(caught.value)
    assert text.startswith("not enough memory in epoch 1 for 2 images at once (half of its batch of 4, since epoch 1):")
    remedy = "lower image_size or crop_size, or take a smaller encoder or precision bf16"
    assert text.endswith(f"; lower batch_size and raise accumulate, {remedy}")
    with room_for(0.5), pytest.raises(TrainingFailed, match=r"in epoch 1 for 1 image at once: .*; lower image_size"):
        run(HUNGRY.model_copy(update={"batch_size": 1}), pages, tmp_path / "one")


def test_a_training_begun_anew_starts_with_whole_batches(pages, tmp_path):
    config = HUNGRY.model_copy(update={"max_epochs": 1})
    with room_for(3.5):
        run(config, pages, tmp_path)
    (epoch,) = run(config, pages, tmp_path, resume=False)
    assert "micro_batch" not in epoch.metrics and not read_micro(tmp_path, 4).halved


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...\nmore"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously"),
    ],
)
def test_what_torch_says(error):
    with pytest.raises(OutOfMemory) as caught, noticing(7):
        raise error
    assert (caught.value.epoch, caught.value.reason) == (7, str(error).splitlines()[0])
    with pytest.raises(RuntimeError, match="size mismatch"), noticing(1):
        raise RuntimeError("size mismatch")


SMALL = st.integers(1, 7)


@given(st.integers(1, 60), SMALL, SMALL, st.integers(1, 3), st.integers(1, 9))
def test_parts_change_neither_images_nor_steps(pages, batch, accumulate, workers, epoch):
    config = TINY.model_copy(update={"batch_size": batch, "accumulate": accumulate})
    steps = -(-pages // (batch * workers * accumulate))
    assert steps_per_epoch(pages, batch, workers, accumulate)[1] == steps
    for rank in range(workers):
        whole, half = (Batches(pages, config, World(rank, workers), n) for n in (batch, (batch + 1) // 2))
        whole.epoch = half.epoch = epoch
        parts = Micro((batch + 1) // 2, batch).parts
        assert (len(list(whole)), len(list(half))) == (len(whole), len(half)) == (len(whole), len(whole) * parts)
        assert list(chain(*half)) == list(chain(*whole))
        assert -(-len(half) // (accumulate * parts)) == steps


RANKS = """
import json, sys
import torch, torch.distributed as dist
import hungry
from bars import make_bars, TINY
from detector.errors import StartAgain
from detector.fit import fit
from detector.training.runtime import Runtime
from pathlib import Path
rank, attempt, home = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{home}/store{attempt}", rank=rank, world_size=2)
config = TINY.model_copy(update={"encoder": "hungry_resnet", "max_epochs": 2})
pages = make_bars(home / f"pages{rank}")
epochs = []
try:
    with hungry.room_for(1.5):
        fit(config, pages[:4], pages[4:], Runtime(home / "trial", threads=1, every_rank=True),
            lambda epoch: epochs.append(dict(epoch.metrics)))
except Exception as error:
    end = type(error).__name__
else:
    end = "done"
(home / f"told{attempt}.{rank}").write_text(json.dumps([end, epochs]))
sys.stdout.flush()
import os
os._exit(0)  # a peer that is gone must not hold up the end
"""


def test_all_ranks_begin_again_where_one_has_too_little(tmp_path):
    # Rank 1 alone runs out of room; rank 0 waits for its gradients and learns of it by the broken connection.
    for rank in (0, 1):
        (tmp_path / f"pages{rank}").mkdir()
    environment = {**os.environ, "HUNGRY_RANK": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    here, told = Path(__file__).parent, []
    for attempt in "12":
        command = [sys.executable, "-c", RANKS]
        ranks = [
            subprocess.Popen([*command, str(rank), attempt, str(tmp_path)], cwd=here, env=environment)
            for rank in (0, 1)
        ]
        assert [rank.wait(600) for rank in ranks] == [0, 0]
        told.append([json.loads((tmp_path / f"told{attempt}.{rank}").read_text()) for rank in (0, 1)])
    (first, second), (again, peer) = told
    assert second == ["StartAgain", []]
    assert first[0] == "RuntimeError" and first[1] == []
    assert again[0] == peer[0] == "done"
    assert [row["micro_batch"] for row in again[1]] == [row["micro_batch"] for row in peer[1]] == [1, 1]
    assert [row["train_loss"] for row in again[1]] == [row["train_loss"] for row in peer[1]]
