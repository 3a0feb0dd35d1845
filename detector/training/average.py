"""The running average of a training's weights (as an EMA: Tarvainen and Valpola 2017, arXiv 1703.01780)."""

from __future__ import annotations

import copy

import torch

from detector.model.detector import Detector


class Average:
    """A second network whose weights follow those of the one in training.

    Batch-norm statistics are averaged with the same decay, since the training's own belong to the weights of its last
    steps; counters are copied. Nothing but the tensors needs saving: the number of updates is that of optimizer steps.

    Attributes:
        model: the network with averaged weights, in evaluation mode.
    """

    def __init__(self, source: Detector, decay: float) -> None:
        self.model: Detector = copy.deepcopy(source).eval().requires_grad_(False)
        self._decay = decay
        pairs = list(zip(self.model.state_dict().values(), source.state_dict().values(), strict=True))
        # state_dict's tensors share memory with the modules, and all updates of both networks are in place
        self._means = [mine for mine, _ in pairs if mine.is_floating_point()]
        self._sources = [theirs for mine, theirs in pairs if mine.is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the weights after an optimizer step; `done` steps were taken in before.

        The decay of step n is min(decay, (1 + n) / (10 + n)): the first steps leave the random start behind quickly.
        """
        decay = min(self._decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(self._means, self._sources, 1.0 - decay)
        for mine, theirs in self._counters:
            mine.copy_(theirs)
