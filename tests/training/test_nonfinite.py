"""A loss that is not finite: the batch, the weights and pictures are kept, and give the same loss again."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import overflowing  # noqa: F401 - registers its encoder, for `losses_of`
import pytest
import torch
from bars import TINY, make_bars

from detector import checkpoint
from detector.config import Optimizer, Schedule
from detector.errors import TrainingFailed
from detector.fit import fit
from detector.training.batches import Batches
from detector.training.nonfinite import load_step, losses_of
from detector.training.runtime import Runtime
from detector.training.world import World

# A first step of 1e30 leaves finite weights; the forward pass of the second overflows.
WILD = TINY.model_copy(
    update={"optimizer": Optimizer(lr=1e30, clip_norm=0.0), "schedule": Schedule(warmup_epochs=0), "batch_size": 1}
)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_batch_is_kept_and_gives_the_same_loss_again(pages, tmp_path, accumulate):
    config = WILD.model_copy(update={"accumulate": accumulate})
    with pytest.raises(TrainingFailed) as caught:
        fit(config, pages[:4], pages[4:], Runtime(tmp_path, threads=1))
    assert str(caught.value).endswith(f"; step 2; its batch, with pictures, is in {tmp_path / 'nan'}")
    path = tmp_path / "nan" / "batch.safetensors"
    step, group = load_step(path)
    order = [index for batch in Batches(4, config, World(0, 1), 1) for _, index in batch]
    second = order[accumulate : 2 * accumulate]
    assert step.pages == tuple(pages[index].name for index in second)
    assert (step.epoch, step.step, step.rank, step.sizes) == (1, 2, 0, (1,) * accumulate)
    assert not math.isfinite(float(step.losses["loss"]))
    again = losses_of(path)
    assert {name: str(value) for name, value in again.items()} == step.losses
    _, found = checkpoint.load(tmp_path / "nan" / "model")
    assert found == config
    assert len(group) == accumulate and group[0]["image_3HW"].shape == (1, 3, 64, 64)
    assert torch.isfinite(group[0]["image_3HW"]).all()
    pictures = sorted(path.name for path in (tmp_path / "nan").glob("*.png"))
    assert pictures == [f"{place:02d}_{pages[index].path.stem}.png" for place, index in enumerate(second)]


def test_pictures_show_what_the_network_saw(pages, tmp_path):
    plain = WILD.model_copy(update={"augment": TINY.augment.model_copy(update={"rotate_deg": 0.0, "brightness": 0.0})})
    with pytest.raises(TrainingFailed):
        fit(plain, pages[:4], pages[4:], Runtime(tmp_path, threads=1))
    (path,) = (tmp_path / "nan").glob("*.png")
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert picture.shape == (64, 64, 3)
    blue, green, red = picture.reshape(-1, 3).T
    # A dark bar (30) under half a green (0, 160, 0): (15, 95, 15); paper stays white.
    assert np.any((abs(green - 95) <= 1) & (abs(red - 15) <= 1) & (abs(blue - 15) <= 1))
    assert np.any((blue >= 254) & (green >= 254) & (red >= 254))


def test_a_folder_that_cannot_be_written_hides_nothing(pages, tmp_path):
    (tmp_path / "nan").write_text("in the way")
    with pytest.raises(TrainingFailed, match=r"^the loss is .* in epoch 1 .*; could not be kept: .*nan: File exists$"):
        fit(WILD, pages[:4], pages[4:], Runtime(tmp_path, threads=1))


RANKS = """
import json, sys
import torch, torch.distributed as dist
import overflowing
from detector.errors import TrainingFailed
from detector.fit import fit
from detector.training.runtime import Runtime
from pathlib import Path
from bars import TINY, make_bars
rank, home, bad = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{home}/store", rank=rank, world_size=2)
config = TINY.model_copy(update={"encoder": "overflowing_resnet", "batch_size": 1})
pages = list(make_bars(home / f"pages{rank}"))
pages[bad] = overflowing.blacken(pages[bad], home / f"black{rank}")
epochs = []
try:
    fit(config, pages[:4], pages[4:], Runtime(home / "trial", threads=1, every_rank=True), epochs.append)
    told = "done"
except TrainingFailed as error:
    told = str(error)
(home / f"told.{rank}").write_text(json.dumps([told, len(epochs)]))
dist.destroy_process_group()
"""


@pytest.mark.parametrize("bad_rank", [0, 1])
def test_the_batch_of_the_one_rank_whose_loss_broke_is_kept_and_both_end(tmp_path: Path, bad_rank: int):
    # 4 pages, 1 at a time on 2 ranks: 2 steps an epoch. The black page is the second that one of the ranks meets, so
    # its peer's loss in that step is finite.
    config = TINY.model_copy(update={"encoder": "overflowing_resnet", "batch_size": 1})
    ranks = [[index for batch in Batches(4, config, World(rank, 2), 1) for _, index in batch] for rank in (0, 1)]
    bad = ranks[bad_rank][1]
    for name in ("pages0", "pages1", "black0", "black1"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", RANKS]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path), str(bad)], cwd=Path(__file__).parent) for rank in (0, 1)
    ]
    try:
        assert [rank.wait(240) for rank in running] == [0, 0]  # neither waits for the other for ever
    finally:
        for rank in running:
            rank.kill()
    told = [json.loads((tmp_path / f"told.{rank}").read_text()) for rank in (0, 1)]
    place = tmp_path / "trial" / "nan"
    assert told[0] == told[1] and told[0][1] == 0
    assert told[0][0].startswith("the loss is nan in epoch 1 at lr ")
    assert told[0][0].endswith(f"; step 2; its batch, with pictures, is in {place}")
    file = place / ("batch-rank1.safetensors" if bad_rank else "batch.safetensors")
    names = {path.name for path in place.iterdir()}
    page = make_bars(tmp_path / "pages0")[bad]
    picture = f"{'rank1_' if bad_rank else ''}00_{page.path.stem}.png"
    assert names == {file.name, "model", picture}  # of the peer nothing
    step, _ = load_step(file)
    assert (step.epoch, step.step, step.rank, step.pages) == (1, 2, bad_rank, (page.name,))
    again = losses_of(file)
    assert {name: str(value) for name, value in again.items()} == step.losses
    assert not math.isfinite(again["loss"])
    assert not (tmp_path / "trial" / "last.safetensors").exists()
