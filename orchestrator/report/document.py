"""A small document (headings, paragraphs, tables, figures) and its two faces: Markdown, and one HTML file.

All text is plain; each face escapes it. Figures are inside the HTML, and files beside the Markdown.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Heading:
    """`level` 1 is the title."""

    text: str
    level: Literal[1, 2, 3] = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; `code` shows it as it is, line by line."""

    text: str
    code: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """`words` of a cell that are one of the verdicts get a colour in HTML."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure; `name` becomes its file's, `kind` its suffix."""

    name: str
    caption: str
    data: bytes
    kind: Literal["svg", "jpg"] = "svg"


@dataclass(frozen=True, slots=True)
class Gallery:
    """Small pictures beside each other."""

    pictures: Sequence[Picture]


Block: TypeAlias = Heading | Text | Table | Picture | Gallery
_MEDIA = {"svg": "image/svg+xml", "jpg": "image/jpeg"}

_COLOURS = {
    "confirmed": "good",
    "passed": "good",
    "recommended": "good",
    "finished": "good",
    "refuted": "bad",
    "failed": "bad",
    "undecided": "open",
    "not recommended": "open",
    "pruned": "open",
}
_CSS = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2, h3 { line-height: 1.2; margin: 1.6em 0 .5em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
th { background: #f5f5f5; white-space: nowrap; }
td.good { color: #06752c; font-weight: 600; } td.bad { color: #b3261e; font-weight: 600; } td.open { color: #7a5b00; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: 13px; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption { color: #666; font-size: 13px; }
.gallery { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.gallery figure { margin: 0; width: 22rem; } .gallery img { border: 1px solid #ddd; }
figcaption { overflow-wrap: anywhere; }
"""


def markdown(blocks: Sequence[Block], folder: str) -> str:
    """GitHub's Markdown; figures are looked for as `folder/NAME.KIND`."""
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {_plain(block.text)}")
        elif isinstance(block, Text):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block.text)), default=0))
            parts.append(f"{fence}\n{block.text}\n{fence}" if block.code else _plain(block.text))
        elif isinstance(block, Table):
            rows = [_row(block.header), "|" + "---|" * len(block.header), *(_row(row) for row in block.rows)]
            parts.append("\n".join(rows))
        else:
            pictures = block.pictures if isinstance(block, Gallery) else [block]
            parts += [f"![{_plain(one.caption)}]({folder}/{one.name}.{one.kind})" for one in pictures]
    return "\n\n".join(parts) + "\n"


def html(blocks: Sequence[Block]) -> str:
    """One file without references to others, and without scripts."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "report")
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_CSS}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        tag = "pre" if block.code else "p"
        return f"<{tag}>{escape(block.text)}</{tag}>"
    if isinstance(block, Picture):
        # As an image, not inline: ids of two figures would clash, and an image runs no script.
        data = base64.b64encode(block.data).decode("ascii")
        caption = escape(block.caption)
        return (
            f'<figure><img alt="{caption}" src="data:{_MEDIA[block.kind]};base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    if isinstance(block, Gallery):
        return '<div class="gallery">' + "\n".join(_html(picture) for picture in block.pictures) + "</div>"
    head = "".join(f"<th>{escape(cell)}</th>" for cell in block.header)
    rows = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>\n" for row in block.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'


def _cell(text: str) -> str:
    colour = _COLOURS.get(text)
    return f'<td class="{colour}">{escape(text)}</td>' if colour else f"<td>{escape(text)}</td>"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = re.sub(r"([\\`*_\[\]|])", r"\\\1", " ".join(text.split()))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")
