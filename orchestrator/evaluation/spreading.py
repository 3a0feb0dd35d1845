"""Pages scored here while that is quick, and on the cluster's cores where it is not.

Scoring is Python between short compiled loops, so threads of one process wait for each other: two gain a tenth. A few
pages are scored here; if the rest would take longer than `SPREAD_S`, it goes to Ray's workers, a piece of pages at a
time, with the maps that it needs. Every page is scored by the same function on the same inputs: no number depends on
where it was made.

    <workspace>/maps/scored-<key>/<request>/
        00000.npy ...   one page: what `Score` gives

Counts of thousands of rules on hundreds of pages are hundreds of MB for each weighting. A large request, and whatever
the cluster does, is kept in these files and mapped, not held; a search that was killed finds them again. They lie in
the cache of maps and count towards its size; a search that ends well removes its own.

Shapes: N pages, T rows of a score (a blend and a rule each), F fields of `Counts`.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.files import write_bytes
from detector.metrics.cleval import Counts
from detector.types import Page
from orchestrator.evaluation.map_cache import evict, hold, room
from orchestrator.evaluation.scatter import SCORES_FORMAT

SPREAD_S: Final = 30.0  # Ray's start and its workers' imports take 10-15 s, and two cores save at most a half
PIECE_S: Final = 5.0  # of one worker: little is lost with it, and the last piece keeps few waiting
PROBES: Final = 2  # pages by which a request is judged: the first compiles and fills caches, the second tells its time
LARGE_BYTES: Final = 64_000_000  # of a request; also at most what a piece sends back

PageCounts = NDArray[np.int32]  # (T, F)


class Score(Protocol):
    """What is scored on a page."""

    def __call__(self, page: Page, /) -> PageCounts: ...

    def packed(self, names: Sequence[str], /) -> Score:
        """The same for these pages, with all that it reads inside."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where scores are kept while a search goes on.

    Attributes:
        folder: inside `workspace`, absolute.
    """

    workspace: Path
    folder: Path

    def of(self, request: object) -> Scratch:
        """A place for one request, told by all that its scores depend on beside the search's key; plain JSON values."""
        text = json.dumps([SCORES_FORMAT, request], sort_keys=True)
        return Scratch(self.workspace, self.folder / blake2b(text.encode(), digest_size=8).hexdigest())

    def file(self, index: int) -> Path:
        """The file of a page."""
        return self.folder / f"{index:05d}.npy"


@contextmanager
def scratch(workspace: Path, key: str) -> Iterator[Scratch]:
    """A folder for the scores of one search, removed unless the search fails or is killed.

    Args:
        key: digest of models, images and rules.
    """
    folder = (workspace / "maps" / f"scored-{key}").absolute()
    with hold(folder):
        yield Scratch(workspace, folder)
    evict(folder)


@dataclass(frozen=True, slots=True)
class Piece:
    """Work of one task: pages, and the files that take their scores."""

    score: Score
    pages: tuple[Page, ...]
    files: tuple[Path, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        # Packed when it is sent: the maps of all pages at once would not fit into memory.
        return Piece, (self.score.packed([page.name for page in self.pages]), self.pages, self.files)


def score_pages(
    score: Score,
    pages: Sequence[Page],
    rows: int,
    kept: Scratch | None = None,
    *,
    threads: int | None = None,
    on_pages: Callable[[int, int], None] | None = None,
    spread_s: float = SPREAD_S,
) -> list[PageCounts]:
    """The scores of all pages, in their order.

    Args:
        rows: of each score.
        kept: where they are looked for, and kept where they are many; without it all is done and held here.
        threads: of this process; None takes the machine's cores.
        on_pages: called with (pages done, pages in all).
        spread_s: what the rest must take here to go to the cluster.
    """
    found: dict[int, PageCounts] = {}
    bytes_of_page = rows * 4 * len(Counts.__slots__)
    large = kept is not None and bytes_of_page * len(pages) > LARGE_BYTES
    if kept is not None:
        kept.folder.mkdir(parents=True, exist_ok=True)
        # Listed, not asked for one by one: a network disk would remember for a while that a file is not there.
        known = {file.name for file in kept.folder.iterdir()}
        found = {i: _read(kept.file(i)) for i in range(len(pages)) if kept.file(i).name in known}

    def take(index: int, counts_TF: PageCounts) -> None:
        found[index] = counts_TF
        if on_pages:
            on_pages(len(found), len(pages))

    def score_here(index: int) -> PageCounts:
        counts_TF = score(pages[index])
        if not large or kept is None:
            return counts_TF
        _write(kept.file(index), counts_TF)
        return _read(kept.file(index))

    left = [index for index in range(len(pages)) if index not in found]
    if kept is not None and _several_cores():
        each_s = 0.0
        for index in left[:PROBES]:
            began_s = time.perf_counter()
            take(index, score_here(index))
            each_s = time.perf_counter() - began_s
        left = left[PROBES:]
        if each_s * len(left) > spread_s:
            size = min(int(PIECE_S / each_s), LARGE_BYTES // bytes_of_page)
            _spread(score, pages, left, kept, size, take)
            left = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for index, counts_TF in zip(left, pool.map(score_here, left), strict=True):
            take(index, counts_TF)
    return [found[index] for index in range(len(pages))]


def _spread(
    score: Score,
    pages: Sequence[Page],
    left: Sequence[int],
    kept: Scratch,
    size: int,
    take: Callable[[int, PageCounts], None],
) -> None:
    """Score these pages on the cluster's workers, at most `size` of them in a piece."""
    from orchestrator.execution.cluster import capacity, connect
    from orchestrator.execution.tasks import Away, run_tasks
    from orchestrator.storage.places import Place

    connect()
    cores = max(1, int(capacity().cpus))
    size = max(1, min(size, len(left) // (2 * cores)))
    chunks = [left[start : start + size] for start in range(0, len(left), size)]
    pieces = [
        Piece(score, tuple(pages[index] for index in chunk), tuple(kept.file(index) for index in chunk))
        for chunk in chunks
    ]
    index_of = {kept.file(index): index for index in left}

    def done(piece: Piece) -> None:
        for file in piece.files:
            take(index_of[file], _read(file))

    away = Away(Place.of(kept.workspace), _read_by, _made_by)
    run_tasks(score_piece, pieces, done, away=away, gpu=False)


def _read_by(piece: Piece) -> tuple[Path, ...]:
    return ()  # what it reads, it carries


def _made_by(piece: Piece) -> tuple[Path, ...]:
    return piece.files


def score_piece(piece: Piece, on_gpu: bool) -> None:
    """Score the pages of a piece and write what they come to; runs in a Ray task."""
    for page, file in zip(piece.pages, piece.files, strict=True):
        _write(file, piece.score(page))


def _several_cores() -> bool:
    return "RAY_ADDRESS" in os.environ or (os.cpu_count() or 1) > 1


def _write(file: Path, counts_TF: PageCounts) -> None:
    buffer = io.BytesIO()
    np.save(buffer, counts_TF, allow_pickle=False)
    with room(file.parent.parent):
        write_bytes(file, buffer.getvalue())


def _read(file: Path) -> PageCounts:
    counts_TF: PageCounts = np.load(file, mmap_mode="r", allow_pickle=False)
    return counts_TF
