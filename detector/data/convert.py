"""Annotations of other tools to the competition's format and back.

Nothing is lost in silence: what the target does not hold is counted in `Conversion.notes`, and what would change or
drop a word stops the conversion unless `Options.lossy` allows it. All faults of a source are told at once, and then
nothing is written. Coordinates: the EXIF-corrected image frame, but for foreign files under `Options.frame`.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from detector.data.foreign.coco import read_coco, read_coco_text, write_coco, write_coco_text
from detector.data.foreign.frames import stored_size, to_stored, to_upright
from detector.data.foreign.labelme import read_labelme, write_labelme
from detector.data.foreign.lines import read_icdar, read_sroie, write_icdar, write_sroie
from detector.data.foreign.paddle import read_paddle, write_paddle
from detector.data.foreign.trip import Options, Sheet, Trip
from detector.data.formats import write_annotations
from detector.data.images import Shelf, image_size, orientation
from detector.data.words_json import DROPPED, parse_words
from detector.errors import DataError, InputError
from detector.files import write_text
from detector.types import Float64, Page, Word

COMPETITION: Final = "competition"
_NOWHERE = Path("/dev/null/images")  # no file is ever here: pages whose images were not given


@dataclass(frozen=True, slots=True)
class Form:
    """A foreign format: its reader, its writer, and what it needs.

    Attributes:
        suffix: of the files in a folder, where it has one file an image; "" for one file in all.
        sized: it holds the size of each image, so the images must be at hand to write it.
        text: it is read by lines in some encoding.
    """

    read: Callable[[Path, Trip], tuple[Sheet, ...]]
    write: Callable[[tuple[Sheet, ...], Trip], dict[str, str]]
    suffix: str = ""
    sized: bool = False
    text: bool = False


FORMS: Final = {
    "icdar": Form(read_icdar, write_icdar, suffix=".txt", text=True),
    "sroie": Form(read_sroie, write_sroie, suffix=".txt", text=True),
    "paddle": Form(read_paddle, write_paddle, text=True),
    "labelme": Form(read_labelme, write_labelme, suffix=".json", sized=True),
    "coco-text": Form(read_coco_text, write_coco_text, sized=True),
    "coco": Form(read_coco, write_coco, sized=True),
}
NAMES: Final = (COMPETITION, *FORMS)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was done: pages and words written, and one line for everything that was lost on the way."""

    pages: int
    words: int
    notes: tuple[str, ...]


def convert(
    source: Path, out: Path, origin: str, target: str, options: Options | None = None, *, force: bool = False
) -> Conversion:
    """Read `source` in the format `origin` and write it to `out` in the format `target`, both of `NAMES`.

    Args:
        source: a file, or a folder for the formats with one file an image.
        out: likewise.
        force: write over existing files.

    Raises:
        DataError: the source breaks its format, an image is missing, or the target does not hold a word; one line a
            fault, and nothing is written.
        InputError: options that do not go together, or `out` exists.
    """
    chosen = options or Options()
    _consistent(chosen, origin, target)
    _free(out, target, force)
    trip = Trip(chosen, out)
    sheets = _read(source, origin, trip)
    trip.check()
    paths = _find(source, sheets, trip)
    trip.check()
    if origin != COMPETITION:
        sheets = tuple(_turned_in(sheet, paths.get(sheet.name), trip) for sheet in sheets)
    _encodable(sheets, trip)
    trip.check()
    if target == COMPETITION:
        write_annotations(out, (Page(s.name, paths.get(s.name, _NOWHERE / s.name), s.words) for s in sheets))
    else:
        files = FORMS[target].write(tuple(_turned_out(sheet, paths.get(sheet.name), trip) for sheet in sheets), trip)
        trip.check()
        for name, text in files.items():
            write_text(out / name if name else out, text)
        for path in out.iterdir() if FORMS[target].suffix else ():
            if path.suffix.lower() == FORMS[target].suffix and path.name not in files:
                trip.lose("older file of the folder stays, and mixes with the new ones", str(path))
    return Conversion(len(sheets), sum(len(sheet.words) for sheet in sheets), trip.notes())


# --- before ----------------------------------------------------------------------------------------------------------


def _consistent(options: Options, origin: str, target: str) -> None:
    foreign = [FORMS[name] for name in (origin, target) if name != COMPETITION]
    if origin == target:
        raise InputError(f"--from and --to are both {origin}: there is nothing to convert; choose another")
    if options.images is None and target != COMPETITION and FORMS[target].sized:
        raise InputError(f"--to {target}: it holds the images' sizes; give --images DIR")
    if options.images is None and options.frame == "stored":
        raise InputError("--frame stored: the orientations are in the images; give --images DIR")
    if options.subset is not None and "coco-text" not in (origin, target):
        raise InputError("--subset: only coco-text has sets in one file; leave it out")
    if options.encoding != Options().encoding and not (origin != COMPETITION and FORMS[origin].text):
        raise InputError(f"--encoding: {origin} is always UTF-8; leave it out")
    if (options.whole or options.frame == "stored") and not foreign:
        raise InputError("--round and --frame belong to foreign files")
    if options.whole and target == COMPETITION:
        raise InputError("--round: the competition's format holds decimals; leave it out")
    try:
        codecs.lookup(options.encoding)
    except LookupError:
        raise InputError(f"--encoding {options.encoding}: is unknown; use e.g. utf-8, cp949, cp1252") from None


def _free(out: Path, target: str, force: bool) -> None:
    """Refuse to write over files, and to mix two sets in one folder."""
    suffix = FORMS[target].suffix if target != COMPETITION else ""
    if bool(suffix) == out.is_file() and out.exists():
        raise InputError(f"-o {out}: {target} is written to a {'folder' if suffix else 'file'}; choose another name")
    held = any(path.suffix.lower() == suffix for path in out.iterdir()) if suffix and out.is_dir() else out.is_file()
    if held and not force:
        what = f"holds {suffix} files already" if suffix else "exists already"
        raise InputError(f"-o {out}: {what}; choose another name or give --force")


def _read(source: Path, origin: str, trip: Trip) -> tuple[Sheet, ...]:
    if origin != COMPETITION:
        if not source.exists():
            raise DataError(f"{source}: there is no such file or folder; check the path")
        if source.is_dir() and not FORMS[origin].suffix:
            raise DataError(f"{source}: is a folder; {origin} is one file: name it")
        return FORMS[origin].read(source, trip)
    parsed = parse_words(source)
    for name, word, why in parsed.dropped:
        trip.lose(f"word {DROPPED[why]}", f"image {name}, word {word}")
    for key, (count, place) in parsed.unknown.items():
        trip.losses[f"key {key!r} is not part of the format; not used"] = count, place
    return tuple(Sheet(name, words) for name, words in parsed.words.items())


def _find(source: Path, sheets: tuple[Sheet, ...], trip: Trip) -> dict[str, Path]:
    """The image files by name; all that are missing are faults."""
    if trip.options.images is None:
        return {}
    shelf = Shelf(trip.options.images)
    found = {sheet.name: shelf.find(sheet.name) for sheet in sheets}
    for name in (name for name, path in found.items() if path is None):
        trip.fault(f"{source}: image {name}: not in {trip.options.images}; restore the file or remove the entry")
    return {name: path for name, path in found.items() if path is not None}


def _encodable(sheets: tuple[Sheet, ...], trip: Trip) -> None:
    """Halves of surrogate pairs (JSON may hold them) are no text that a file can hold."""
    for sheet in sheets:
        for word in sheet.words:
            parts = (word.id, word.transcription or "", word.orientation or "", *(word.language or ()))
            if any("\ud800" <= sign <= "\udfff" for part in parts for sign in part):
                trip.fault(f"image {sheet.name}, word {word.id!r}: holds half a surrogate pair; mend the text")


# --- frames ----------------------------------------------------------------------------------------------------------


def _turned_in(sheet: Sheet, path: Path | None, trip: Trip) -> Sheet:
    """A foreign page in the upright frame; a size that tells of the other frame is a fault."""
    if path is None:
        return sheet
    turn, upright_wh = orientation(path), image_size(path)
    stored_wh = stored_size(turn, upright_wh)
    stored = trip.options.frame == "stored"
    if sheet.wh is not None and sheet.wh != (stored_wh if stored else upright_wh):
        if sheet.wh == (upright_wh if stored else stored_wh):
            other = "leave out --frame stored" if stored else "give --frame stored"
            trip.fault(
                f"image {sheet.name}: is {upright_wh[0]} x {upright_wh[1]} px upright and stored turned (EXIF), the "
                f"annotations say {sheet.wh[0]} x {sheet.wh[1]}: its coordinates are of the other frame; {other}"
            )
        else:
            trip.lose("size in the annotations is not the image's; not used", f"image {sheet.name}")
    if not stored or turn == 1:
        return sheet
    return Sheet(sheet.name, tuple(_at(w, to_upright(w.polygon_V2, turn, upright_wh)) for w in sheet.words), sheet.wh)


def _turned_out(sheet: Sheet, path: Path | None, trip: Trip) -> Sheet:
    """A page in the frame that the foreign file shall have, with its size there."""
    if path is None:
        return sheet
    turn, wh = orientation(path), image_size(path)
    if trip.options.frame == "upright" or turn == 1:
        return Sheet(sheet.name, sheet.words, wh)
    words = tuple(_at(word, to_stored(word.polygon_V2, turn, wh)) for word in sheet.words)
    return Sheet(sheet.name, words, stored_size(turn, wh))


def _at(word: Word, polygon_V2: Float64) -> Word:
    return replace(word, polygon_V2=polygon_V2)
