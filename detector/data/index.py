"""An annotation file packed for large sets: opened in seconds, one copy for all processes, pages made when asked for.

    <cache>/<annotations>-<source>-<content>.pages
        8 bytes       the length of the header, little endian
        header        JSON: format, digest, where the images are, what `Reading` counted and noted, each array's place
        arrays        little endian, each at a multiple of 64 bytes: see ARRAYS

`source` is a digest of the annotation file's and the image folder's paths, `content` one of the annotation file's
bytes, the folder's time of change and the rules of reading: a changed file is read anew, and its old index goes. No
pickle: a file in the cache holds numbers and text. A process is handed the path, not the pages (`PageIndex` pickles to
it), and the kernel keeps one copy of the file in memory for all of them.

Shapes: P pages, N words of all pages, V vertices of all words; `*_ends` are running totals, one past the last.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from detector.data.formats import Reading, read_annotations
from detector.errors import DataError
from detector.files import replacing
from detector.types import Page, Word
from detector.version import TRAINING

FORMAT: Final = 1
ALIGN: Final = 64
# Running totals of bytes or things: int64. Blobs: uint8; `flags_N` has the bits below, an extra is JSON [orientation,
# language].
ENDS: Final = ("word_ends_P", "name_ends_P", "file_ends_P", "vertex_ends_N", "id_ends_N", "text_ends_N", "extra_ends_N")
BLOBS: Final = ("names", "files", "ids", "texts", "extras", "flags_N")
ARRAYS: Final = {**dict.fromkeys(ENDS, "<i8"), **dict.fromkeys(BLOBS, "<u1"), "vertices_V2": "<f8"}
IGNORE, HAS_TEXT, HAS_EXTRA = 1, 2, 4


class PageIndex(Sequence[Page]):
    """The pages of an index file, or some of them, made anew each time one is asked for.

    Equal by content and hashable, so that what was computed for a set is found again. Pickles to its path.
    """

    def __init__(self, path: Path, digest: str | None = None, chosen: NDArray[np.int64] | None = None) -> None:
        """Map an index file.

        Args:
            digest: what the file must hold; whatever it holds unless given.
            chosen: page numbers, for a part of the set.

        Raises:
            DataError: the file is missing, no index, or of other annotations.
        """
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 (workers run in other folders; links stay)
        self.header, self._arrays = _map(self.path)
        self.digest: str = self.header["digest"]
        if digest not in (None, self.digest):
            raise DataError(f"{path}: holds other annotations than those that were opened; run the command again")
        self._chosen = chosen
        beside = self.header.get("beside")
        self._folder = Path(os.path.normpath(self.path.parent / beside) if beside else self.header["images"])

    def __len__(self) -> int:
        return len(self._arrays["word_ends_P"]) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, key: int) -> Page: ...
    @overload
    def __getitem__(self, key: slice) -> PageIndex: ...
    def __getitem__(self, key: int | slice) -> Page | PageIndex:
        if isinstance(key, slice):
            return self.part(range(len(self))[key])
        number = self._number(key)
        return replace(self._bare(number), words=self._words(number))

    def part(self, indices: Iterable[int]) -> PageIndex:
        """The pages at `indices`, in their order."""
        chosen = np.array([self._number(index) for index in indices], dtype=np.int64)
        return PageIndex(self.path, self.digest, chosen)

    def bare(self) -> Iterator[Page]:
        """The pages without their words, where names and paths are all that is needed."""
        return (self._bare(self._number(index)) for index in range(len(self)))

    def word_counts(self) -> list[int]:
        """How many words each page has."""
        counts_P = np.diff(self._arrays["word_ends_P"], prepend=0)
        counts: list[int] = (counts_P if self._chosen is None else counts_P[self._chosen]).tolist()
        return counts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PageIndex):
            return NotImplemented
        return self.digest == other.digest and self._selection() == other._selection()

    def __hash__(self) -> int:
        return hash((self.digest, self._selection()))

    def __reduce__(self) -> tuple[Any, ...]:
        return PageIndex, (self.path, self.digest, self._chosen)

    def _selection(self) -> bytes | None:
        return None if self._chosen is None else self._chosen.tobytes()

    def _number(self, index: int) -> int:
        """A place in this part as a page number of the file."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"page {index} of {len(self)}")
        index %= len(self)
        return index if self._chosen is None else int(self._chosen[index])

    def _bare(self, number: int) -> Page:
        name, file = self._text("names", "name_ends_P", number), self._text("files", "file_ends_P", number)
        return Page(name, self._folder / file)

    def _words(self, number: int) -> tuple[Word, ...]:
        return tuple(self._word(word) for word in range(*_span(self._arrays["word_ends_P"], number)))

    def _word(self, number: int) -> Word:
        arrays, flags = self._arrays, int(self._arrays["flags_N"][number])
        start, end = _span(arrays["vertex_ends_N"], number)
        polygon = arrays["vertices_V2"][2 * start : 2 * end].reshape(-1, 2).copy()  # the file itself is read only
        text = self._text("texts", "text_ends_N", number) if flags & HAS_TEXT else None
        extra = json.loads(self._text("extras", "extra_ends_N", number)) if flags & HAS_EXTRA else (None, None)
        language = None if extra[1] is None else tuple(extra[1])
        return Word(self._text("ids", "id_ends_N", number), polygon, text, bool(flags & IGNORE), extra[0], language)

    def _text(self, blob: str, ends: str, number: int) -> str:
        start, end = _span(self._arrays[ends], number)
        return self._arrays[blob][start:end].tobytes().decode("utf-8", "surrogatepass")


def bare(pages: Sequence[Page]) -> Iterable[Page]:
    """The pages for whom names and paths are all that is needed: of an index without their words."""
    return pages.bare() if isinstance(pages, PageIndex) else pages


def part(pages: Sequence[Page], indices: Iterable[int]) -> Sequence[Page]:
    """The pages at `indices`; of an index an index again."""
    return pages.part(indices) if isinstance(pages, PageIndex) else tuple(pages[index] for index in indices)


def open_annotations(json_path: Path, images_dir: Path, cache: Path) -> Reading:
    """What `detector.data.formats.read_annotations` gives, with the pages in an index that is made once.

    Args:
        cache: the folder of indexes; where it cannot be written the annotations are read as they are.

    Raises:
        DataError: as of `read_annotations`.
    """
    source = f"{json_path.stem[:60]}-{_hash(json_path.absolute(), images_dir, images_dir.absolute())}"
    digest = _digest(json_path, images_dir)
    path = cache / f"{source}-{digest}.pages"
    try:
        pages = PageIndex(path, digest)
    except DataError:  # not there yet, or cut off: either way it is made
        reading = read_annotations(json_path, images_dir)
        try:
            _write(path, reading, images_dir, digest)
        except OSError:  # a full or foreign disk costs time and memory, nothing else
            return reading
        for old in set(cache.glob(f"{source}-*.pages")) - {path}:
            old.unlink(missing_ok=True)  # who has it mapped keeps it
        pages = PageIndex(path, digest)
    return Reading(pages, pages.header["counts"], tuple(pages.header["notes"]))


def _digest(json_path: Path, images_dir: Path) -> str:
    try:
        with json_path.open("rb") as stream:
            content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        return _hash(FORMAT, TRAINING, content, images_dir.stat().st_mtime_ns)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from error


def _hash(*parts: object) -> str:
    return hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _span(ends: NDArray[Any], number: int) -> tuple[int, int]:
    return (int(ends[number - 1]) if number else 0), int(ends[number])


# --- the file --------------------------------------------------------------------------------------------------------


def _map(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as held:
            length = int.from_bytes(held[:8], "little")
            header = json.loads(held[8 : 8 + length])
        if header["format"] != FORMAT:
            raise ValueError(f"`format` must be {FORMAT}, got {header['format']}")
        whole = np.memmap(path, dtype=np.uint8, mode="r")
        arrays = {}
        for name, kind in ARRAYS.items():
            start, size = header["arrays"][name]
            if start + size > len(whole):
                raise ValueError("it is cut off")
            arrays[name] = np.asarray(whole[start : start + size]).view(kind)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); run the command again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no index of pages ({error}); remove it and run the command again") from error
    return header, arrays


def _write(path: Path, reading: Reading, images_dir: Path, digest: str) -> None:
    parts = _pack(reading.pages)
    facts = {
        "format": FORMAT,
        "digest": digest,
        "images": str(images_dir),
        "beside": _beside(images_dir, path.parent),
        "counts": reading.counts,
        "notes": list(reading.notes),
    }
    # Places stand in the header, whose length depends on them: room for 20 digits each.
    place = _aligned(8 + len(json.dumps(facts)) + len(ARRAYS) * 80)
    places = {}
    for name in ARRAYS:
        places[name] = place, memoryview(parts[name]).nbytes
        place = _aligned(sum(places[name]))
    header = json.dumps(facts | {"arrays": places}).encode()
    with replacing(path) as draft, draft.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for name, (start, _) in places.items():
            stream.seek(start)
            stream.write(parts[name])
        stream.truncate()  # where the last one is empty


def _beside(images_dir: Path, cache: Path) -> str:
    """Where images that a workspace made lie, seen from its indexes: both may come to another machine and folder.

    Empty for a person's own images, which lie where the plan says.
    """
    if images_dir.is_absolute() and images_dir.is_relative_to(cache.absolute().parent):
        return os.path.relpath(images_dir, cache.absolute())
    return ""


def _aligned(place: int) -> int:
    return -(-place // ALIGN) * ALIGN


def _pack(pages: Iterable[Page]) -> dict[str, array[Any] | bytearray]:
    """The arrays of `ARRAYS`."""
    ends = {name: array("q") for name in ENDS}
    blobs = {name: bytearray() for name in BLOBS}
    vertices = array("d")
    words = 0

    def put(blob: str, end: str, text: str) -> None:
        blobs[blob] += text.encode("utf-8", "surrogatepass")
        ends[end].append(len(blobs[blob]))

    for page in pages:
        put("names", "name_ends_P", page.name)
        put("files", "file_ends_P", page.path.name)
        for word in page.words:
            extra = word.orientation is not None or word.language is not None
            vertices.frombytes(np.ascontiguousarray(word.polygon_V2, dtype="<f8").tobytes())
            ends["vertex_ends_N"].append(len(vertices) // 2)
            put("ids", "id_ends_N", word.id)
            put("texts", "text_ends_N", word.transcription or "")
            put("extras", "extra_ends_N", json.dumps([word.orientation, word.language]) if extra else "")
            has_text = word.transcription is not None
            blobs["flags_N"].append(IGNORE * word.ignore | HAS_TEXT * has_text | HAS_EXTRA * extra)
        words += len(page.words)
        ends["word_ends_P"].append(words)
    return {**ends, **blobs, "vertices_V2": vertices}
