"""The `fuse` command: box lists of models from outside, made one by weighted votes."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detector.errors import DataError, InputError
from orchestrator.commands import Answer, workspace_of

if TYPE_CHECKING:
    from detector.types import Float64

IOU: Final = 0.5  # of `detector.inference.boxes`, which loads numba: `--help` must not wait for it
VOTES: Final = 0.5


def arguments(parser: ArgumentParser) -> None:
    """What `fuse` takes."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="submission .csv of models that give no maps")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="submission .csv")
    parser.add_argument("--weights", nargs="+", type=float, metavar="W", help="one a file, > 0; default: equal")
    parser.add_argument("--iou", type=float, default=IOU, metavar="0..1", help="boxes that overlap so are one word")
    parser.add_argument(
        "--votes", type=float, default=VOTES, metavar="0..1", help="a word needs more than this share of all weight"
    )
    parser.add_argument(
        "--plan",
        metavar="PLAN",
        help="a plan or workspace whose own files are refused; those under ./workspace are looked at anyway",
    )
    parser.add_argument("--force", action="store_true", help="write over an existing file")


def fuse(arguments: Namespace) -> Answer:
    """Fuse box lists of models from outside by weighted votes; own models are fused as maps."""
    from detector.data.formats import read_submission, write_submission

    out, files = Path(arguments.output), [Path(file) for file in arguments.files]
    weights = _checked(arguments, out, files)
    _refuse_own(files, arguments)
    lists = [read_submission(file) for file in files]
    for file, other in zip(files[1:], lists[1:], strict=True):
        if odd := sorted(set(lists[0]) ^ set(other)):
            raise DataError(
                f"{file}: must have the images of {files[0]}, but {odd[0]} is in one alone ({len(odd)} such images); "
                "add the lines that are missing, `NAME,` for an image without words"
            )
    written = 0

    def pages() -> Iterator[tuple[str, Sequence[Float64]]]:
        nonlocal written
        for name, boxes in _fused(lists, weights, arguments):
            written += len(boxes)
            yield name, boxes

    write_submission(out, pages())
    held = [sum(map(len, found.values())) for found in lists]
    counts = ", ".join(f"{count} of {file.name}" for file, count in zip(files, held, strict=True))
    return f"{len(lists[0])} images: {counts} -> {written} boxes -> {out}", 0


def _fused(
    lists: Sequence[Mapping[str, Sequence[Float64]]], weights: Sequence[float] | None, arguments: Namespace
) -> Iterator[tuple[str, Sequence[Float64]]]:
    from detector.inference.boxes import fuse_boxes

    for name in lists[0]:
        yield name, fuse_boxes([found[name] for found in lists], weights, arguments.iou, arguments.votes)


def _checked(arguments: Namespace, out: Path, files: Sequence[Path]) -> Sequence[float] | None:
    """The weights, once all numbers fit together."""
    weights: Sequence[float] | None = arguments.weights
    if len(files) < 2:
        raise InputError(f"fuse: two files at least, got {len(files)}; one needs no fusing")
    if out.suffix.lower() != ".csv":
        raise InputError(f"-o {out}: a .csv file expected; rename it")
    if out.exists() and not arguments.force:
        raise InputError(f"-o {out}: exists already; choose another name or give --force")
    if weights is not None and len(weights) != len(files):
        raise InputError(f"--weights: one for each of the {len(files)} files, got {len(weights)}")
    if weights is not None and not all(0 < weight < float("inf") for weight in weights):
        raise InputError(f"--weights: `weight > 0` must hold, got {weights}; leave a file without weight out")
    if not 0 < arguments.iou <= 1:
        raise InputError(f"--iou: `0 < iou <= 1` must hold, got {arguments.iou:g}; {IOU:g} is the default")
    if not 0 <= arguments.votes < 1:
        raise InputError(f"--votes: `0 <= votes < 1` must hold, got {arguments.votes:g}; {VOTES:g} is a majority")
    return weights


def _refuse_own(files: Sequence[Path], arguments: Namespace) -> None:
    """Files whose models are here have maps."""
    from orchestrator.evaluation.submitted import known_workspaces, maker

    own = [workspace_of(arguments)] if arguments.plan else []
    roots = [Path(os.environ.get("ORCHESTRATOR_WORKSPACE") or "workspace")]
    places = list(dict.fromkeys([*own, *known_workspaces(roots)]))
    for file in files:
        found = maker(places, file)
        if found is not None:
            workspace, made = found
            raise InputError(
                f"{file}: was made by {made.origin} ({made.model['digest'][:16]}) of {workspace}, whose maps "
                "can be had: box votes are for models from outside; fuse maps with an `ensemble:` experiment in a plan"
            )
