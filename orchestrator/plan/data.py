"""The pages of a plan: read or made, checked for leaks between train and val, and given a digest.

Hashing gigabytes of images would make every command slow, so content hashes are kept in `<workspace>/data/hashes.json`
under (path, size, time of change); whoever writes over an image without touching both of these deserves the surprise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

from detector.errors import DataError
from detector.files import read_json, write_json
from detector.types import Page, Word
from detector.version import TRAINING
from orchestrator.plan import fold_files
from orchestrator.plan.datasets import DataFacts, Datasets
from orchestrator.plan.folds import RULES, Sheet, assign, sizes_of
from orchestrator.plan.schema_data import DataSpec, FoldSpec
from orchestrator.plan.synthetic import PARTS, make_synthetic, synthetic_folder

SHOWN = 3  # names in a message
TWINS = 50  # pairs, each of which has to be looked at


def present(spec: DataSpec, workspace: Path) -> bool:
    """Whether all that a training needs is there, by names of files and folders alone."""
    if spec.folds is not None and spec.folds.file is not None and not Path(spec.folds.file).is_file():
        return False
    if spec.synthetic is not None:
        return (synthetic_folder(spec.synthetic, workspace) / "made.json").is_file()
    parts = [part for part in (spec.train, spec.val) if part is not None]
    return all(Path(part.annotations).is_file() and Path(part.images).is_dir() for part in parts)


def missing(spec: DataSpec) -> tuple[str, ...]:
    """The files and folders that a plan names and that are not there."""
    named = [part for part in (spec.train, spec.val) if part is not None]
    wanted = [(Path(part.annotations), Path.is_file) for part in named] + [(Path(p.images), Path.is_dir) for p in named]
    wanted += [(Path(spec.test.images), Path.is_dir)] if spec.test is not None else []
    wanted += [(Path(spec.folds.file), Path.is_file)] if spec.folds is not None and spec.folds.file is not None else []
    return tuple(dict.fromkeys(str(path) for path, there in wanted if not there(path)))


def read_datasets(spec: DataSpec, workspace: Path) -> Datasets:
    """All pages of a plan; synthetic ones are made on the first call.

    Raises:
        DataError: a file is missing or unreadable, a set is empty, or a page is in train and in val.
    """
    from detector.data.formats import read_images  # loads OpenCV: only where pages are read
    from detector.data.index import bare, open_annotations

    places = places_of(spec, workspace)
    readings = [open_annotations(*places[part], workspace / "data" / "index") for part in ("train", "val")]
    train, val = (reading.pages for reading in readings)
    test = read_images(places["test"][1]) if "test" in places else ()
    for name, pages in (("train", train), ("val", val)):
        if not pages:
            raise DataError(f"data.{name}: no pages; a set needs at least one")
    hashes = image_hashes(chain(bare(train), bare(val)), workspace)
    _refuse_leaks(tuple(bare(train)), tuple(bare(val)), hashes)
    folds = _folds(spec.folds, train, hashes, workspace) if spec.folds is not None else ()
    notes = tuple(note for reading in readings for note in reading.notes)
    return Datasets(train, val, test, _digest(train, val, hashes), folds, notes)


def places_of(spec: DataSpec, workspace: Path) -> dict[str, tuple[Path, Path]]:
    """Annotation file and image folder of each part; the test part's annotations are not read."""
    if spec.synthetic is not None:
        folder = make_synthetic(spec.synthetic, workspace)
        parts = [part for part in PARTS if getattr(spec.synthetic, part)]
        return {part: (folder / part / "annotations.json", folder / part / "images") for part in parts}
    places = {
        name: (Path(part.annotations), Path(part.images))
        for name, part in (("train", spec.train), ("val", spec.val))
        if part is not None
    }
    if spec.test is not None:
        places["test"] = (Path(), Path(spec.test.images))
    return places


def facts_of(datasets: Datasets) -> DataFacts:
    """The facts of pages that were read."""
    return DataFacts(
        train=len(datasets.train),
        val=len(datasets.val),
        test=len(datasets.test),
        train_words=sum(len(page.words) for page in datasets.train),
        val_words=sum(len(page.words) for page in datasets.val),
        digest=datasets.digest,
        folds=max(datasets.folds, default=-1) + 1,
        folds_digest=folds_digest(datasets),
        notes=datasets.notes,
        fold_sizes=sizes_of(datasets.folds),
        fold_words=sizes_of(datasets.folds, _word_counts(datasets.train)) if datasets.folds else (),
    )


def read_facts(spec: DataSpec, workspace: Path) -> DataFacts | None:
    """The facts of a plan's pages; None while they are not there.

    Reading 400,000 words takes 10 s, so the facts are kept in `<workspace>/data/facts.json` under the names, sizes and
    times of change of all files.
    """
    if not present(spec, workspace):
        return None
    cache_path = workspace / "data" / "facts.json"
    signature = state_of(spec, workspace)
    known = _known(cache_path)
    if known.get("signature") == signature:
        try:
            lists = {key: tuple(known["facts"][key]) for key in ("notes", "fold_sizes", "fold_words")}
            return DataFacts(**{**known["facts"], **lists})
        except (KeyError, TypeError):  # written by another version
            pass
    facts = facts_of(read_datasets(spec, workspace))
    _keep(cache_path, {"signature": signature, "facts": asdict(facts)})
    return facts


def state_of(spec: DataSpec, workspace: Path) -> str:
    """Over the plan's data section, the code that reads, and the state of every file."""
    digest = blake2b(f"{TRAINING} {RULES} {spec.model_dump_json()}".encode(), digest_size=16)
    if spec.folds is not None and spec.folds.file is not None:
        stat = Path(spec.folds.file).stat()
        digest.update(f"folds {stat.st_size} {stat.st_mtime_ns}\n".encode())
    for part, (listed, images) in sorted(places_of(spec, workspace).items()):
        stat = listed.stat()
        digest.update(f"{part} {listed} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        with os.scandir(images) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                stat = entry.stat()
                digest.update(f"{entry.name} {stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def folds_digest(datasets: Datasets) -> str:
    """Over which page is in which fold; empty without folds."""
    from detector.data.index import bare

    names = [page.name for page in bare(datasets.train)] if datasets.folds else []
    return fold_files.digest_of(names, datasets.folds)


# --- reading ---------------------------------------------------------------------------------------------------------


def image_hashes(pages: Iterable[Page], workspace: Path) -> dict[Path, str]:
    """Content hash of every image, from the cache where size and time of change are as they were."""
    cache_path = workspace / "data" / "hashes.json"
    known = _known(cache_path)
    stats = {page.path: page.path.stat() for page in pages}
    keys = {path: f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}" for path, stat in stats.items()}
    new = [path for path, key in keys.items() if key not in known]
    if new:
        with ThreadPoolExecutor(max_workers=8) as pool:
            fresh = {keys[path]: content for path, content in zip(new, pool.map(_hash, new), strict=True)}
        known = {key: known[key] for key in keys.values() if key in known} | fresh
        _keep(cache_path, known)
    return {path: known[key] for path, key in keys.items()}


def _keep(cache_path: Path, value: Mapping[str, Any]) -> None:
    try:
        write_json(cache_path, value, indent=None)
    except OSError:  # `check` by someone who may not write here: it costs time, nothing else
        return


def _known(cache_path: Path) -> dict[str, Any]:
    if not cache_path.is_file():
        return {}
    try:
        found = read_json(cache_path)
    except DataError:  # a cache that cannot be read is made again
        return {}
    return found if isinstance(found, dict) else {}


def _hash(path: Path) -> str:
    digest = blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _folds(spec: FoldSpec, train: Sequence[Page], hashes: Mapping[Path, str], workspace: Path) -> tuple[int, ...]:
    """The fold of each training page: of the user's file, or dealt once and kept in the workspace."""
    from detector.data.index import bare

    given = spec.model_dump(mode="json", exclude_none=True)
    counts = _word_counts(train)
    known = [Sheet(page.name, words, 0, hashes[page.path]) for page, words in zip(bare(train), counts, strict=True)]
    place = fold_files.place_of(known, given, workspace)
    folds = fold_files.kept(place, known)
    if spec.file is not None:
        own = fold_files.read_folds(Path(spec.file), known, spec.k)
        if own != folds:
            fold_files.keep(place, known, own, given)
        return own
    if folds is None:
        sheets = [replace(sheet, area=_area(page.path)) for sheet, page in zip(known, bare(train), strict=True)]
        folds = assign(sheets, spec.k, spec.seed, spec.group)
        fold_files.keep(place, sheets, folds, given)
    return folds


def _area(path: Path) -> int:
    from detector.data.images import image_size

    try:
        width, height = image_size(path)
    except DataError:  # `check` names all such files at once; with another in its place, folds are dealt anew
        return 0
    return width * height


def _word_counts(pages: Sequence[Page]) -> list[int]:
    from detector.data.index import PageIndex

    return pages.word_counts() if isinstance(pages, PageIndex) else [len(page.words) for page in pages]


# --- checks and digest -----------------------------------------------------------------------------------------------


def _refuse_leaks(train: Sequence[Page], val: Sequence[Page], hashes: Mapping[Path, str]) -> None:
    names = {page.name for page in train}
    shared = [page.name for page in val if page.name in names]
    if shared:
        raise DataError(
            f"data: {len(shared)} names are in train and in val ({_some(shared)}); a model must not be scored on what "
            "it has learned from: remove them from one"
        )
    contents = {hashes[page.path]: page.name for page in train}
    twins = [f"{contents[h]} = {page.name}" for page in val if (h := hashes[page.path]) in contents]
    if twins:
        raise DataError(
            f"data: {len(twins)} images of val are byte for byte in train under other names ({_some(twins, TWINS)}); "
            "remove them from one"
        )


def _some(items: Sequence[str], shown: int = SHOWN) -> str:
    more = f", {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


def _digest(train: Sequence[Page], val: Sequence[Page], hashes: Mapping[Path, str]) -> str:
    """Over names, image contents and words of both sets; test pages change no training. The order of pages counts,
    since it is the order that training shuffles from."""
    digest = blake2b(digest_size=8)
    for label, pages in (("train", train), ("val", val)):
        digest.update(f"{label} {len(pages)}\n".encode())
        for page in pages:
            digest.update(f"{page.name} {hashes[page.path]} {len(page.words)}\n".encode())
            for word in page.words:
                digest.update(_word(word))
    return digest.hexdigest()


def _word(word: Word) -> bytes:
    # Transcriptions count: with the official variant of the metric they decide the number of characters.
    head = json.dumps([word.id, word.transcription, word.ignore, word.polygon_V2.shape[0]], ensure_ascii=True)
    return head.encode() + word.polygon_V2.astype("<f8").tobytes()
