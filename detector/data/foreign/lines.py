"""One text file an image, one word a line: `x1,y1,x2,y2,x3,y3,x4,y4,text` of ICDAR 2015 and of SROIE 2019 task 1.

The text is all that follows the eighth comma, as it is: commas and quotes belong to it. A line of eight numbers alone
is a word without transcription. ICDAR calls the file of `img_1.jpg` `gt_img_1.txt` (or `img_1.txt`), and a word that
counts neither way has the text `###`; SROIE calls it `img_1.txt` or `.csv`, and knows no such words. Only in `.csv` a
text that was quoted by a CSV writer is read without its quotes, which is counted.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from unicodedata import normalize

import numpy as np

from detector.data.foreign.trip import LINE_END, Sheet, Trip, read_mark, stem, stems
from detector.data.formats_csv import NUMBER
from detector.data.images import list_images, natural
from detector.errors import DataError
from detector.types import Float64, Word

_QUOTED = re.compile(r'"(?:[^"]|"")*[,"](?:[^"]|"")*"')  # a CSV field that had to be quoted, and is so throughout


def read_icdar(source: Path, trip: Trip) -> tuple[Sheet, ...]:
    """The pages of a folder of `gt_*.txt` or `*.txt`."""
    return _read(source, trip, (".txt",), prefix="gt_", dont_care=True)


def read_sroie(source: Path, trip: Trip) -> tuple[Sheet, ...]:
    """The pages of a folder of `*.txt` or `*.csv`."""
    return _read(source, trip, (".txt", ".csv"), prefix="", dont_care=False)


def write_icdar(sheets: tuple[Sheet, ...], trip: Trip) -> dict[str, str]:
    """`gt_*.txt` of every page: file name -> content."""
    return _write(sheets, trip, prefix="gt_", dont_care=True)


def write_sroie(sheets: tuple[Sheet, ...], trip: Trip) -> dict[str, str]:
    """`*.txt` of every page: file name -> content."""
    return _write(sheets, trip, prefix="", dont_care=False)


# --- reading ---------------------------------------------------------------------------------------------------------


def _read(source: Path, trip: Trip, suffixes: tuple[str, ...], prefix: str, dont_care: bool) -> tuple[Sheet, ...]:
    images = _images(trip)
    sheets, homes = [], dict[str, Path]()
    for path in list_files(source, suffixes):
        name = _image_name(path, prefix, images, trip)
        if name is None:
            continue
        if name in homes:
            trip.fault(f"{path}: image {name} has {homes[name]} already; remove one")
            continue
        homes[name] = path
        text = read_text(path, trip.options.encoding)
        lines = enumerate(LINE_END.split(text), start=1)
        filled = ((f"{path}:{number}", line) for number, line in lines if line.strip())
        words = (
            _word(trip, where, index, line, path.suffix.lower() == ".csv", dont_care)
            for index, (where, line) in enumerate(filled, start=1)
        )
        sheets.append(Sheet(name, tuple(word for word in words if word is not None)))
    return tuple(sheets)


def list_files(source: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder by suffix, hidden ones left out, `a_2` before `a_10`; DataError where there is none."""
    if not source.is_dir():
        raise DataError(f"{source}: is not a folder; this format has one file an image: name their folder")
    files = [p for p in source.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "." and p.is_file()]
    if not files:
        raise DataError(f"{source}: holds no {' or '.join(suffixes)} file; check the path and --from")
    return sorted(files, key=lambda path: natural(path.name))


def read_text(path: Path, encoding: str) -> str:
    """The text of a file without a byte order mark; DataError where it cannot be read."""
    try:
        return path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not {encoding} at byte {error.start}; name its encoding, e.g. --encoding cp1252"
        ) from error


def _images(trip: Trip) -> dict[str, list[str]] | None:
    """Names of the image files by composed stem; None where no folder was given."""
    if trip.options.images is None:
        return None
    found: dict[str, list[str]] = {}
    for path in list_images(trip.options.images):
        found.setdefault(normalize("NFC", stem(path.name)), []).append(path.name)
    return found


def _image_name(path: Path, prefix: str, images: dict[str, list[str]] | None, trip: Trip) -> str | None:
    stems_ = [path.stem.removeprefix(prefix), path.stem]  # an image may itself be called gt_1.jpg
    if images is None:
        trip.lose("image name is not in the file, .jpg assumed (--images tells)", str(path))
        return f"{stems_[0]}.jpg"
    names = next((images[key] for key in (normalize("NFC", stem_) for stem_ in stems_) if key in images), [])
    if len(names) == 1:
        return names[0]
    if names:
        trip.fault(f"{path}: belongs to {' or '.join(names)}; rename or remove one")
    else:
        trip.fault(f"{path}: has no image {stems_[0]}.* in {trip.options.images}; restore it or remove the file")
    return None


def _word(trip: Trip, where: str, index: int, line: str, is_csv: bool, dont_care: bool) -> Word | None:
    fields = line.split(",", 8)
    numbers = [field.strip() for field in fields[:8]]
    good = len(numbers) == 8 and all(NUMBER.fullmatch(part) and abs(float(part)) < 1e9 for part in numbers)
    if not good:
        trip.fault(f"{where}: must begin with 8 numbers x1,y1,...,x4,y4 below 1e9, got {line[:60]!r}; mend the line")
        return None
    polygon: Float64 = np.array([float(part) for part in numbers]).reshape(4, 2)
    text = fields[8] if len(fields) == 9 else None
    if is_csv and text is not None and _QUOTED.fullmatch(text):
        trip.lose("text was quoted by a CSV writer; read without its quotes", where)
        text = next(csv.reader([text]))[0]
    text, ignore = read_mark(text) if dont_care else (text, False)
    return trip.word(where, index, polygon, text, ignore)


# --- writing ---------------------------------------------------------------------------------------------------------


def _write(sheets: tuple[Sheet, ...], trip: Trip, prefix: str, dont_care: bool) -> dict[str, str]:
    files = {}
    for key, sheet in stems(trip, sheets).items():
        lines = (_line(trip, sheet.name, index, word, dont_care) for index, word in enumerate(sheet.words, start=1))
        files[f"{prefix}{key}.txt"] = "".join(f"{line}\n" for line in lines if line is not None)
    return files


def _line(trip: Trip, name: str, index: int, word: Word, dont_care: bool) -> str | None:
    where = f"image {name}, word {word.id}"
    trip.spare(where, index, word)
    if word.ignore and not dont_care:
        trip.change("don't-care word, the format knows none", where, "it is left out")
        return None
    quad = trip.quad(where, word.polygon_V2)
    if quad is None:
        return None
    fields = [str(value) for point in trip.points(where, quad) for value in point]
    text = trip.marked(where, word) if dont_care else word.transcription
    return ",".join(fields if text is None else [*fields, trip.one_line(where, text)])
