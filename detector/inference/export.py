"""A checkpoint as one file that other runtimes run: ONNX (`.onnx`) or torch.export (`.pt2`).

The graph is `image` (B, 3, H, W) float32 -> `prob` (B, H, W) float32 in [0, 1], for any B and any H and W that are
multiples of 32, in fp32 whatever precision the model was trained in. `image` is RGB, (x / 255 - mean) / std. What else
prediction needs travels in the file, as `detector.inference.exported.facts_of` gives it: metadata properties of the
ONNX file, `metadata.json` among the extra files of the `.pt2` archive.

`.pt2` files are written here and never read: `torch.export.load` unpickles parts of an archive, so that loading one
can run its author's code. Load only your own.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as tracing
from torch.nn import functional as F

from detector import checkpoint
from detector.errors import InputError
from detector.files import replacing
from detector.inference.bundle import is_bundle
from detector.inference.exported import EXTRA, INPUT, OUTPUT, facts_of
from detector.inference.network import MULTIPLE
from detector.model.detector import Detector

SUFFIXES: Final = (".onnx", ".pt2")
METADATA: Final = "metadata.json"


def export(folder: Path, out: Path) -> str:
    """Write the network of a checkpoint to `out`, atomically; the suffix chooses the format. Returns the digest.

    Raises:
        CheckpointError: `folder` is no checkpoint.
        InputError: the suffix is neither, `folder` is a bundle, or a package that ONNX needs is not installed.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"-o {out}: a .onnx or .pt2 file expected; rename it")
    if is_bundle(folder):
        raise InputError(f"{folder}: is a bundle of several networks; export its members, {folder}/members/0 and so on")
    model, config = checkpoint.load(folder)
    digest = str(checkpoint.load_meta(folder)["digest"])
    facts = facts_of(config, digest)
    program = trace(model)
    with replacing(out) as draft:
        if out.suffix.lower() == ".pt2":
            torch.export.save(program, draft, extra_files={METADATA: json.dumps(facts, ensure_ascii=False)})
        else:
            _write_onnx(program, facts, draft)
    return digest


def trace(model: Detector) -> ExportedProgram:
    """The graph of a model's probabilities, for all batches and canvases."""
    # Contiguous weights: strides of channels_last would be compared in the graph, and a canvas of one cell differs.
    _pad_by_constants(model)
    network = _Probabilities(model).eval().to(memory_format=torch.contiguous_format)
    sizes = {0: Dim("batch", min=1), 2: MULTIPLE * Dim("rows", min=1), 3: MULTIPLE * Dim("columns", min=1)}
    example = torch.zeros(2, 3, 2 * MULTIPLE, 3 * MULTIPLE)
    # Unless told so, a size of 1 (one image, a receipt of one cell's width) is taken for a case of its own and refused.
    with torch.no_grad(), tracing.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]  # made at import
        return torch.export.export(network, (example,), dynamic_shapes=(sizes,))


class _Probabilities(nn.Module):
    """What is exported: the probability branch alone."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model.probabilities(image)


class _SameOnMultiples(nn.Module):
    """TensorFlow's "same" convolution where the stride divides the input's sides: its padding is then a constant."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        # out = in / s: (out - 1) s + (k - 1) d + 1 - in = (k - 1) d + 1 - s px are missing, the odd one at the end
        rows, columns = (
            max((k - 1) * d + 1 - s, 0) for k, d, s in zip(conv.kernel_size, conv.dilation, conv.stride, strict=True)
        )
        self.sides = columns // 2, columns - columns // 2, rows // 2, rows - rows // 2

    def forward(self, x_BCHW: Tensor) -> Tensor:
        conv = self.conv
        return F.conv2d(F.pad(x_BCHW, self.sides), conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


def _pad_by_constants(model: nn.Module) -> None:
    """Put constants for the paddings that timm's tf_* encoders compute from each input's size.

    Canvases are multiples of 32 and strides multiply to 32, so each stride divides its input. Traced as they are, the
    nested formulas of tf_efficientnet_lite0 keep the tracer busy for more than a quarter of an hour.
    """
    from timm.layers import Conv2dSame

    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv2dSame):
                setattr(parent, name, _SameOnMultiples(child))


def _write_onnx(program: ExportedProgram, facts: dict[str, str], path: Path) -> None:
    try:
        import onnxscript  # noqa: F401 (torch's exporter asks for it halfway)
    except ImportError as error:
        raise InputError(f"-o {path.suffix}: writing ONNX needs onnxscript, which is not installed; {EXTRA}") from error
    with _quiet():
        made: Any = torch.onnx.export(
            program, (), dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT], external_data=False
        )
    made.model.metadata_props.update(facts)
    made.save(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes about its own passes, which say nothing to a user."""
    names = ("onnxscript", "onnx_ir", "torch.onnx")
    before = [logging.getLogger(name).level for name in names]
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in zip(names, before, strict=True):
            logging.getLogger(name).setLevel(level)
