"""COCO-Text (imgs, anns) and plain COCO detection files (images, annotations).

    COCO-Text: {"imgs": {"1": {"id", "file_name", "width", "height", "set"}}, "imgToAnns": {"1": [7]},
                "anns": {"7": {"image_id", "mask": [x1, y1, ...], "bbox": [x, y, w, h], "utf8_string",
                               "legibility": "legible" | "illegible", "language", "class"}}}
    COCO:      {"images": [...], "categories": [...], "annotations": [{"id", "image_id", "category_id",
                "segmentation": [[x1, y1, ...]], "bbox", "area", "iscrowd"}]}

Illegible words, and COCO's `iscrowd`, are don't-care words. COCO-Text 1 calls `mask` `polygon`, TextOCR `points`;
without any of them the box is the word. Plain COCO knows no texts; `utf8_string` is written there too, since readers
pass over unknown keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from detector.data.foreign.paddle import bare_name
from detector.data.foreign.trip import Number, Sheet, Trip
from detector.data.words_json import load_strictly, polygon_of
from detector.errors import DataError
from detector.geometry import area
from detector.types import Float64, Word

_NO_LANGUAGE: Final = "na"  # COCO-Text's word for none
_KEYS = frozenset({"id", "image_id", "area", "bbox", "utf8_string"})
_TEXT_KEYS = _KEYS | {"mask", "polygon", "points", "legibility", "language"}
_PLAIN_KEYS = _KEYS | {"segmentation", "iscrowd", "category_id"}


def read_coco_text(source: Path, trip: Trip) -> tuple[Sheet, ...]:
    """The pages of a COCO-Text file; those of one `set` with `Options.subset`."""
    root = _root(source, ("imgs", "anns"), dict)
    images, found = list(root["imgs"].values()), list(root["anns"].items())
    if trip.options.subset is not None:
        sets = {_id(image.get("id")): image.get("set") for image in images if isinstance(image, dict)}
        if trip.options.subset not in sets.values():
            there = ", ".join(sorted({str(name) for name in sets.values()}))
            raise DataError(f"{source}: no image of the set {trip.options.subset!r}; there are {there}")
        others = {key for key, name in sets.items() if name != trip.options.subset}
        images = [image for image in images if not (isinstance(image, dict) and _id(image.get("id")) in others)]
        found = [(k, ann) for k, ann in found if not (isinstance(ann, dict) and _id(ann.get("image_id")) in others)]
    return _sheets(source, trip, images, ((f"anns[{key}]", ann) for key, ann in found), plain=False)


def read_coco(source: Path, trip: Trip) -> tuple[Sheet, ...]:
    """The pages of a COCO detection file; every category is taken for words."""
    root = _root(source, ("images", "annotations"), list)
    found = ((f"annotations[{place}]", ann) for place, ann in enumerate(root["annotations"]))
    if len({str(ann.get("category_id")) for ann in root["annotations"] if isinstance(ann, dict)}) > 1:
        trip.lose("categories are not held; each of them counts as words", str(source))
    return _sheets(source, trip, root["images"], found, plain=True)


def write_coco_text(sheets: tuple[Sheet, ...], trip: Trip) -> dict[str, str]:
    """The COCO-Text file, under the key ""; all pages with `wh`."""
    images, found, ids = _written(sheets, trip, plain=False)
    for image in images:
        image["set"] = trip.options.subset or "train"
    value = {
        "info": {"description": "words of images"},
        "imgs": {str(image["id"]): image for image in images},
        "anns": {str(ann["id"]): ann for ann in found},
        "imgToAnns": ids,
        "cats": {},
    }
    return {"": json.dumps(value, ensure_ascii=False) + "\n"}


def write_coco(sheets: tuple[Sheet, ...], trip: Trip) -> dict[str, str]:
    """The COCO detection file, under the key ""; all pages with `wh`."""
    images, found, _ = _written(sheets, trip, plain=True)
    categories = [{"id": 1, "name": "text", "supercategory": "text"}]
    value = {"images": images, "categories": categories, "annotations": found}
    return {"": json.dumps(value, ensure_ascii=False) + "\n"}


# --- reading ---------------------------------------------------------------------------------------------------------


def _root(source: Path, keys: tuple[str, str], kind: type) -> dict[str, Any]:
    root = load_strictly(source)
    if isinstance(root, dict) and all(isinstance(root.get(key), kind) for key in keys):
        return root
    names = "objects" if kind is dict else "lists"
    other = "coco" if kind is dict else "coco-text"
    raise DataError(
        f"{source}: must hold the {names} `{keys[0]}` and `{keys[1]}`; check the file, or try --from {other}"
    )


def _sheets(
    source: Path, trip: Trip, images: Iterable[Any], found: Iterable[tuple[str, Any]], plain: bool
) -> tuple[Sheet, ...]:
    words: dict[Any, list[Word]] = {}
    heads: dict[Any, tuple[str, tuple[int, int] | None]] = {}
    names = set()
    for place, image in enumerate(images):
        where = f"{source}: image {place}"
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            trip.fault(f"{where}: must have `id` and `file_name`, got {json.dumps(image)[:60]}; mend the entry")
            continue
        try:
            name = bare_name(where, image["file_name"])
        except DataError as error:
            trip.fault(str(error))
            continue
        if name != image["file_name"]:
            trip.lose("folder of an image is not held; images are looked for by their bare names", where)
        key = _id(image["id"])
        if key in heads or name in names:
            trip.fault(f"{where}: id {image['id']} or file name {name} is there twice; remove one")
        width, height = image.get("width"), image.get("height")
        heads[key] = name, (width, height) if isinstance(width, int) and isinstance(height, int) else None
        words[key] = []
        names.add(name)
    for where, ann in found:
        where = f"{source}: {where}"
        page = words.get(_id(ann.get("image_id"))) if isinstance(ann, dict) else None
        if page is None:
            trip.fault(f"{where}: must be an object with the `image_id` of a listed image; mend or remove it")
            continue
        word = _word(trip, where, len(page) + 1, ann, plain)
        if word is not None:
            page.append(word)
    return tuple(Sheet(name, tuple(words[key]), wh) for key, (name, wh) in heads.items())


def _id(value: Any) -> Any:
    """An id that can be looked up: COCO-Text writes the number 7 and the key "7"."""
    return str(value)


def _word(trip: Trip, where: str, index: int, ann: dict[str, Any], plain: bool) -> Word | None:
    try:
        polygon = _outline(trip, where, ann, plain)
    except DataError as error:
        trip.fault(str(error))
        return None
    text, language = ann.get("utf8_string"), None if plain else ann.get("language")
    if polygon is None:
        return None
    for key, value in (("utf8_string", text), ("language", language)):
        if value is not None and not isinstance(value, str):
            trip.fault(f"{where}: `{key}` must be a string, got {json.dumps(value)[:60]}; mend it")
            return None
    for key in sorted(ann.keys() - (_PLAIN_KEYS if plain else _TEXT_KEYS)):
        trip.lose(f"key `{key}` is not held", where)
    key, legal = ("iscrowd", (None, 0, 1)) if plain else ("legibility", (None, "legible", "illegible"))
    mark = ann.get(key)
    if mark not in legal:
        values = " or ".join(map(str, legal[1:]))
        trip.fault(f"{where}: `{key}` must be {values}, got {json.dumps(mark)[:60]}; mend it")
        return None
    word = trip.word(where, index, polygon, text, mark == legal[2])
    if word is None or language in (None, _NO_LANGUAGE):
        return word
    return Word(word.id, word.polygon_V2, word.transcription, word.ignore, None, (language,))


def _outline(trip: Trip, where: str, ann: dict[str, Any], plain: bool) -> Float64 | None:
    """The polygon of an annotation, else its box; None where it is left out. DataError where it is neither."""
    flat = ann.get("segmentation") if plain else ann.get("mask") or ann.get("polygon") or ann.get("points")
    if plain and isinstance(flat, dict):
        trip.change("segmentation by runs of pixels, words are polygons", where, "the box is taken")
        flat = None
    if plain and flat:
        if not isinstance(flat, list) or not all(isinstance(part, list) for part in flat):
            raise DataError(f"{where}: `segmentation` must be a list of polygons; mend it")
        if len(flat) > 1:
            trip.change(f"outline in {len(flat)} parts, a word has one", where, "the box is taken")
            flat = None
        else:
            flat = flat[0]
    if flat:
        if not isinstance(flat, list) or len(flat) % 2:
            raise DataError(f"{where}: an outline must be a flat list x1, y1, x2, ...; mend it")
        return polygon_of(where, [list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)])
    box = ann.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise DataError(f"{where}: must have an outline or a `bbox` [x, y, width, height], got {box}; mend it")
    (x, y), (width, height) = polygon_of(where, [box[:2], box[2:]])
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


# --- writing ---------------------------------------------------------------------------------------------------------


def _written(
    sheets: tuple[Sheet, ...], trip: Trip, plain: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, list[int]]]:
    """(images, annotations, ids of the annotations by image), numbered from 1."""
    images, found, ids = [], list[dict[str, Any]](), {}
    for number, sheet in enumerate(sheets, start=1):
        assert sheet.wh is not None, "COCO's files are written with the images at hand"
        width, height = sheet.wh
        images.append({"id": number, "file_name": sheet.name, "width": width, "height": height})
        page = [
            _annotation(trip, sheet.name, index, word, number, len(found) + index, plain)
            for index, word in enumerate(sheet.words, start=1)
        ]
        ids[str(number)] = [ann["id"] for ann in page]
        found += page
    return images, found, ids


def _annotation(trip: Trip, name: str, index: int, word: Word, image: int, number: int, plain: bool) -> dict[str, Any]:
    where = f"image {name}, word {word.id}"
    trip.spare(where, index, word, language=not plain)
    points = trip.points(where, word.polygon_V2)
    flat: list[Number] = [value for point in points for value in point]
    x, y = min(flat[::2]), min(flat[1::2])
    value: dict[str, Any] = {
        "id": number,
        "image_id": image,
        "bbox": [x, y, max(flat[::2]) - x, max(flat[1::2]) - y],
        "area": area(np.asarray(points, dtype=np.float64)),
    }
    if word.transcription is not None:
        value["utf8_string"] = word.transcription
    if plain:
        return value | {"category_id": 1, "segmentation": [flat], "iscrowd": int(word.ignore)}
    if word.language is not None and len(word.language) != 1:
        trip.lose("more than one language of a word is not held; the first is", where)
    language = word.language[0] if word.language else _NO_LANGUAGE
    return value | {"mask": flat, "legibility": "illegible" if word.ignore else "legible", "language": language}
