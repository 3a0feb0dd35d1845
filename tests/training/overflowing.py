"""`overflowing_resnet`: an encoder whose features overflow on a black page, and only there; and such pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from timm.models import register_model

from detector.types import Page


def _overflow(module: torch.nn.Module, args: tuple[torch.Tensor, ...], features: list[torch.Tensor]) -> Any:
    """Inputs are normalised: white pages with bars have means above 0, a black one about -2 (less its borders)."""
    black_B = args[0].mean(dim=(1, 2, 3)) < -0.5
    scale_B = torch.where(black_B, torch.inf, 1.0)
    return [feature * scale_B[:, None, None, None] for feature in features]


@register_model
def overflowing_resnet(pretrained: bool = False, **kwargs: Any) -> Any:
    model = timm.create_model("test_resnet", features_only=True)
    model.register_forward_hook(_overflow)
    return model


def blacken(page: Page, folder: Path) -> Page:
    """The same words on a black page."""
    picture = cv2.imdecode(np.frombuffer(page.path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    path = folder / f"{page.path.stem}.png"
    path.write_bytes(cv2.imencode(".png", np.zeros_like(picture))[1].tobytes())
    return Page(name=page.name, path=path, words=page.words)
