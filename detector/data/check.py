"""Checks of annotated sets: what in their files, images and words a training or a score would suffer from.

Problems make a set wrong, notices are worth a look. Every image is decoded once, and its pixels are forgotten at once.
Shapes: N pages, W words, V vertices. Coordinates: (x, y) in px, the EXIF-corrected image frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from detector.data.check_images import Look, equal_groups, look_at, similar_groups
from detector.data.check_words import check_words, sides
from detector.data.images import SUFFIXES, Shelf, natural
from detector.data.words_json import DROPPED, Parsed, parse_words
from detector.errors import DataError
from detector.types import Float64, Page, Word

PROBLEMS: Final = {
    "missing": "listed images that are not in the folder",
    "unreadable": "images that cannot be decoded whole",
    "same": "images with equal pixels",
    "degenerate": "words without an area of 1 px²",
    "crossing": "words whose outline crosses or touches itself",
    "outside": "words wholly outside their image",
    "twice": "words that lie on another one",
}
NOTICES: Final = {
    "similar": "images that look alike (judged by small pictures of them, not by their pixels)",
    "beyond": "words with vertices more than 1 px outside their image",
    "stale": "images of another size than img_w x img_h",
    "unlisted": "images in the folder that no annotation lists",
    "empty": "pages without words",
    "unknown": "keys that the format does not have",
}
KINDS: Final = {**PROBLEMS, **NOTICES}


@dataclass(frozen=True, slots=True)
class Part:
    """One set to check: its name in messages, its annotation file and its image folder."""

    name: str
    annotations: Path
    images: Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        kind: a key of `KINDS`.
        part: the part's name; "" where it is about a folder that several share.
        image: file name; "" where it is about no image.
        words: ids of the words that it is about.
        detail: what else there is to say.
        others: the other images of a group of equal or similar ones, as (part, image).
    """

    kind: str
    part: str
    image: str
    words: tuple[str, ...] = ()
    detail: str = ""
    others: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> str:
        """Where it is, in one line."""
        words = f"word{'s' if len(self.words) > 1 else ''} {', '.join(self.words)}" if self.words else ""
        return ", ".join(filter(None, [" ".join(filter(None, [self.part, self.image])), words]))

    def __str__(self) -> str:
        return f"{self.place}: {self.detail}" if self.detail else self.place


@dataclass(frozen=True, slots=True, eq=False)
class PartFacts:
    """What a part holds.

    Attributes:
        pages: those whose image is there, in the file's order.
        ignored: don't-care words among all.
        wh_N2: size of each image that can be decoded, px.
        words_N: words of each page.
        sides_W2: long and short side of each word, px.
    """

    name: str
    pages: tuple[Page, ...]
    ignored: int
    wh_N2: Float64
    words_N: Float64
    sides_W2: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The parts, and all that was found, by kind in the order of `KINDS`."""

    parts: tuple[PartFacts, ...]
    findings: tuple[Finding, ...]

    def of(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    @property
    def clean(self) -> bool:
        """Whether there is no problem; notices may be there."""
        return not any(finding.kind in PROBLEMS for finding in self.findings)


Progress = Callable[[Iterable[Any], int], Iterable[Any]]


def check(parts: Sequence[Part], progress: Progress | None = None, threads: int = 0) -> Survey:
    """Check the parts, each and together.

    Args:
        progress: wraps the images that are being decoded: (looks, how many) -> the same looks.
        threads: that decode; 0 takes one a processor, 8 at most.

    Raises:
        DataError: an annotation file breaks the format, or a folder is not there.
    """
    parsed = [parse_words(part.annotations, keep_flat=True) for part in parts]
    shelves = {part.images: Shelf(part.images) for part in parts}
    found = [{name: shelves[p.images].find(name) for name in one.words} for p, one in zip(parts, parsed, strict=True)]
    paths = list(dict.fromkeys(path for files in found for path in files.values() if path is not None))
    looks: Iterable[Look] = look_at(paths, threads)
    seen = dict(zip(paths, progress(looks, len(paths)) if progress else looks, strict=True))
    findings: list[Finding] = []
    facts = []
    for part, one, files in zip(parts, parsed, found, strict=True):
        findings += _file_findings(part, one, files, seen)
        sizes = {name: seen[path].wh for name, path in files.items() if path is not None and not seen[path].fault}
        findings += _word_findings(part, one, sizes)
        facts.append(_facts(part, one, files, sizes))
    findings += _groups(parts, parsed, found, seen)
    findings += _unlisted(shelves, paths)
    order = list(KINDS)
    return Survey(tuple(facts), tuple(sorted(findings, key=lambda finding: order.index(finding.kind))))


# --- one part --------------------------------------------------------------------------------------------------------


def _file_findings(
    part: Part, parsed: Parsed, files: dict[str, Path | None], seen: dict[Path, Look]
) -> Iterator[Finding]:
    for name, path in files.items():
        if path is None:
            yield Finding("missing", part.name, name)
            continue
        look, size = seen[path], parsed.sizes.get(name)
        if look.fault:
            yield Finding("unreadable", part.name, name, detail=look.fault.removeprefix(f"{path}: "))
        elif size is not None and size != look.wh:
            yield Finding(
                "stale", part.name, name, detail=f"is {look.wh[0]} x {look.wh[1]}, annotated {size[0]} x {size[1]}"
            )
    for name in (name for name, words in parsed.words.items() if not words):
        yield Finding("empty", part.name, name)
    for key, (count, place) in parsed.unknown.items():
        yield Finding("unknown", part.name, "", detail=f"{key!r}, {count} times (first: {place})")


def _word_findings(part: Part, parsed: Parsed, sizes: dict[str, tuple[int, int]]) -> Iterator[Finding]:
    for name, word, why in parsed.dropped:
        yield Finding("degenerate", part.name, name, (word,), DROPPED[why].removesuffix("; dropped"))
    for name, words in parsed.words.items():
        for fault in check_words(words, sizes.get(name)):
            yield Finding(fault.kind, part.name, name, fault.words, fault.detail)


def _facts(part: Part, parsed: Parsed, files: dict[str, Path | None], sizes: dict[str, tuple[int, int]]) -> PartFacts:
    polygons = [word.polygon_V2 for words in parsed.words.values() for word in words]
    return PartFacts(
        name=part.name,
        pages=tuple(Page(name, path, parsed.words[name]) for name, path in files.items() if path is not None),
        ignored=parsed.counts["ignored"],
        wh_N2=np.array(list(sizes.values()), dtype=np.float64).reshape(-1, 2),
        words_N=np.array([len(words) for words in parsed.words.values()], dtype=np.float64),
        sides_W2=sides(polygons),
    )


# --- all parts -------------------------------------------------------------------------------------------------------


def _groups(
    parts: Sequence[Part], parsed: Sequence[Parsed], found: Sequence[dict[str, Path | None]], seen: dict[Path, Look]
) -> Iterator[Finding]:
    """Equal and similar images; a file that two parts list is equal to itself."""
    places: list[tuple[int, str]] = []
    files: list[Path] = []
    for index, listed in enumerate(found):
        for name, path in listed.items():
            if path is not None:
                places.append((index, name))
                files.append(path)
    looks = [seen[path] for path in files]
    groups = [("same", group) for group in equal_groups(looks)]
    groups += [("similar", group) for group in similar_groups(files, looks)]
    for kind, group in groups:
        first, *others = (places[place] for place in group)
        names = tuple((parts[index].name, name) for index, name in others)
        detail = f"{'=' if kind == 'same' else '~'} {', '.join(' '.join(name) for name in names)}"
        if any(index != first[0] for index, _ in others):
            detail += "; in more than one part"
        if kind == "same" and len({_outlines(parsed[index].words[name]) for index, name in (first, *others)}) > 1:
            detail += "; annotated differently"
        yield Finding(kind, parts[first[0]].name, first[1], detail=detail, others=names)


def _outlines(words: tuple[Word, ...]) -> tuple[tuple[bytes, bool], ...]:
    """What two equal pages must have in common."""
    return tuple(sorted((word.polygon_V2.tobytes(), word.ignore) for word in words))


def _unlisted(shelves: dict[Path, Shelf], paths: Sequence[Path]) -> Iterator[Finding]:
    used = set(paths)
    for folder in shelves:
        files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
        for path in sorted(files, key=lambda path: natural(path.name)):
            if path not in used:
                yield Finding("unlisted", "", path.name, detail=f"in {folder}")


def parts_of(source: Path, images: Path | None = None) -> list[Part]:
    """The parts that a path names: an annotation file, or a folder with some, and `images/` beside them.

    Raises:
        DataError: there is none.
    """
    if source.is_dir():
        files = sorted(path for path in source.glob("*.json") if path.name[0] != ".")
        if not files:
            raise DataError(f"{source}: holds no annotations (*.json); name a set's folder or its file")
    elif source.is_file():
        files = [source]
    else:
        raise DataError(f"{source}: there is no such file or folder; check the path")
    folder = images or (source if source.is_dir() else source.parent) / "images"
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name the images' with --images DIR")
    return [Part(f"{path.resolve().parent.name}/{path.stem}", path, folder) for path in files]
