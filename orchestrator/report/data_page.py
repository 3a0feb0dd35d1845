"""What `data check` found, as text, as JSON, and as one HTML page with pictures.

Shapes: N pages, W words. Coordinates: (x, y) in px, the EXIF-corrected image frame.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from detector.data.check import KINDS, NOTICES, PROBLEMS, Finding, PartFacts, Survey
from detector.types import Float64, Page, Word
from orchestrator.report.document import Block, Gallery, Heading, Picture, Table, Text, html
from orchestrator.report.figures import histograms
from orchestrator.tracking.pictures import page_picture

SHOWN: Final = 5  # findings of a kind in the text; JSON has all
LISTED: Final = 200  # on the page
PICTURES: Final = 6  # of a kind
THUMB_PX: Final = 800  # longest side: words can be told apart, and a page of 40 pictures stays below 10 MB
_UNDRAWN: Final = ("missing", "unreadable", "stale", "unlisted", "unknown")
_HEADER: Final = ("part", "images", "words", "don't care", "words a page", "image px", "word px")


def as_json(survey: Survey) -> dict[str, Any]:
    """All facts and findings."""
    return {
        "clean": survey.clean,
        "parts": [
            {"name": part.name, "pages": len(part.pages), "words": _count(part), "ignored": part.ignored}
            for part in survey.parts
        ],
        "findings": [{"problem": f.kind in PROBLEMS, **asdict(f)} for f in survey.findings],
    }


def as_cells(survey: Survey) -> list[tuple[str, ...]]:
    """The table of parts, its header first."""
    return [_HEADER, *(_row(part) for part in survey.parts)]


def as_lines(survey: Survey) -> list[str]:
    """The findings by kind, a few of each."""
    lines = []
    for title, kinds in (("problems", PROBLEMS), ("notices", NOTICES)):
        lines += ["", f"{title}: none"] if not any(map(survey.of, kinds)) else ["", f"{title}:"]
        for kind, what in kinds.items():
            found = survey.of(kind)
            if found:
                lines += [f"  {what}: {len(found)}", *(f"    {finding}" for finding in found[:SHOWN])]
                lines += [f"    ... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return lines


def page(survey: Survey) -> str:
    """One HTML file: facts, histograms, findings with their pictures, and a few pages as they are."""
    names = ", ".join(part.name for part in survey.parts)
    problems = sum(len(survey.of(kind)) for kind in PROBLEMS)
    verdict = f"{problems} problems" if problems else "No problems"
    notices = sum(len(survey.of(kind)) for kind in NOTICES)
    blocks: list[Block] = [
        Heading(f"Data: {names}", 1),
        Text(f"{verdict}, {notices} notices."),
        Table(_HEADER, [_row(part) for part in survey.parts]),
        Text(
            "Words a page: least, median, most. Image and word px: medians of width x height and of long x short side."
        ),
        Picture("sizes", "Sizes; the last bin holds all above it", histograms(_panels(survey.parts))),
    ]
    for title, kinds in (("Problems", PROBLEMS), ("Notices", NOTICES)):
        found = [kind for kind in kinds if survey.of(kind)]
        if found:
            blocks.append(Heading(title))
        for kind in found:
            blocks += _kind(survey, kind)
    return html([*blocks, *_samples(survey)])


# --- numbers ---------------------------------------------------------------------------------------------------------


def _count(part: PartFacts) -> int:
    return int(part.words_N.sum())


def _row(part: PartFacts) -> tuple[str, ...]:
    words = _count(part)
    share = f"{part.ignored} ({part.ignored / words:.0%})" if words else "0"
    spread = " / ".join(f"{value:.0f}" for value in _quantiles(part.words_N, (0.0, 0.5, 1.0)))
    image = " x ".join(f"{value:.0f}" for column in part.wh_N2.T for value in _quantiles(column, (0.5,)))
    word = " x ".join(f"{value:.0f}" for column in part.sides_W2.T for value in _quantiles(column, (0.5,)))
    return part.name, str(len(part.pages)), str(words), share, spread, image, word


def _quantiles(values: Float64, at: Sequence[float]) -> list[float]:
    return [float(value) for value in np.quantile(values, at)] if values.size else []


def _panels(parts: Sequence[PartFacts]) -> list[tuple[str, list[tuple[str, Float64]]]]:
    def panel(label: str, values: list[Float64]) -> tuple[str, list[tuple[str, Float64]]]:
        return label, [(part.name, kept) for part, kept in zip(parts, values, strict=True)]

    return [
        panel("words a page", [part.words_N for part in parts]),
        panel("longest side of an image, px", [part.wh_N2.max(axis=1, initial=0.0) for part in parts]),
        panel("short side of a word, px", [part.sides_W2[:, 1] for part in parts]),
        panel("long side of a word, px", [part.sides_W2[:, 0] for part in parts]),
    ]


# --- findings --------------------------------------------------------------------------------------------------------


def _kind(survey: Survey, kind: str) -> Iterator[Block]:
    found = survey.of(kind)
    yield Heading(f"{KINDS[kind][0].upper()}{KINDS[kind][1:]}: {len(found)}", 3)
    rows = [(f.part, f.image, ", ".join(f.words), f.detail) for f in found[:LISTED]]
    used = [column for column in range(4) if any(row[column] for row in rows)]
    header = ("part", "image", "words", "what")
    yield Table([header[column] for column in used], [[row[column] for column in used] for row in rows])
    if len(found) > LISTED:
        yield Text(f"... and {len(found) - LISTED} more; `--json` has all of them.")
    if kind not in _UNDRAWN:
        pages = {(part.name, page.name): page for part in survey.parts for page in part.pages}
        pictures = [picture for picture in _pictures(kind, found, pages) if picture is not None]
        if pictures:
            yield Gallery(pictures)


def _pictures(kind: str, found: Sequence[Finding], pages: dict[tuple[str, str], Page]) -> Iterator[Picture | None]:
    """The first few pages that are concerned, with the words in question marked."""
    marked: dict[tuple[str, str], set[str]] = {}
    for finding in found:
        for place in ((finding.part, finding.image), *finding.others):
            marked.setdefault(place, set()).update(finding.words)
    for number, (place, ids) in enumerate(list(marked.items())[:PICTURES]):
        if place in pages:
            yield _picture(f"{kind}-{number}", pages[place], place[0], ids)


def _picture(name: str, page: Page, part: str, ids: set[str]) -> Picture | None:
    """A page with frames around some words; None where its image cannot be decoded."""
    from detector.data.images import read_image
    from detector.errors import DataError

    try:
        image = read_image(page.path)
    except DataError:
        return None
    wh = np.array(image.shape[1::-1], dtype=np.float64)
    frames = [_frame(word, wh) for word in page.words if word.id in ids]
    words = f", word{'s' if len(ids) > 1 else ''} {', '.join(sorted(ids)[:8])}{', ...' if len(ids) > 8 else ''}"
    drawn = page_picture(image, page.words, frames, names=("words", "concerned" if ids else ""), longest_px=THUMB_PX)
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=80, optimize=True)
    return Picture(name, f"{part} {page.name}{words if ids else ''}", buffer.getvalue(), "jpg")


def _frame(word: Word, wh: Float64) -> Float64:
    """A box around a word, wide enough to be seen on a shrunk page, and within it where the word is not."""
    room = 0.012 * float(wh.max())
    low = np.clip(word.polygon_V2.min(axis=0) - room, 0.0, wh - room)
    high = np.clip(word.polygon_V2.max(axis=0) + room, room, wh)
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])


def _samples(survey: Survey) -> Iterator[Block]:
    yield Heading("Pages as they are annotated")
    yield Text("Of each part: the page with the median count of words, and the one with most.")
    pictures = []
    for index, part in enumerate(survey.parts):
        by_words = sorted(part.pages, key=lambda page: len(page.words))
        chosen = dict.fromkeys((by_words[len(by_words) // 2], by_words[-1])) if by_words else {}
        drawn = (_picture(f"sample-{index}-{place}", page, part.name, set()) for place, page in enumerate(chosen))
        pictures += [picture for picture in drawn if picture is not None]
    yield Gallery(pictures)


def write_page(path: Path, survey: Survey) -> None:
    """Write the page, atomically."""
    from detector.files import write_text

    write_text(path, page(survey))
