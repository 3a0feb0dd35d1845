"""What prediction needs of a network, whatever computes it: a canvas in, its probabilities out.

Shapes: H, W canvas height and width in px, multiples of `MULTIPLE`; 3 RGB planes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from detector.config import Config
from detector.types import Float32

if TYPE_CHECKING:
    from detector.model.detector import Detector

MULTIPLE = 32  # the encoder's largest stride divides every canvas


class Network(Protocol):
    """Torch's model, an exported file, or what a test puts in their place."""

    def __call__(self, canvas_3HW: Float32) -> Float32:
        """Probabilities (H, W) in [0, 1] of a canvas as `detector.geometry.normalise` makes it."""
        ...


class TorchNetwork:
    """A model on its own device, in the config's precision (fp16 on a CPU, which has no arithmetic for it: fp32)."""

    def __init__(self, model: Detector, config: Config) -> None:
        self.model = model
        self._precision = config.precision

    def __call__(self, canvas_3HW: Float32) -> Float32:
        import torch

        device = next(self.model.parameters()).device
        image_13HW = torch.from_numpy(canvas_3HW)[None].to(device, memory_format=torch.channels_last)
        with torch.inference_mode(), self._autocast(device.type):
            found: Float32 = self.model.probabilities(image_13HW)[0].float().cpu().numpy()
        return found

    def _autocast(self, device: str) -> AbstractContextManager[object]:
        import torch

        if self._precision == "fp32" or (self._precision == "fp16" and device == "cpu"):
            return nullcontext()
        return torch.autocast(device, torch.bfloat16 if self._precision == "bf16" else torch.float16)
