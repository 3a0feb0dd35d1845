"""Probability maps of checkpoints, computed once on as many Ray workers as there are, then read from files.

    <workspace>/maps/<checkpoint>-<pages>[-<views>]/
        index.json      written last: format, digests, views, and for each page its file
        00000.npz ...   one page: prob_HW uint8 (255 means 1), and the frame that ties it to the image:
                        matrix_33, image_wh, canvas_wh

The folder's name carries the digest of the weights with their config (hence of the resolution), of the pages and of the
views, so no map is ever taken for another's. Pages are written whole, one by one: a killed computation goes on where it
was. With all maps in place Ray is neither imported nor started. The folders are a cache of limited size, see
`orchestrator.evaluation.map_cache`; a store holds its folder for as long as it lives.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from detector.checkpoint import load_meta
from detector.data.formats import pages_digest, read_image
from detector.data.index import PageIndex
from detector.files import write_bytes, write_json
from detector.types import Page
from orchestrator.evaluation.map_cache import hold, limit_bytes, room, trim
from orchestrator.storage.places import Place
from orchestrator.storage.weights import weights_in

if TYPE_CHECKING:
    from detector.inference.predict import PageMap

FORMAT: Final = 1
IDENTITY: Final = ("identity",)
# Pages of one task: enough to pay for loading the weights (about 1 s), few enough to spread over workers and to lose.
CHUNK_PAGES: Final = 32


@dataclass(frozen=True, slots=True)
class MapStore:
    """The maps of one checkpoint on one set of pages, read one at a time.

    Attributes:
        hold: keeps the folder from eviction; released with the store.
    """

    folder: Path
    names: tuple[str, ...]
    hold: IO[bytes] = field(repr=False, compare=False)

    def map(self, name: str) -> PageMap:
        """The map of a page; KeyError if it is not in this store."""
        return read_map(self.file(name))

    def file(self, name: str) -> Path:
        """The file of a page; KeyError if it is not in this store."""
        if name not in self.names:
            raise KeyError(f"{self.folder}: no map of page {name}")
        return self.folder / _file_of(self.names.index(name))


def read_map(source: Path | IO[bytes]) -> PageMap:
    """The map in a file of a store."""
    from detector.geometry import Frame
    from detector.inference.fusion import PageMap  # without torch, which a worker that only scores need not load

    with np.load(source, allow_pickle=False) as saved:
        width, height = (int(value) for value in saved["image_wh"])
        canvas_width, canvas_height = (int(value) for value in saved["canvas_wh"])
        frame = Frame(saved["matrix_33"], (width, height), (canvas_width, canvas_height))
        return PageMap(saved["prob_HW"], frame)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Work of one task: pages (index in the set, page) whose maps are missing."""

    checkpoint: Path
    folder: Path
    views: tuple[str, ...]
    pages: tuple[tuple[int, Page], ...]


def ensure_maps(
    checkpoints: Sequence[Path],
    pages: Sequence[Page],
    workspace: Path,
    *,
    views: tuple[str, ...] = IDENTITY,
    on_pages: Callable[[int, int], None] | None = None,
) -> tuple[MapStore, ...]:
    """The map stores of `checkpoints` on `pages`, in this order; what is missing is computed first.

    Args:
        checkpoints: folders as `detector.checkpoint.save` writes them.
        views: fused into each map, as `detector.inference.predict.page_map` does.
        on_pages: called with (pages computed so far, pages to compute).

    Raises:
        CheckpointError: a folder is no checkpoint.
        LedgerError: `gc` has freed the weights of one whose maps are missing.
        DataError: an image cannot be read, or the disk is full.
    """
    limit = limit_bytes()
    pages_key = digest_of(pages)
    names = tuple(page.name for page in pages)
    stores, chunks = [], []
    for checkpoint in checkpoints:
        digest = str(load_meta(checkpoint)["digest"])
        folder = workspace / "maps" / _key(digest, pages_key, views)
        stores.append(MapStore(folder, names, hold(folder)))
        if not (folder / "index.json").exists():
            chunks += _missing(weights_in(checkpoint), folder, views, pages)
    if chunks:
        trim(workspace / "maps", limit)
        _compute(chunks, workspace, on_pages or (lambda done, total: None))
    for checkpoint, store in zip(checkpoints, stores, strict=True):
        if not (store.folder / "index.json").exists():
            _write_index(store, str(load_meta(checkpoint)["digest"]), pages_key, views)
    trim(workspace / "maps", limit)
    return tuple(stores)


def digest_of(pages: Sequence[Page]) -> str:
    """The digest of a set of pages; the images of one set are hashed once a process."""
    return _digest_of(pages if isinstance(pages, PageIndex) else tuple(pages))


@lru_cache(maxsize=16)
def _digest_of(pages: PageIndex | tuple[Page, ...]) -> str:
    return pages_digest(pages)


def _key(checkpoint: str, pages: str, views: tuple[str, ...]) -> str:
    if views == IDENTITY:
        return f"{checkpoint[:16]}-{pages}"
    return f"{checkpoint[:16]}-{pages}-{blake2b('|'.join(views).encode(), digest_size=4).hexdigest()}"


def _file_of(index: int) -> str:
    return f"{index:05d}.npz"


def _missing(checkpoint: Path, folder: Path, views: tuple[str, ...], pages: Sequence[Page]) -> list[_Chunk]:
    # Tasks run in other folders, hence absolute paths; words stay here, a map does not depend on them.
    left = [
        (index, Page(page.name, page.path.absolute()))
        for index, page in enumerate(pages)
        if not (folder / _file_of(index)).exists()
    ]
    place, target = checkpoint.absolute(), folder.absolute()
    return [
        _Chunk(place, target, views, tuple(left[start : start + CHUNK_PAGES]))
        for start in range(0, len(left), CHUNK_PAGES)
    ]


def _compute(chunks: Sequence[_Chunk], workspace: Path, on_pages: Callable[[int, int], None]) -> None:
    from orchestrator.execution.tasks import Away, run_tasks

    total, done = sum(len(chunk.pages) for chunk in chunks), 0
    on_pages(done, total)

    def count(chunk: _Chunk) -> None:
        nonlocal done
        done += len(chunk.pages)
        on_pages(done, total)

    run_tasks(write_maps, chunks, count, away=Away(Place.of(workspace), _read_by, _made_by))


def _read_by(chunk: _Chunk) -> set[Path]:
    return {chunk.checkpoint, *(page.path.parent for _, page in chunk.pages)}


def _made_by(chunk: _Chunk) -> list[Path]:
    return [chunk.folder / _file_of(index) for index, _ in chunk.pages]


def write_maps(chunk: _Chunk, on_gpu: bool) -> None:
    """Compute and write the maps of one chunk; runs in a Ray task."""
    from detector.inference.predict import load_network, map_of

    # The very network that `predict` computes with, or a bundle would not give the bytes of its own submission.
    network, config = load_network(chunk.checkpoint, "cuda" if on_gpu else "cpu")
    for index, page in chunk.pages:
        found = map_of(network, read_image(page.path), config.image_size, chunk.views)
        buffer = io.BytesIO()
        # Receipts are mostly not text: zlib keeps about a twentieth of a map.
        np.savez_compressed(
            buffer,
            prob_HW=found.prob_HW,
            matrix_33=found.frame.matrix_33,
            image_wh=np.array(found.frame.image_wh),
            canvas_wh=np.array(found.frame.canvas_wh),
        )
        with room(chunk.folder):
            write_bytes(chunk.folder / _file_of(index), buffer.getvalue())


def _write_index(store: MapStore, checkpoint: str, pages: str, views: tuple[str, ...]) -> None:
    files = {name: _file_of(index) for index, name in enumerate(store.names)}
    value = {"format": FORMAT, "checkpoint": checkpoint, "pages": pages, "views": list(views), "files": files}
    with room(store.folder):
        write_json(store.folder / "index.json", value)
