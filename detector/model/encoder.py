"""The encoder: any timm model that gives feature maps at strides 4, 8, 16 and 32.

Shapes: B batch; C channels; H, W canvas height and width in px, multiples of 32. A level at stride s is
(B, C, H/s, W/s).
"""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from detector.errors import InputError
from detector.model.weights import load_weights

STRIDES = (4, 8, 16, 32)
PROBE_PX = 64  # side of the image with which a new encoder is tried; every stride divides it


class Encoder(nn.Module):
    """timm's features at STRIDES, from images normalised with ImageNet's mean and deviation.

    Encoders trained with another normalisation (tf_efficientnet_*, say: mean and deviation .5) get their own: the step
    from one to the other is one product and one sum a pixel, and left out where it would do nothing.

    Attributes:
        channels: C of each level, finest first.
    """

    mul_1C11: Tensor
    add_1C11: Tensor

    def __init__(self, name: str, weights: str = "none") -> None:
        """Build `name`; `weights` is `hub`, `none` or a place that `detector.model.weights` knows.

        Raises:
            InputError: an unknown name, a model without the four strides or with a fixed image size, or weights that
                cannot be had.
        """
        super().__init__()
        _check_name(name)
        self.net = _create(name, hub=weights == "hub")
        reductions = list(self.net.feature_info.reduction())
        if not set(STRIDES) <= set(reductions):
            raise InputError(
                f"encoder `{name}`: feature maps at strides 4, 8, 16 and 32 are needed, it gives "
                f"{sorted(set(reductions))}; choose a convolutional model such as resnet50 or hrnet_w44"
            )
        # Of two levels at one stride the later has seen more of the page.
        self.keep = tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES)
        every = self.net.feature_info.channels()
        self.channels: tuple[int, ...] = tuple(every[i] for i in self.keep)
        self._set_normalisation(name)
        self._probe(name)
        if weights not in ("hub", "none"):
            load_weights(self.net, weights, name)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """The four levels of `image_B3HW`, finest first."""
        if self.renormalise:
            image_B3HW = image_B3HW * self.mul_1C11 + self.add_1C11
        levels = self.net(image_B3HW)
        chosen = []
        for i, channels in zip(self.keep, self.channels, strict=True):
            level = levels[i]
            # Swin and its kin hand out (B, H, W, C).
            chosen.append(level if level.shape[1] == channels else level.permute(0, 3, 1, 2))
        return chosen

    def _set_normalisation(self, name: str) -> None:
        own = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
        mean, std = (own.mean, own.std) if own is not None else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        # (x std_i + mean_i - mean_o) / std_o with i ImageNet's and o the encoder's own
        mul = [i / o for i, o in zip(IMAGENET_DEFAULT_STD, std, strict=True)]
        add = [(i - o) / s for i, o, s in zip(IMAGENET_DEFAULT_MEAN, mean, std, strict=True)]
        self.renormalise = any(abs(m - 1) > 1e-6 for m in mul) or any(abs(a) > 1e-6 for a in add)
        self.register_buffer("mul_1C11", torch.tensor(mul).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("add_1C11", torch.tensor(add).view(1, -1, 1, 1), persistent=False)

    def _probe(self, name: str) -> None:
        """Try an image that is not square: models with a fixed input size fail here, not in the first epoch."""
        training = self.training
        self.eval()
        height, width = PROBE_PX, 2 * PROBE_PX
        try:
            with torch.no_grad():
                levels = self(torch.zeros(1, 3, height, width))
            shapes = [tuple(level.shape[1:]) for level in levels]
        except Exception as error:
            # Any failure inside timm means the same to the user: this model cannot take pages.
            raise InputError(
                f"encoder `{name}`: must take images of any size, but a {width} x {height} image failed "
                f"({type(error).__name__}: {_first_line(error)}); choose a convolutional model"
            ) from error
        finally:
            self.train(training)
        wanted = [(c, height // s, width // s) for c, s in zip(self.channels, STRIDES, strict=True)]
        if shapes != wanted:
            raise InputError(f"encoder `{name}`: levels must have shapes {wanted}, got {shapes}; choose another model")


def _check_name(name: str) -> None:
    base = name.partition(".")[0]
    if timm.is_model(base):
        return
    close = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(f'`{c}`' for c in close)}?" if close else "timm.list_models() lists them"
    raise InputError(f"encoder `{name}`: timm {timm.__version__} has no model of this name; {hint}")


def _create(name: str, *, hub: bool) -> Any:
    """The features model `name`, from the hub's weights or at random."""
    try:
        return timm.create_model(name, pretrained=hub, features_only=True)
    except Exception as error:
        # timm and the hub's client raise many kinds (RuntimeError, OSError, HTTP errors, AttributeError).
        cause = f"{type(error).__name__}: {_first_line(error)}"
        if not hub:
            raise InputError(
                f"encoder `{name}`: timm cannot give its features ({cause}); choose another model, "
                "such as resnet50 or hrnet_w44"
            ) from error
        raise InputError(
            f"encoder `{name}`: its weights could not be fetched from the hub ({cause}); check the name's tag and the "
            "network, or set `encoder_weights: none`, a .safetensors or .pth file, or package:NAME/FILE"
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else "no message"
