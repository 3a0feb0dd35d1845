"""The gradient of one optimizer step, of one batch or of several whose loss is that of one large batch.

Shapes: B images of a micro-batch, N of the whole group; H, W canvas px.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detector.config import Config
from detector.model.detector import Logits
from detector.model.loss import dbnet_loss

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PARTS = ("loss", "prob", "thresh", "binary")
Batch = Mapping[str, Tensor]


class Gradients:
    """Adds the gradient of a group of micro-batches to the parameters of a model.

    The loss picks its hard negatives from the whole batch and divides by counts over the whole batch, so the mean of
    micro-batches' losses is not the loss of the large batch. A group of several is therefore passed twice: forward
    alone, which gives all logits; the loss of all and its gradient at the logits; then forward and backward of each
    micro-batch from its share of that gradient (Gao et al. 2021, arXiv 2101.06983). This costs one more forward pass,
    about a third of a step, and holds the activations of one micro-batch. Batch norm still sees one micro-batch at a
    time, as on every rank of a distributed training.
    """

    def __init__(self, model: nn.Module, config: Config, device: torch.device, scaler: torch.amp.GradScaler) -> None:
        self._model, self._config, self._device, self._scaler = model, config, device, scaler
        self._dtype = DTYPES[config.precision]

    def add(self, group: Sequence[Batch]) -> Tensor:
        """Forward and backward of a group; its losses in the order of PARTS, without gradient.

        Args:
            group: micro-batches with the keys of `detector.data.dataset`.
        """
        if len(group) == 1:
            losses = self._loss(self._forward(group[0]), group)
            self._scaler.scale(losses["loss"]).backward()  # type: ignore[no-untyped-call]
        else:
            losses = self._add_in_two_passes(group)
        return torch.stack([losses[name].detach() for name in PARTS])

    def _add_in_two_passes(self, group: Sequence[Batch]) -> dict[str, Tensor]:
        devices = [self._device] if self._device.type == "cuda" else []
        buffers = list(self._model.buffers())
        kept = [buffer.clone() for buffer in buffers]
        # Dropout draws the same in both passes; batch norm counts the second alone.
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            first = [self._plain_forward(batch) for batch in group]
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)
        leaves = [torch.cat(maps).requires_grad_() for maps in zip(*first, strict=True)]
        losses = self._loss(Logits(*leaves), group)
        gradients = torch.autograd.grad(self._scaler.scale(losses["loss"]), leaves)
        sizes = [len(logits.prob_BHW) for logits in first]
        del first, leaves
        shares = zip(*(torch.split(gradient, sizes) for gradient in gradients), strict=True)
        for position, (batch, share) in enumerate(zip(group, shares, strict=True), start=1):
            with self._held(position < len(group)):
                torch.autograd.backward(tuple(self._forward(batch)), share)
        return losses

    def _forward(self, batch: Batch) -> Logits:
        return self._run(self._model, batch)

    def _plain_forward(self, batch: Batch) -> Logits:
        """Past DistributedDataParallel, which expects a backward pass and broadcasts buffers."""
        model = self._model.module if isinstance(self._model, DistributedDataParallel) else self._model
        return self._run(model, batch)

    def _run(self, model: nn.Module, batch: Batch) -> Logits:
        images = batch["image_3HW"].to(self._device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not torch.float32):
            logits: Logits = model(images)
        return logits

    def _loss(self, logits: Logits, group: Sequence[Batch]) -> dict[str, Tensor]:
        names = [name for name in group[0] if name != "image_3HW"]
        targets = {
            name: torch.cat([batch[name].to(self._device, non_blocking=True) for batch in group]) for name in names
        }
        return dbnet_loss(logits, targets, self._config.loss)

    def _held(self, waits: bool) -> contextlib.AbstractContextManager[None]:
        """Ranks average gradients with the last micro-batch of a group."""
        if waits and isinstance(self._model, DistributedDataParallel):
            held: contextlib.AbstractContextManager[None] = self._model.no_sync()
            return held
        return contextlib.nullcontext()
