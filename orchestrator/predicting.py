"""The `predict` command: a model, wherever it is named, finds the words of images and writes them to a file."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detector.errors import DataError, InputError
from orchestrator.commands import Answer, progress, workspace_of

if TYPE_CHECKING:
    from detector.types import Detections, Page

MLFLOW_SCHEMES: Final = ("runs:/", "models:/", "mlflow-artifacts:/")


def predict(arguments: Namespace) -> Answer:
    """Find the words of images and write them to a file."""
    from detector.data.formats import write_annotations, write_submission
    from detector.inference.predict import Predictor

    out = Path(arguments.output)
    if out.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"-o {out}: a .csv (submission) or .json (annotations) file expected; rename it")
    if out.exists() and not arguments.force:
        raise InputError(f"-o {out}: exists already; choose another name or give --force")
    pages = _pages([Path(path) for path in arguments.images])
    started_s = time.perf_counter()
    predictor = Predictor.load(model_of(arguments), arguments.device)
    count = 0

    def found() -> Iterator[tuple[Page, Detections]]:
        """Page after page: what is written is not held."""
        nonlocal count
        for page in progress(pages, "pages", len(pages)):
            words = predictor.words(page)
            count += len(words.polygons)
            yield page, words

    if out.suffix.lower() == ".csv":
        write_submission(out, ((page.name, words.polygons) for page, words in found()))
    else:
        write_annotations(out, (_annotated(page, words) for page, words in found()))
    return f"{len(pages)} pages, {count} words, {time.perf_counter() - started_s:.1f} s -> {out}", 0


def model_of(arguments: Namespace) -> Path:
    """The folder of a checkpoint or bundle, wherever it is named: as a path, in MLflow, or as a plan's champion."""
    named: str = arguments.model
    if named.startswith(MLFLOW_SCHEMES):
        from orchestrator.tracking.views import download

        return download(named, workspace_of(arguments) if arguments.plan else None)
    if named != "champion":
        return Path(named)
    if arguments.plan is None:
        raise InputError("predict champion: of which plan? give --plan PLAN (or a workspace folder)")
    from orchestrator.evaluation.champion import read_champion

    workspace = workspace_of(arguments)
    champion = read_champion(workspace)
    if champion is None:
        raise InputError(f"{workspace}: has no champion yet; run the plan first")
    return workspace / champion.path


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
