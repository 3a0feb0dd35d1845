"""What a synthetic receipt says, and how it is set: lines of words with exactly known boxes on flat paper.

Coordinates: px of the flat sheet, which is drawn `SUPERSAMPLE` times finer than the finished picture. Fonts are files
of two packages that the project depends on anyway: matplotlib's DejaVu (Latin) and koreanize-matplotlib's NanumGothic
(Hangul and Latin). The packages are found, not imported: their imports are slow and change matplotlib's settings.
"""

from __future__ import annotations

import functools
import importlib.util
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ImageFont

from detector.errors import InputError

SUPERSAMPLE = 2
_DEJAVU, _NANUM = ("matplotlib", "mpl-data/fonts/ttf"), ("koreanize_matplotlib", "fonts")
LATIN_FACES = (
    "DejaVuSansMono",
    "DejaVuSans",
    "DejaVuSans-Bold",
    "NanumGothic",
    "DejaVuSansMono-Bold",
    "NanumGothicBold",
)
HANGUL_FACES = ("NanumGothic", "NanumGothicBold")

_SHOPS = (
    ("행복마트", "강남점"), ("서울 식자재", "할인마트"), ("카페 온도", "역삼점"),
    ("GREEN MARKET", "Seoul"), ("COFFEE HOUSE", "Jongno"), ("큰나무 식당", "본점"),
    ("SUNRISE BAKERY", "Busan"), ("하나로 편의점", "대학로점"),
)  # fmt: skip
_STREETS = (
    "서울시 강남구 테헤란로 152", "서울 종로구 종로 33", "부산시 해운대구 센텀로 45", "12 Harbour Road, Busan",
    "경기도 성남시 판교로 242",
)  # fmt: skip
_ITEMS = (
    "아메리카노", "카페라떼", "바닐라 라떼", "초코 케이크", "김치찌개", "된장찌개 정식", "비빔밥", "신라면 컵",
    "삼각김밥 참치", "서울우유 1L", "생수 500ml", "햇반 210g", "콩나물 300g", "유기농 두부", "국산 양파",
    "제주 감귤 2kg", "Americano", "Cafe Latte", "Green Tea", "Croissant", "Cheese Cake", "Orange Juice",
    "Milk 1L", "Brown Bread", "Rice 4kg", "Banana", "Tuna Can 150g", "Paper Cup", "계란 30구", "딸기잼",
    "Chicken Set A", "새우깡", "Corn Soup", "물티슈 10매", "Battery AA",
)  # fmt: skip
_THANKS = (
    "감사합니다 또 오세요", "THANK YOU", "교환 환불 7일 이내", "영수증을 꼭 지참하세요", "Please come again",
    "반품시 영수증 필수",
)  # fmt: skip
# Lines that the totals can take at most, in pitches.
_TOTALS_HEIGHT = 5.2
_HEIGHTS = {"rule": 0.6, "gap": 0.5, "bars": 1.8, "logo": 1.9}


@dataclass(frozen=True, slots=True)
class Cell:
    """Some words on a line, set from the left, to the middle or to the right of the share `at` of the width."""

    text: str
    at: float = 0.0
    align: Literal["left", "middle", "right"] = "left"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a receipt: its cells, or a rule (`-`, `=`), a gap or bars instead of text."""

    cells: tuple[Cell, ...] = ()
    kind: Literal["text", "rule", "gap", "bars", "logo"] = "text"
    scale: float = 1.0
    bold: bool = False

    @property
    def height(self) -> float:
        """In pitches of ordinary text."""
        return _HEIGHTS.get(self.kind, self.scale)


@dataclass(frozen=True, slots=True)
class SetWord:
    """A word in place: `origin` begins its baseline, `box` = (left, top, right, bottom) is its ink with a margin."""

    text: str
    font: ImageFont.FreeTypeFont
    origin: tuple[float, float]
    box: tuple[float, float, float, float]


def write_lines(rng: np.random.Generator, words: int, room: float) -> list[Line]:
    """The text of a receipt: header, items, totals, footer.

    Items are bought until there are about `words` words or `room`, in pitches, is full; there is one at least.
    """
    head, foot = _header(rng), _footer(rng)
    items: list[Line] = []
    total, count = 0, _count(head) + _count(foot) + 6
    used = sum(line.height for line in (*head, *foot)) + 3 * _HEIGHTS["rule"] + _TOTALS_HEIGHT
    while not items or (count < words and used + len(items) + 1.0 <= room):
        quantity, price = int(rng.integers(1, 5)), int(rng.integers(5, 300)) * 100
        total += quantity * price
        cells = Cell(str(rng.choice(_ITEMS))), Cell(str(quantity), 0.68, "right")
        items.append(Line((*cells, Cell(f"{quantity * price:,}", 1.0, "right"))))
        count += _count(items[-1:])
    rule = Line(kind="rule")
    return [*head, rule, *items, rule, *_totals(rng, total), rule, *foot]


def set_lines(
    rng: np.random.Generator, lines: Sequence[Line], width: float, em: float, pitch: float
) -> tuple[list[SetWord], list[tuple[Line, float]], float]:
    """Place lines on paper `width` px wide.

    Args:
        rng: chooses the faces.
        lines: what to set.
        width: of the printed column, px; x runs from 0 to it.
        em: size of the ordinary text, px.
        pitch: distance of ordinary lines, px.

    Returns:
        the words; what is no text, each with its top; the height of it all.
    """
    latin, hangul = str(rng.choice(LATIN_FACES)), str(rng.choice(HANGUL_FACES))
    placed: list[SetWord] = []
    others: list[tuple[Line, float]] = []
    top = 0.0
    for line in lines:
        height = pitch * line.height
        if line.kind == "text":
            faces = (_bold(latin), _bold(hangul)) if line.bold else (latin, hangul)
            placed.extend(_set_line(line, width, top + 0.76 * height, em * line.scale, faces))
        else:
            others.append((line, top))
        top += height
    return placed, others, top


def font_file(face: str) -> Path:
    """The file of a face, e.g. `NanumGothic`.

    Raises:
        InputError: the package that ships it is not installed.
    """
    package, folder = _NANUM if face.startswith("Nanum") else _DEJAVU
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / folder / f"{face}.ttf" if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise InputError(f"font {face}.ttf: not found in the package {package}; install {package.replace('_', '-')}")
    return path


@functools.lru_cache(maxsize=256)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    # The basic layout is the same everywhere; Raqm's depends on what is installed.
    return ImageFont.truetype(str(font_file(face)), size, layout_engine=ImageFont.Layout.BASIC)


def _set_line(line: Line, width: float, baseline: float, em: float, faces: tuple[str, str]) -> list[SetWord]:
    """The words of one line; a cell that would run into the one before gives up words from its end."""
    words: list[SetWord] = []
    limits = [_extent(cell, width, em, faces)[0] for cell in line.cells[1:]]
    for cell, limit in zip(line.cells, [*limits, width + 1.0], strict=True):
        texts = cell.text.split()
        while (
            len(texts) > 1
            and _extent(Cell(" ".join(texts), cell.at, cell.align), width, em, faces)[1] > limit - 0.6 * em
        ):
            texts.pop()
        x = _extent(Cell(" ".join(texts), cell.at, cell.align), width, em, faces)[0]
        for text in texts:
            font = _font_of(text, em, faces)
            left, top, right, bottom = font.getbbox(text, anchor="ls")
            margin = 0.07 * em
            words.append(
                SetWord(
                    text,
                    font,
                    (x, baseline),
                    (x + left - margin, baseline + top - margin, x + right + margin, baseline + bottom + margin),
                )
            )
            x += font.getlength(text) + _space(em)
    return words


def _extent(cell: Cell, width: float, em: float, faces: tuple[str, str]) -> tuple[float, float]:
    """Where a cell begins and ends, px."""
    texts = cell.text.split()
    length = sum(_font_of(text, em, faces).getlength(text) for text in texts) + _space(em) * (len(texts) - 1)
    start = cell.at * width - {"left": 0.0, "middle": 0.5, "right": 1.0}[cell.align] * length
    return start, start + length


def _font_of(text: str, em: float, faces: tuple[str, str]) -> ImageFont.FreeTypeFont:
    hangul = any(unicodedata.name(sign, "").startswith("HANGUL") for sign in text)
    return _font(faces[1] if hangul else faces[0], max(4, round(em)))


def _space(em: float) -> float:
    # Wider than a typographer's (.25 to .33 em): words are the unit that is detected.
    return 0.45 * em


def _bold(face: str) -> str:
    return face if "Bold" in face else f"{face}Bold" if face.startswith("Nanum") else f"{face}-Bold"


def _count(lines: Sequence[Line]) -> int:
    return sum(len(cell.text.split()) for line in lines for cell in line.cells)


def _digits(rng: np.random.Generator, pattern: str) -> str:
    return "".join(str(rng.integers(10)) if sign == "#" else sign for sign in pattern)


def _header(rng: np.random.Generator) -> list[Line]:
    shop, branch = _SHOPS[int(rng.integers(len(_SHOPS)))]
    lines = [Line(kind="logo")] if rng.random() < 0.25 else []
    lines.append(Line((Cell(shop, 0.5, "middle"),), scale=float(rng.uniform(1.2, 1.5)), bold=True))
    lines.append(Line((Cell(branch, 0.5, "middle"),)))
    if rng.random() < 0.7:
        lines.append(Line((Cell(str(rng.choice(_STREETS))),)))
    if rng.random() < 0.6:
        lines.append(Line((Cell("TEL"), Cell(_digits(rng, "02-#30-####"), 0.22))))
    day = f"20{rng.integers(20, 26)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
    lines.append(Line((Cell(day), Cell(f"{rng.integers(8, 23):02d}:{rng.integers(60):02d}", 1.0, "right"))))
    if rng.random() < 0.5:
        lines.append(Line(kind="rule"))
        lines.append(Line((Cell("상품명"), Cell("수량", 0.68, "right"), Cell("금액", 1.0, "right"))))
    return lines


def _totals(rng: np.random.Generator, total: int) -> list[Line]:
    lines = []
    if rng.random() < 0.6:
        tax = round(total / 11)
        lines.append(Line((Cell("과세물품"), Cell(f"{total - tax:,}", 1.0, "right"))))
        lines.append(Line((Cell("부가세"), Cell(f"{tax:,}", 1.0, "right"))))
    name = str(rng.choice(("합계", "TOTAL", "결제금액")))
    lines.append(Line((Cell(name), Cell(f"{total:,}", 1.0, "right")), scale=1.2, bold=True))
    if rng.random() < 0.5:
        paid = -(-total // 10_000) * 10_000
        lines.append(Line((Cell("현금"), Cell(f"{paid:,}", 1.0, "right"))))
        lines.append(Line((Cell("거스름돈"), Cell(f"{paid - total:,}", 1.0, "right"))))
    else:
        lines.append(Line((Cell("신용카드"), Cell(_digits(rng, "####-##**-****"), 1.0, "right"))))
    return lines


def _footer(rng: np.random.Generator) -> list[Line]:
    lines = [Line((Cell(str(rng.choice(_THANKS)), 0.5, "middle"),))]
    if rng.random() < 0.5:
        lines.append(Line((Cell(_digits(rng, "POS ## No. ######")),)))
    if rng.random() < 0.5:
        lines += [Line(kind="gap"), Line(kind="bars")]
    return lines
