"""The strict parser behind `detector.data.formats`: JSON text to words, every fault with its place.

Shapes: V vertices. What is refused raises DataError naming file, image and word; what is dropped is counted and noted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import DataError
from detector.geometry import area
from detector.types import Float64, Word

# Twice a triangle's area below this is rounding, not a word: coordinates of 1e4 px carry errors of about 1e-12.
NO_AREA_PX2 = 1e-9
_IMAGE_KEYS = frozenset({"img_w", "img_h", "words"})
_WORD_KEYS = frozenset({"points", "transcription", "illegibility", "orientation", "language"})
DROPPED = {
    "no_points": "has no points; dropped",
    "few_vertices": "has fewer than 3 vertices; dropped",
    "no_area": "has no area; dropped",
}


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """Words by file name, in the file's order, with what was counted and noted (see `formats.Reading`).

    Attributes:
        dropped: (image, word, why) of every word that was left out; `why` is a key of `DROPPED`.
        unknown: keys that the format does not have -> (times, first place).
        sizes: (img_w, img_h) of the images that have both as whole numbers; they may be stale.
    """

    words: dict[str, tuple[Word, ...]]
    counts: dict[str, int]
    notes: tuple[str, ...]
    dropped: tuple[tuple[str, str, str], ...] = ()
    unknown: dict[str, tuple[int, str]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)


def parse_words(path: Path, keep_flat: bool = False) -> Parsed:
    """Read an annotation file strictly; with `keep_flat` polygons without an area stay.

    Raises:
        DataError: the file cannot be read or breaks the format.
    """
    root = load_strictly(path)
    if not isinstance(root, dict) or not isinstance(root.get("images"), dict):
        raise DataError(f'{path}: must be {{"images": {{FILE: {{"words": ...}}}}}}, got {_kind(root)}; check the file')
    parser = _Parser(path, keep_flat)
    for key in root:
        if key != "images":
            parser.unknown(key, "beside `images`")
    words = {name: parser.image(name, entry) for name, entry in root["images"].items()}
    return Parsed(
        words, parser.totals(words), tuple(parser.notes), tuple(parser.dropped), parser.strangers, parser.sizes
    )


def why_dropped(polygon_V2: Float64, keep_flat: bool = False) -> str | None:
    """Why a polygon is no word (a key of `DROPPED`), or None; with `keep_flat` one without an area is."""
    if len(polygon_V2) < 3:
        return "few_vertices" if len(polygon_V2) else "no_points"
    return "no_area" if not keep_flat and area(polygon_V2) < NO_AREA_PX2 else None


class _Parser:
    """One pass over one file; collects counts and notes on its way."""

    def __init__(self, path: Path, keep_flat: bool) -> None:
        self.path = path
        self.keep_flat = keep_flat
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []
        self.strangers: dict[str, tuple[int, str]] = {}
        self.dropped: list[tuple[str, str, str]] = []
        self.sizes: dict[str, tuple[int, int]] = {}

    def image(self, name: str, entry: Any) -> tuple[Word, ...]:
        where = f"{self.path}: image {name}"
        confine(f"{self.path}: image {name!r}", name)
        if not isinstance(entry, dict):
            raise DataError(f"{where}: must be an object with `words`, got {_kind(entry)}; mend the entry")
        for key in ("img_w", "img_h"):  # stale sizes are legal, other things than numbers are not
            value = entry.get(key)
            if value is not None and type(value) not in (int, float):
                raise DataError(f"{where}: `{key}` must be a number, got {_kind(value)}; mend or remove it")
        width, height = entry.get("img_w"), entry.get("img_h")
        if isinstance(width, int) and isinstance(height, int):
            self.sizes[name] = width, height
        for key in sorted(entry.keys() - _IMAGE_KEYS):
            self.unknown(key, f"image {name}")
        words = entry.get("words", {})
        if not isinstance(words, dict):
            raise DataError(f"{where}: `words` must be an object of words, got {_kind(words)}; mend the entry")
        found = (self.word(name, key, value) for key, value in words.items())
        return tuple(word for word in found if word is not None)

    def word(self, name: str, key: str, value: Any) -> Word | None:
        where = f"{self.path}: image {name}, word {key}"
        if not isinstance(value, dict) or "points" not in value:
            raise DataError(f"{where}: must be an object with `points`, got {_kind(value)}; mend the entry")
        for extra in sorted(value.keys() - _WORD_KEYS):
            self.unknown(extra, f"image {name}, word {key}")
        polygon = polygon_of(where, value["points"])
        text, ignore = _optional(where, value, "transcription", str), _optional(where, value, "illegibility", bool)
        orientation, language = _optional(where, value, "orientation", str), _optional(where, value, "language", list)
        if language is not None and not all(isinstance(entry, str) for entry in language):
            raise DataError(f"{where}: `language` must be a list of strings, got {language}; mend it")
        fault = why_dropped(polygon, self.keep_flat)
        if fault is not None:
            self.counts[fault] += 1
            self.dropped.append((name, key, fault))
            self.notes.append(f"image {name}, word {key}: {DROPPED[fault]}")
            return None
        return Word(key, polygon, text, bool(ignore), orientation, None if language is None else tuple(language))

    def unknown(self, key: str, place: str) -> None:
        """Count a key that the format does not have; it is noted once, with the first place it was seen at."""
        self.counts["unknown_keys"] += 1
        count, first = self.strangers.get(key, (0, place))
        self.strangers[key] = count + 1, first
        if count == 0:
            self.notes.append(f"{place}: key {key!r} is not part of the format; not used")

    def totals(self, words: dict[str, tuple[Word, ...]]) -> dict[str, int]:
        """All counts, zeros included, in a fixed order."""
        return {
            "pages": len(words),
            "words": sum(map(len, words.values())),
            "ignored": sum(word.ignore for page in words.values() for word in page),
            "without_words": sum(not page for page in words.values()),
            **{key: self.counts[key] for key in (*DROPPED, "unknown_keys")},
        }


def polygon_of(where: str, points: Any) -> Float64:
    """A JSON list of [x, y] as (V, 2), empty (0, 2) for []; DataError where a point is no pair of finite numbers."""
    if not isinstance(points, list):
        raise DataError(f"{where}: `points` must be a list of [x, y], got {_kind(points)}; mend the word")
    for point in points:
        # type(), not isinstance(): true and false are ints to Python, and no coordinates.
        if type(point) is not list or len(point) != 2 or not all(type(value) in (int, float) for value in point):
            raise DataError(f"{where}: a point must be [x, y], two numbers, got {_short(point)}; mend the word")
        # NaN fails every comparison, 1e999 reads as infinity, and an int of 400 digits fits no float.
        if not all(abs(value) < 1e9 for value in point):
            raise DataError(
                f"{where}: coordinates must be finite and below 1e9, got {_short(point)}; mend or remove the word"
            )
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _optional(where: str, value: dict[str, Any], key: str, kind: type) -> Any:
    """value[key], None where it is missing or null; DataError where it is of another type."""
    found = value.get(key)
    if found is not None and not isinstance(found, kind):
        names = {str: "a string", bool: "true or false", list: "a list of strings"}
        raise DataError(f"{where}: `{key}` must be {names[kind]}, got {_kind(found)}; mend or remove it")
    return found


def confine(where: str, name: str) -> None:
    """A listed name is a bare file name: nothing outside the image folder can be reached by it. DataError otherwise."""
    broken = any("\ud800" <= sign <= "\udfff" for sign in name)  # half a surrogate pair: no file can be called so
    if broken or name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        raise DataError(f"{where}: must be a bare file name inside the image folder; rename the entry")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(value: Any) -> str:
    """What a JSON value is, in JSON's own words."""
    names = {dict: "an object without it", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number") if not isinstance(value, dict) else names[dict]


class _Repeating(dict[str, Any]):
    """An object of the file in which the key `repeated` is there more than once."""

    repeated: str


def load_strictly(path: Path) -> Any:
    """The JSON value of a file; DataError where it cannot be read or an object has a key twice."""
    repeating: list[_Repeating] = []

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        marked = _Repeating(value)
        marked.repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        repeating.append(marked)
        return marked

    try:
        root = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=to_dict)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}:{error.colno}: is not JSON ({error.msg}); mend the file") from error
    except (RecursionError, ValueError) as error:  # nested a thousand deep, or a number of thousands of digits
        raise DataError(f"{path}: is not readable JSON ({error}); mend the file") from error
    if repeating:
        # An object that was itself overwritten by its twin is not in the tree any more: its parent is in the list too.
        place, marked = next(((keys, value) for keys, value in _objects(root) if isinstance(value, _Repeating)))
        inside = " / ".join(place) or "the top level"
        raise DataError(f"{path}: {inside}: key {marked.repeated!r} is there twice; remove one")
    return root


def _objects(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """All objects in a JSON value with the keys that lead to them, outermost first."""
    if isinstance(value, dict):
        yield place, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _objects(inner, (*place, str(key)))
