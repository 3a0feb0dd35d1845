"""The competition's annotations (JSON), read strictly and written exactly, and digests of what was read.

    {"images": {NAME: {"img_w": 960, "img_h": 1280, "words": {ID: {"points": [[x, y], ...],
        "transcription"?: str, "illegibility"?: bool, "orientation"?: str, "language"?: [str]}}}}}

`words` may be missing or {}, `points` may be [], img_w and img_h may be missing or stale: they are never used. What
cannot be right (NaN, a key twice, a wrong type, a listed file that is missing) is refused with file and word; a word
without an area is dropped, counted and named. Shapes: V vertices. Coordinates: the EXIF-corrected image frame.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.data.formats_csv import read_submission as read_submission
from detector.data.formats_csv import write_submission as write_submission
from detector.data.images import Shelf, list_images
from detector.data.images import image_size as image_size
from detector.data.images import read_image as read_image
from detector.data.words_json import parse_words
from detector.errors import DataError
from detector.files import replacing
from detector.types import Float64, Page, Word


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What an annotation file holds.

    Attributes:
        pages: in the file's order.
        counts: `pages`, `words`, `ignored` (don't-care words among them), `without_words` (pages) and what was dropped:
            `no_points`, `few_vertices`, `no_area`; `unknown_keys` were not used.
        notes: one line for everything that was dropped or not used, with file and word.
    """

    pages: Sequence[Page]
    counts: dict[str, int]
    notes: tuple[str, ...]


def read_annotations(json_path: Path, images_dir: Path) -> Reading:
    """The pages of an annotation file, with their image files.

    Raises:
        DataError: the file breaks the format, or a listed image is not in `images_dir`; the message names it.
    """
    parsed = parse_words(json_path)
    shelf = Shelf(images_dir)
    pages, missing, used = [], [], dict[Path, str]()
    for name, words in parsed.words.items():
        path = shelf.find(name)
        if path is None:
            missing.append(name)
            continue
        if path in used:
            raise DataError(
                f"{json_path}: image {name}: is the same file as {used[path]} (Unicode forms); remove one entry"
            )
        used[path] = name
        pages.append(Page(name, path, words))
    if missing:
        more = f" ({len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(
            f"{json_path}: image {missing[0]}: listed but not in {images_dir}{more}; "
            "remove the entries or restore the files"
        )
    return Reading(tuple(pages), parsed.counts, parsed.notes)


def read_words(json_path: Path) -> dict[str, tuple[Word, ...]]:
    """The words of every image that an annotation file lists; image files are not looked at.

    Raises:
        DataError: the file breaks the format.
    """
    return parse_words(json_path).words


def read_images(folder: Path) -> tuple[Page, ...]:
    """The image files of a folder as pages without words, `a_2.jpg` before `a_10.jpg`; subfolders are not entered.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    return tuple(Page(path.name, path) for path in list_images(folder))


def read_predictions(path: Path) -> dict[str, tuple[Float64, ...]]:
    """Polygons by file name from a submission (CSV) or from annotation-shaped JSON, by suffix, else by first character.

    Polygons without an area stay: a detection that covers nothing is still a detection.

    Raises:
        DataError: the file breaks its format.
    """
    if _is_json(path):
        words = parse_words(path, keep_flat=True).words
        return {name: tuple(word.polygon_V2 for word in page) for name, page in words.items()}
    return read_submission(path)


def write_annotations(path: Path, pages: Iterable[Page]) -> None:
    """Write pages as an annotation file, atomically; `read_annotations` gives them back to the last bit.

    img_w and img_h are written for the images that are on disk. One page at a time is held: `pages` may be a stream.

    Raises:
        DataError: an image is there but cannot be read.
        ValueError: a coordinate is NaN or infinite, or a name is used twice.
    """
    names: set[str] = set()
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as text:
        text.write('{"images": {')
        for page in pages:
            if page.name in names:
                raise ValueError(f"page {page.name!r} is there twice")
            comma = ", " if names else ""
            text.write(f"{comma}{_json(page.name)}: {_json(_page_json(page))}")
            names.add(page.name)
        text.write("}}\n")


def pages_digest(pages: Iterable[Page]) -> str:
    """16 hex digits over names, image bytes and words, in the order given; equal digest, equal training data.

    Raises:
        DataError: an image cannot be read.
    """
    pages = tuple(pages)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        images = list(pool.map(_file_digest, (page.path for page in pages)))
    total = hashlib.blake2b(digest_size=8)
    for page, image in zip(pages, images, strict=True):
        for part in (page.name, *(_word_text(word) for word in page.words)):
            total.update(part.encode("utf-8", "surrogatepass") + b"\0")
        total.update(b"\1" + image)
    return total.hexdigest()


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=32)).digest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file or remove its entry") from error


def _word_text(word: Word) -> str:
    return repr((word.id, word.polygon_V2.tolist(), word.transcription, word.ignore, word.orientation, word.language))


def _page_json(page: Page) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if page.path.is_file():
        entry["img_w"], entry["img_h"] = image_size(page.path)
    entry["words"] = {word.id: _word_json(word) for word in page.words}
    if len(entry["words"]) != len(page.words):
        raise ValueError(f"page {page.name!r} has two words of one id")
    return entry


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _word_json(word: Word) -> dict[str, Any]:
    value: dict[str, Any] = {"points": word.polygon_V2.tolist()}
    if word.transcription is not None:
        value["transcription"] = word.transcription
    value["illegibility"] = word.ignore
    if word.orientation is not None:
        value["orientation"] = word.orientation
    if word.language is not None:
        value["language"] = list(word.language)
    return value


def _is_json(path: Path) -> bool:
    if path.suffix.lower() in (".json", ".csv"):
        return path.suffix.lower() == ".json"
    try:
        with path.open("rb") as stream:
            return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
