"""An exported `.onnx` file as a network: run by onnxruntime, with neither torch nor the checkpoint.

The file says all that prediction needs in its metadata (strings, see `facts_of`): the config with image size and
thresholds, the checkpoint's digest, and how a canvas is made; one whose canvases this program would make otherwise is
refused. Shapes: H, W canvas height and width in px.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detector.config import Config
from detector.errors import CheckpointError, InputError
from detector.geometry import BORDER_RGB, IMAGENET_MEAN, IMAGENET_STD
from detector.inference.network import MULTIPLE
from detector.types import Float32

FORMAT = "1"
INPUT, OUTPUT = "image", "prob"
REMEDY = "export the checkpoint again"
EXTRA = "install the extra: pip install 'text-detection-orchestrator[export]'"


def facts_of(config: Config, digest: str) -> dict[str, str]:
    """What an exported file carries beside the graph, as text."""
    return {
        "format": FORMAT,
        "digest": digest,
        "config": json.dumps(config.model_dump(mode="json"), ensure_ascii=False),
        "canvas": json.dumps(_CANVAS),
    }


_CANVAS = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "border_rgb": BORDER_RGB, "multiple": MULTIPLE}


class OnnxNetwork:
    """An onnxruntime session over an exported file; threads as OMP_NUM_THREADS says, else all cores."""

    def __init__(self, session: Any, digest: str) -> None:
        self._session = session
        self.digest = digest

    def __call__(self, canvas_3HW: Float32) -> Float32:
        found: Float32 = self._session.run([OUTPUT], {INPUT: canvas_3HW[None]})[0][0]
        return found


def load_onnx(path: Path, device: str | None = None) -> tuple[OnnxNetwork, Config]:
    """The network of an exported file and its config.

    Args:
        device: `cpu`, or `cuda` with onnxruntime's build for GPUs; a GPU where that build finds one, unless given.

    Raises:
        InputError: onnxruntime is not installed, or has no such device.
        CheckpointError: the file is missing, damaged, or was not written by `detector.inference.export`.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path}: an .onnx file needs onnxruntime, which is not installed; {EXTRA}") from error
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; check the path")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised as well; not its notes about the machine
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    providers = _providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its own exceptions have no base of their own
        line = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: onnxruntime cannot read it ({line}); {REMEDY}") from error
    facts = dict(session.get_modelmeta().custom_metadata_map)
    return OnnxNetwork(session, facts.get("digest", "")), _config(path, facts)


def _providers(device: str | None, available: list[str]) -> list[Any]:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    if device == "cpu" or (device is None and cuda not in available):
        return [cpu]
    kind, _, number = (device or "cuda").partition(":")
    if kind != "cuda" or cuda not in available or not (number or "0").isdigit():
        raise InputError(
            f"--device {device}: onnxruntime has only {', '.join(available)} here; choose cpu, or install "
            "onnxruntime-gpu for cuda"
        )
    return [(cuda, {"device_id": int(number or 0)}), cpu]


def _config(path: Path, facts: Mapping[str, str]) -> Config:
    """The config in a file's metadata, once its other facts are what this program works with."""
    if facts.get("format") != FORMAT or "config" not in facts:
        found = facts.get("format")
        raise CheckpointError(
            f"{path}: metadata: `format` must be {FORMAT} with a config, got {found!r}: not a file of this program's "
            f"`export`; {REMEDY}"
        )
    if facts.get("canvas") != json.dumps(_CANVAS):
        raise CheckpointError(
            f"{path}: metadata: `canvas` must be {json.dumps(_CANVAS)}, got {facts.get('canvas')}; {REMEDY}"
        )
    try:
        return Config.model_validate_json(facts["config"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("config", *first["loc"]))
        raise CheckpointError(f"{path}: metadata: {place}: {first['msg']}; {REMEDY}") from error
