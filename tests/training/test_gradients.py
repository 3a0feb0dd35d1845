"""Several micro-batches give the gradient of one large batch: alone, with dropout, and on two ranks."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detector.config import Config
from detector.model.detector import Detector, build
from detector.model.loss import dbnet_loss
from detector.training.gradients import PARTS, Gradients

TINY = Config(encoder="test_resnet", encoder_weights="none", inner_channels=16, output_channels=8)
CPU = torch.device("cpu")


def network(dropout: float = 0.0) -> Detector:
    """In float64 and evaluation mode: batch norm sees no batch, so that one image's maps depend on that image alone."""
    model = build(TINY).double().eval()
    torch.manual_seed(1)
    for branch in (model.head.prob, model.head.thresh):
        nn.init.normal_(branch.out.weight, std=0.3)
        branch.norm = nn.Sequential(branch.norm, nn.Dropout(dropout).train())
    return model


def images(count: int) -> dict[str, torch.Tensor]:
    """Unlike pages: much text, little text, none; each with another mask."""
    generator = torch.Generator().manual_seed(count)
    share = torch.tensor([0.5, 0.02, 0.0, 0.2, 0.1]).repeat(2)[:count, None, None]
    noise = [torch.rand(count, 32, 64, generator=generator, dtype=torch.float64) for _ in range(4)]
    return {
        "image_3HW": torch.randn(count, 3, 32, 64, generator=generator, dtype=torch.float64),
        "prob_HW": (noise[0] < share).double(),
        "prob_mask_HW": (noise[1] < 0.9).double(),
        "thresh_HW": noise[2],
        "thresh_mask_HW": (noise[3] < share).double(),
    }


def micro(batch: dict[str, torch.Tensor], sizes: list[int]) -> list[dict[str, torch.Tensor]]:
    parts = [torch.split(tensor, sizes) for tensor in batch.values()]
    return [dict(zip(batch, tensors, strict=True)) for tensors in zip(*parts, strict=True)]


def gradients(model: Detector, group: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(5)
    losses = Gradients(model, TINY, CPU, torch.amp.GradScaler("cpu", enabled=False)).add(group)
    return losses, [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [2, 2], [3, 1], [1, 1, 1]])
def test_accumulation_equals_the_large_batch(sizes):
    # [1, 1, 1]: the last, smaller group of an epoch
    model, batch = network(), images(sum(sizes))
    losses, found = gradients(model, micro(batch, sizes))
    large, wanted = gradients(model, [batch])
    torch.testing.assert_close(losses, large)
    assert max(g.abs().max() for g in wanted) > 1e-3
    for a, b in zip(found, wanted, strict=True):
        # The loss is computed in float32, whose sums over a batch do not depend on how the batch was made.
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_the_mean_of_micro_batches_is_something_else():
    # Why two passes: hard negatives and counts are those of the batch.
    model, batch = network(), images(4)
    _, wanted = gradients(model, [batch])
    parts = [gradients(model, [part])[1] for part in micro(batch, [1, 1, 1, 1])]
    mean = [torch.stack(tensors).mean(0) for tensors in zip(*parts, strict=True)]
    assert max((a - b).abs().max() / b.abs().max() for a, b in zip(mean, wanted, strict=True)) > 0.1


def test_both_passes_drop_the_same_and_batch_norm_counts_once():
    model, batch = network(dropout=0.5), images(2)
    model.encoder.train()
    again = copy.deepcopy(model)
    losses, found = gradients(model, micro(batch, [1, 1]))
    # By hand: forward both with gradients kept, the loss of both, backward.
    torch.manual_seed(5)
    logits = [again(part["image_3HW"]) for part in micro(batch, [1, 1])]
    both = type(logits[0])(*(torch.cat(maps) for maps in zip(*logits, strict=True)))
    wanted = dbnet_loss(both, batch, TINY.loss)
    wanted["loss"].backward()
    torch.testing.assert_close(losses, torch.stack([wanted[name].detach() for name in PARTS]))
    for a, b in zip(found, again.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad, rtol=1e-6, atol=1e-9)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), again.buffers(), strict=True))


RANK = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from test_gradients import CPU, TINY, images, micro, network
from detector.training.gradients import Gradients
rank = int(sys.argv[1])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
model = network()
group = micro(images(8), [1, 2, 2, 3])[2 * rank : 2 * rank + 2]
ddp = DistributedDataParallel(model)
Gradients(ddp, TINY, CPU, torch.amp.GradScaler("cpu", enabled=False)).add(group)
torch.save([p.grad for p in model.parameters()], f"{sys.argv[2]}.{rank}")
dist.destroy_process_group()
"""


def test_two_ranks_average_their_groups_once(tmp_path):
    store = tmp_path / "store"
    here = Path(__file__).parent
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(store)], cwd=here) for rank in (0, 1)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    found = [torch.load(f"{store}.{rank}") for rank in (0, 1)]
    groups = micro(images(8), [1, 2, 2, 3])
    alone = [gradients(network(), groups[:2])[1], gradients(network(), groups[2:])[1]]
    for first, second, a, b in zip(*found, *alone, strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, (a + b) / 2, rtol=1e-6, atol=1e-9)
