"""The `predict` command: a model, wherever it is named, finds the words of images and writes them to files.

Pages are found one by one and kept beside the output (see `detector.inference.partial`), then written in their order: a
killed command goes on where it was, and its files are those of one that was left alone, byte for byte. Here, or with
`--workers` on Ray's, in pieces of a few pages.
"""

from __future__ import annotations

import errno
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detector.errors import DataError, InputError
from orchestrator.commands import Answer, workspace_of

if TYPE_CHECKING:
    from detector.data.word_counts import WordCounts
    from detector.inference.described import Described
    from detector.inference.partial import Partial, Place
    from detector.inference.predict import Predictor
    from detector.types import Detections, Page

MLFLOW_SCHEMES: Final = ("runs:/", "models:/", "mlflow-artifacts:/")
# Pages of one task: its predictor stays with Ray's worker, so that a piece costs little and a killed run loses little.
PIECE_PAGES: Final = 8


def arguments(parser: ArgumentParser) -> None:
    """What `predict` takes."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder of a checkpoint or ensemble, .onnx file of `export`, MLflow URI (runs:/ID/checkpoint); with "
        "--plan `champion`, an ensemble, the folds of an experiment (PHASE/EXPERIMENT), or a trial",
    )
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="folders or image files")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help=".csv (submission) or .json (annotations)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the annotations there as well")
    parser.add_argument("--plan", help="whose model, and who keeps a record: a plan file or a workspace folder")
    parser.add_argument("--workers", metavar="N|auto", help="so many Ray tasks at once; default: this process alone")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU where there is one")
    parser.add_argument("--force", action="store_true", help="write over existing files")


def predict(arguments: Namespace) -> Answer:
    """Find the words of images and write them to a file."""
    from detector.inference.described import describe
    from detector.inference.partial import opened

    outs = _outputs(arguments)
    workers = _workers(arguments.workers)
    pages = _pages([Path(path) for path in arguments.images])
    started_s = time.perf_counter()
    model = model_of(arguments)
    about = describe(model)
    try:
        with opened(outs[0], {"model": about.digest, "device": arguments.device}) as partial:
            places = partial.found(pages)
            reused = len(places)
            left = [page for page in pages if page.name not in places]
            _find(model, about.digest, left, partial, arguments.device, workers)
            places |= partial.mine()
            words = _write(outs, pages, places)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"-o {outs[0]}: its disk is full; free some space and run the command again: it goes on where it was"
        ) from error
    again = f" ({reused} of them found before)" if reused else ""
    seconds = time.perf_counter() - started_s
    told = [f"{len(pages)} pages{again}, {words} words, {seconds:.1f} s -> {', '.join(map(str, outs))}"]
    sound = True
    for out in outs:
        if out.suffix.lower() == ".csv":
            sound = _check(out, pages, about.training, told) and sound
            _note(out, model, about, arguments)
    return "\n".join(told), 0 if sound else 1


def model_of(arguments: Namespace) -> Path:
    """The folder of a checkpoint or bundle, wherever it is named: as a path, in MLflow, or in a plan's workspace."""
    named: str = arguments.model
    if named.startswith(MLFLOW_SCHEMES):
        from orchestrator.tracking.views import download

        return download(named, workspace_of(arguments) if arguments.plan else None)
    if Path(named).exists() and named != "champion":
        return Path(named)
    if arguments.plan is None:
        if named == "champion":
            raise InputError("predict champion: of which plan? give --plan PLAN (or a workspace folder)")
        return Path(named)  # whoever reads it says what is missing
    from orchestrator.evaluation.models import named_model

    return named_model(workspace_of(arguments), named)


def _outputs(arguments: Namespace) -> list[Path]:
    """The files to write, the submission first."""
    outs = [Path(arguments.output)]
    if outs[0].suffix.lower() not in (".csv", ".json"):
        raise InputError(f"-o {outs[0]}: a .csv (submission) or .json (annotations) file expected; rename it")
    if arguments.json is not None:
        outs.append(Path(arguments.json))
        if outs[1].suffix.lower() != ".json" or outs[0].absolute() == outs[1].absolute():
            raise InputError(f"--json {outs[1]}: a .json file other than that of -o expected; rename it")
    for name, out in zip(("-o", "--json"), outs, strict=False):
        if out.exists() and not arguments.force:
            raise InputError(f"{name} {out}: exists already; choose another name or give --force")
    return outs


def _workers(text: str | None) -> int | None:
    """Ray tasks at once: None for no Ray, 0 for as many as it holds."""
    if text is None or text == "auto":
        return None if text is None else 0
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--workers {text}: a number of 1 or more, or `auto`, expected; 1 is one Ray task at a time")
    return int(text)


def _find(
    model: Path, digest: str, pages: Sequence[Page], partial: Partial, device: str | None, workers: int | None
) -> None:
    """Predict pages into the partial results."""
    if not pages:
        return
    if workers is None:
        with _bar(len(pages)) as advance:
            _find_here(Piece(model, digest, device, partial.file(0), tuple(pages)), advance)
        return
    from orchestrator.execution.tasks import run_tasks

    pieces = [
        Piece(
            model.absolute(),
            digest,
            device,
            partial.file(number),
            tuple(replace(page, path=page.path.absolute()) for page in pages[start : start + PIECE_PAGES]),
        )
        for number, start in enumerate(range(0, len(pages), PIECE_PAGES))
    ]
    with _bar(len(pages)) as advance:
        run_tasks(find_words, pieces, lambda piece: advance(len(piece.pages)), at_most=workers or None)


@dataclass(frozen=True, slots=True)
class Piece:
    """Work of one process: pages, and the file that takes what is found on them."""

    model: Path
    digest: str
    device: str | None
    file: Path
    pages: tuple[Page, ...]


def find_words(piece: Piece, on_gpu: bool) -> None:
    """Find the words of a piece's pages; runs in a Ray task."""
    _find_here(replace(piece, device=piece.device or ("cuda" if on_gpu else "cpu")))


def _find_here(piece: Piece, advance: Callable[[int], None] = lambda _: None) -> None:
    from detector.inference.partial import Lines

    predictor = _predictor(piece.model, piece.digest, piece.device)
    with Lines(piece.file) as lines:
        for page in piece.pages:
            lines.add(page, predictor.words(page))
            advance(1)


@lru_cache(maxsize=1)
def _predictor(model: Path, digest: str, device: str | None) -> Predictor:
    """A worker keeps its network between pieces; `digest` makes a model that was replaced another one."""
    from detector.inference.predict import Predictor

    return Predictor.load(model, device)


def _write(outs: Sequence[Path], pages: Sequence[Page], places: Mapping[str, Place]) -> int:
    """Write every file, page after page; how many words there are. What is written is not held."""
    from detector.data.formats import write_annotations, write_submission
    from detector.inference.partial import results

    words = 0

    def found() -> Iterator[tuple[Page, Detections]]:
        nonlocal words
        words = 0
        for page, detections in results(pages, places):
            words += len(detections.polygons)
            yield page, detections

    for out in outs:
        if out.suffix.lower() == ".csv":
            write_submission(out, ((page.name, detections.polygons) for page, detections in found()))
        else:
            write_annotations(out, (_annotated(page, detections) for page, detections in found()))
    return words


def _check(out: Path, pages: Sequence[Page], training: WordCounts | None, told: list[str]) -> bool:
    """Look the submission over; what is wrong or odd is told."""
    from detector.data.check_submission import check_submission

    checked = check_submission(out, pages, training)
    told += checked.lines()
    return checked.sound


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, moved on by so many pages; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("pages", total=total)
        yield lambda pages: bar.advance(task, pages)


def _note(out: Path, model: Path, about: Described, arguments: Namespace) -> None:
    """Keep, in the workspace that the model is of, that it made this file."""
    from orchestrator.evaluation.submitted import note_made, workspace_around

    workspace = workspace_of(arguments) if arguments.plan else workspace_around(model)
    if workspace is not None:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        note_made(workspace, out.absolute(), about, arguments.model, now)


def _pages(paths: Sequence[Path]) -> list[Page]:
    from detector.data.formats import read_images
    from detector.types import Page

    pages: list[Page] = []
    for path in paths:
        if path.is_dir():
            pages += read_images(path)
        elif path.is_file():
            pages.append(Page(path.name, path))
        else:
            raise DataError(f"{path}: there is no such file or folder; check the path")
    twice = sorted(name for name, times in Counter(page.name for page in pages).items() if times > 1)
    if twice:
        raise DataError(f"images: {twice[0]} is there twice; predictions are kept by file name, so rename one")
    return pages


def _annotated(page: Page, found: Detections) -> Page:
    """A page with its detections as words, numbered as the competition does."""
    from detector.types import Word

    words = (Word(f"{number:04d}", polygon) for number, polygon in enumerate(found.polygons, start=1))
    return replace(page, words=tuple(words))
