"""The `predict` command: a model, wherever it is named, finds the words of images and writes them to a file."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from detector.errors import DataError, InputError
from orchestrator.commands import Answer, progress, workspace_of

MLFLOW_SCHEMES: Final = ("runs:/", "models:/", "mlflow-artifacts:/")


def predict(arguments: Namespace) -> Answer:
    """Find the words of images and write them to a file."""
    from detector.data.formats import write_submission
    from detector.inference.predict import Predictor

    out = Path(arguments.output)
    if out.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"-o {out}: a .csv (submission) or .json (annotations) file expected; rename it")
    if out.exists() and not arguments.force:
        raise InputError(f"-o {out}: exists already; choose another name or give --force")
    pages = _pages([Path(path) for path in arguments.images])
    started_s = time.perf_counter()
    predictor = Predictor.load(model_of(arguments), arguments.device)
    found = {page.name: predictor.words(page) for page in progress(pages, "pages", len(pages))}
    if out.suffix.lower() == ".csv":
        write_submission(out, {name: words.polygons for name, words in found.items()})
    else:
        _write_words(out, pages, found)
    count = sum(len(words.polygons) for words in found.values())
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


def _pages(paths: Sequence[Path]) -> list[Any]:
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
    names = [page.name for page in pages]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"images: {twice[0]} is there twice; predictions are kept by file name, so rename one")
    return pages


def _write_words(out: Path, pages: Sequence[Any], found: Any) -> None:
    from detector.data.formats import write_annotations
    from detector.types import Page, Word

    write_annotations(
        out,
        [
            Page(
                page.name,
                page.path,
                tuple(Word(f"{i:04d}", polygon) for i, polygon in enumerate(found[page.name].polygons, start=1)),
            )
            for page in pages
        ],
    )
