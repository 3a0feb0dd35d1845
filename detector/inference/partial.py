"""What a prediction has found so far, so that a killed one goes on where it was.

    .NAME.part/            beside the output NAME, gone once that is written
        head.json          the digest of all that a result depends on: model, device, version of this format
        lock               held while a process predicts for this output
        RUN-00000.jsonl    one line a page: its name, a digest of the image file, polygons, scores

A page counts as found if its image file still has the digest of the line, so images may be added, left out or replaced
between two runs. Lines are appended whole; one that a kill cut off is passed over. Coordinates are written as Python
writes floats, which read back to the last bit. A line's place is kept, not the line: memory grows by its name alone.

Shapes: V vertices.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from detector.errors import DataError, InputError
from detector.files import read_json, write_json
from detector.types import Detections, Page

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page's line stands."""

    file: Path
    offset: int
    image: str


class Partial:
    """The folder of one output; `opened` makes and locks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run = uuid.uuid4().hex[:12]

    def file(self, number: int) -> Path:
        """A file of this run's own, for one writer."""
        return self.folder / f"{self._run}-{number:05d}.jsonl"

    def found(self, pages: Iterable[Page]) -> dict[str, Place]:
        """The pages that are done, by name: those with a line whose image is still the same."""
        lines: dict[str, list[Place]] = {}
        for file in sorted(self.folder.glob("*.jsonl")):
            for name, place in _lines(file):
                lines.setdefault(name, []).append(place)
        known: dict[str, Place] = {}
        for page in pages:
            if page.name in lines:
                image = image_digest(page.path)
                known.update((page.name, place) for place in lines[page.name] if place.image == image)
        return known

    def mine(self) -> dict[str, Place]:
        """The pages that this run has found, whose images it has just read."""
        return {name: place for file in self.folder.glob(f"{self._run}-*.jsonl") for name, place in _lines(file)}


@contextmanager
def opened(out: Path, facts: Mapping[str, Any]) -> Iterator[Partial]:
    """The partial results of an output, locked; those of other `facts` are thrown away, and so are all at a good end.

    Args:
        facts: plain values that say which model finds words, and how.

    Raises:
        InputError: another process predicts for this output.
    """
    folder = out.absolute().with_name(f".{out.name}.part")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"-o {out}: another process predicts for it now; wait for it, or name another") from error
        digest = hashlib.blake2b(json.dumps([FORMAT, facts], sort_keys=True).encode(), digest_size=16).hexdigest()
        head = folder / "head.json"
        if not _is_of(head, digest):
            for file in folder.glob("*.jsonl"):
                file.unlink()
            write_json(head, {"format": FORMAT, "digest": digest, "facts": dict(facts)})
        yield Partial(folder)
        shutil.rmtree(folder, ignore_errors=True)


class Lines:
    """A file of lines being written; a context manager."""

    def __init__(self, path: Path) -> None:
        self._stream: IO[bytes] = path.open("ab")

    def add(self, page: Page, words: Detections) -> None:
        """Append one page; it outlives the process as soon as this returns."""
        value = {
            "name": page.name,
            "image": image_digest(page.path),
            "polygons": [polygon.ravel().tolist() for polygon in words.polygons],
            "scores": words.scores_N.tolist(),
        }
        self._stream.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._stream.flush()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def results(pages: Sequence[Page], places: Mapping[str, Place]) -> Iterator[tuple[Page, Detections]]:
    """Every page with its words, in the order of `pages`, one at a time; KeyError where a page is not found yet."""
    streams: dict[Path, IO[bytes]] = {}
    try:
        for page in pages:
            place = places[page.name]
            stream = streams.get(place.file)
            if stream is None:
                if len(streams) >= _OPEN_AT_ONCE:
                    streams.pop(next(iter(streams))).close()
                stream = streams[place.file] = place.file.open("rb")
            stream.seek(place.offset)
            value = json.loads(stream.readline())
            polygons = tuple(np.array(flat, dtype=np.float64).reshape(-1, 2) for flat in value["polygons"])
            yield page, Detections(polygons, np.array(value["scores"], dtype=np.float64))
    finally:
        for stream in streams.values():
            stream.close()


_OPEN_AT_ONCE = 64  # files of tasks that ran side by side; far below any limit of a process


def image_digest(path: Path) -> str:
    """16 hex digits over an image file's bytes; DataError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _lines(file: Path) -> Iterator[tuple[str, Place]]:
    with file.open("rb") as stream:
        offset = 0
        for line in stream:
            try:
                value = json.loads(line) if line.endswith(b"\n") else {}
                name, image = value["name"], value["image"]
                whole = len(value["polygons"]) == len(value["scores"])
            except (ValueError, KeyError, TypeError):
                whole = False  # cut off by a kill, or by a machine that lost power: that page is found again
            if whole:
                yield name, Place(file, offset, image)
            offset += len(line)


def _is_of(head: Path, digest: str) -> bool:
    if not head.is_file():
        return False
    try:
        value = read_json(head)
    except DataError:  # cut off: nothing is known of the lines
        return False
    return isinstance(value, dict) and value.get("digest") == digest
