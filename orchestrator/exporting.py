"""The `export` command: a checkpoint, wherever it is named, as one file for other runtimes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from detector.errors import InputError
from orchestrator.commands import Answer
from orchestrator.predicting import model_of


def export(arguments: Namespace) -> Answer:
    """Write a checkpoint as ONNX or torch.export."""
    from detector.inference.export import export as write

    out = Path(arguments.output)
    if out.exists() and not arguments.force:
        raise InputError(f"-o {out}: exists already; choose another name or give --force")
    digest = write(model_of(arguments), out)
    return f"{digest[:16]}, {out.stat().st_size / 1e6:.1f} MB -> {out}", 0


def arguments(parser: ArgumentParser) -> None:
    """What `export` takes."""
    parser.add_argument(
        "model",
        metavar="CHECKPOINT",
        help="folder of a checkpoint, MLflow URI (runs:/ID/checkpoint), or `champion` with --plan",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=".onnx, or .pt2 (torch.export)")
    parser.add_argument("--plan", help="whose champion: a plan file or a workspace folder")
    parser.add_argument("--force", action="store_true", help="write over an existing file")
