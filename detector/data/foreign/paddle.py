"""PaddleOCR's label file: a line an image, its path, a tab, and its words as JSON.

    images/img_1.jpg\\t[{"transcription": "TOTAL", "points": [[x, y], ...]}, ...]

Its loader takes the texts `###` and `*` for don't care and looks at nothing else; PPOCRLabel also writes `difficult`,
which is read and written here as well. Polygons of any number of vertices are held.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from detector.data.foreign.lines import read_text
from detector.data.foreign.trip import DONT_CARE, LINE_END, Sheet, Trip, read_mark
from detector.data.words_json import confine, polygon_of
from detector.errors import DataError
from detector.types import Word

MARKS = (DONT_CARE, "*")  # DetLabelEncode in ppocr/data/imaug/label_ops.py
_KEYS = frozenset({"transcription", "points", "difficult"})


def read_paddle(source: Path, trip: Trip) -> tuple[Sheet, ...]:
    """The pages of a label file."""
    sheets, homes = [], dict[str, int]()
    lines = LINE_END.split(read_text(source, trip.options.encoding))
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{source}:{number}"
        try:
            name, entries = _fields(where, line, trip)
        except DataError as error:
            trip.fault(str(error))
            continue
        if name in homes:
            trip.fault(f"{where}: image {name} is on line {homes[name]} already; remove one")
        homes[name] = number
        words = (_word(trip, f"{where}: word {index}", index, entry) for index, entry in enumerate(entries, start=1))
        sheets.append(Sheet(name, tuple(word for word in words if word is not None)))
    return tuple(sheets)


def write_paddle(sheets: tuple[Sheet, ...], trip: Trip) -> dict[str, str]:
    """The label file, under the key ""."""
    lines = []
    for sheet in sheets:
        if any(sign in sheet.name for sign in "\t\n\r"):
            trip.fault(f"image {sheet.name!r}: a tab or line end in a file name cannot be held; rename the file")
        entries = [_entry(trip, sheet.name, index, word) for index, word in enumerate(sheet.words, start=1)]
        lines.append(f"{sheet.name}\t{json.dumps(entries, ensure_ascii=False)}\n")
    return {"": "".join(lines)}


def bare_name(where: str, path: str) -> str:
    """The file name at the end of a path with slashes of either kind; DataError where there is none."""
    name = re.split(r"[/\\]", path)[-1]
    confine(f"{where}: image {path!r}", name)
    return name


def _fields(where: str, line: str, trip: Trip) -> tuple[str, list[Any]]:
    path, tab, text = line.partition("\t")
    try:
        entries = json.loads(text) if tab else None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: what follows the tab is not JSON ({error}); mend the line") from error
    if not isinstance(entries, list):
        raise DataError(f"{where}: must be `path`, a tab and a JSON list of words, got {line[:60]!r}; mend the line")
    name = bare_name(where, path)
    if name != path:
        trip.lose("folder of an image is not held; images are looked for by their bare names", where)
    return name, entries


def _word(trip: Trip, where: str, index: int, entry: Any) -> Word | None:
    if not isinstance(entry, dict) or "points" not in entry:
        trip.fault(f"{where}: must be an object with `points`, got {json.dumps(entry)[:60]}; mend the word")
        return None
    text = entry.get("transcription")
    if text is not None and not isinstance(text, str):
        trip.fault(f"{where}: `transcription` must be a string, got {json.dumps(text)[:60]}; mend the word")
        return None
    difficult = entry.get("difficult")
    if difficult not in (None, False, True):
        trip.fault(f"{where}: `difficult` must be true or false, got {json.dumps(difficult)[:60]}; mend the word")
        return None
    try:
        polygon = polygon_of(where, entry["points"])
    except DataError as error:
        trip.fault(str(error))
        return None
    for key in sorted(entry.keys() - _KEYS):
        trip.lose(f"key `{key}` is not held", where)
    text, ignore = read_mark(text, MARKS)
    return trip.word(where, index, polygon, text, ignore or bool(difficult))


def _entry(trip: Trip, name: str, index: int, word: Word) -> dict[str, Any]:
    where = f"image {name}, word {word.id}"
    trip.spare(where, index, word)
    text = trip.marked(where, word, MARKS)
    if text is None:
        trip.lose("missing transcription becomes an empty one", where)
    points = trip.points(where, word.polygon_V2)
    return {"transcription": text or "", "points": points, "difficult": word.ignore}
