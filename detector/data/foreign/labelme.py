"""labelme: one JSON an image, `shapes` with a label that is the word's text.

    {"version": ..., "flags": {}, "shapes": [{"label": "TOTAL", "points": [[x, y], ...], "shape_type": "polygon",
     "flags": {"illegibility": true}, ...}], "imagePath": "../images/a.jpg", "imageHeight": 1280, "imageWidth": 960}

A don't-care word has the flag `illegibility` (`difficult` and `ignore` are read too) or the label `###`. labelme shows
images upright and counts coordinates there, as the competition does. Polygons and rectangles are words; points, lines
and circles are none.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from detector.data.foreign.lines import list_files
from detector.data.foreign.paddle import bare_name
from detector.data.foreign.trip import DONT_CARE, Sheet, Trip, read_mark, stems
from detector.data.words_json import load_strictly, polygon_of
from detector.errors import DataError
from detector.types import Word

VERSION = "5.5.0"  # whose form of file is written
_FLAGS = ("illegibility", "difficult", "ignore")
_EMPTY = ("", None, False)
_KEYS = frozenset({"label", "points", "shape_type", "flags"})


def read_labelme(source: Path, trip: Trip) -> tuple[Sheet, ...]:
    """The pages of a folder of `*.json`."""
    sheets, homes = [], dict[str, Path]()
    for path in list_files(source, (".json",)):
        try:
            sheet = _sheet(path, trip)
        except DataError as error:
            trip.fault(str(error))
            continue
        if sheet.name in homes:
            trip.fault(f"{path}: image {sheet.name} has {homes[sheet.name]} already; remove one")
        homes[sheet.name] = path
        sheets.append(sheet)
    return tuple(sheets)


def write_labelme(sheets: tuple[Sheet, ...], trip: Trip) -> dict[str, str]:
    """`*.json` of every page, all with `wh`: file name -> content; images are named from the target folder."""
    files = {}
    for key, sheet in stems(trip, sheets).items():
        assert sheet.wh is not None and trip.options.images is not None, "labelme is written with the images at hand"
        value: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": [_shape(trip, sheet.name, index, word) for index, word in enumerate(sheet.words, start=1)],
            "imagePath": Path(os.path.relpath(trip.options.images / sheet.name, trip.target)).as_posix(),
            "imageData": None,
            "imageHeight": sheet.wh[1],
            "imageWidth": sheet.wh[0],
        }
        files[f"{key}.json"] = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    return files


def _sheet(path: Path, trip: Trip) -> Sheet:
    root = load_strictly(path)
    if not isinstance(root, dict) or not isinstance(root.get("shapes"), list):
        raise DataError(f"{path}: must be an object with the list `shapes`; check the file and --from")
    image = root.get("imagePath")
    if not isinstance(image, str):
        raise DataError(f"{path}: `imagePath` must be a string, got {json.dumps(image)[:60]}; mend the file")
    width, height = root.get("imageWidth"), root.get("imageHeight")
    wh = (width, height) if isinstance(width, int) and isinstance(height, int) else None
    words = (_word(trip, f"{path}: shapes[{place}]", place + 1, shape) for place, shape in enumerate(root["shapes"]))
    # The folder is where labelme looks for the image; here the name alone counts.
    return Sheet(bare_name(str(path), image), tuple(word for word in words if word is not None), wh)


def _word(trip: Trip, where: str, index: int, shape: Any) -> Word | None:
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or "points" not in shape:
        trip.fault(f"{where}: must have a `label` (a string) and `points`, got {json.dumps(shape)[:60]}; mend it")
        return None
    kind = shape.get("shape_type") or "polygon"
    if kind not in ("polygon", "rectangle"):
        trip.change(f"shape of type {kind!r}, words are polygons or rectangles", where, "it is left out")
        return None
    try:
        polygon = polygon_of(where, shape["points"])
    except DataError as error:
        trip.fault(str(error))
        return None
    if kind == "rectangle" and len(polygon) == 2:  # two opposite corners, in any order
        (left, top), (right, bottom) = polygon.min(axis=0), polygon.max(axis=0)
        polygon = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    for key in sorted(shape.keys() - _KEYS):
        if shape[key] not in _EMPTY:
            trip.lose(f"key `{key}` is not held", where)
    flags = shape.get("flags") or {}
    if not isinstance(flags, dict):
        trip.fault(f"{where}: `flags` must be an object, got {json.dumps(flags)[:60]}; mend the shape")
        return None
    text, marked = read_mark(shape["label"])
    return trip.word(where, index, polygon, text, marked or any(flags.get(flag) is True for flag in _FLAGS))


def _shape(trip: Trip, name: str, index: int, word: Word) -> dict[str, Any]:
    where = f"image {name}, word {word.id}"
    trip.spare(where, index, word)
    if word.transcription is None:
        trip.lose("missing transcription becomes an empty one", where)
    if word.transcription == DONT_CARE:
        if word.ignore:
            trip.lose("text `###` of a don't-care word becomes an empty one", where)
        else:
            trip.change("text '###' means don't care in this format", where, "it becomes don't-care")
    return {
        "label": word.transcription or "",
        "points": trip.points(where, word.polygon_V2),
        "group_id": None,
        "description": "",
        "shape_type": "polygon",
        "flags": {"illegibility": True} if word.ignore else {},
    }
