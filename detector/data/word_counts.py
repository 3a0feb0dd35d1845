"""How many words the pages of a set have: what the number of boxes on other pages is held against.

Shapes: P pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from detector.data.index import PageIndex
from detector.types import Page


@dataclass(frozen=True, slots=True)
class WordCounts:
    """Words a page, don't-care words included: a detector finds those as well.

    Attributes:
        pages: how many pages.
        mean, sd: over the pages.
        least, most: of any page.
    """

    pages: int
    mean: float
    sd: float
    least: int
    most: int

    @classmethod
    def of(cls, counts: Iterable[int]) -> WordCounts | None:
        """Of the number of words of each page; None for no pages."""
        words_P = np.fromiter(counts, dtype=np.int64)
        if not words_P.size:
            return None
        least, most = int(words_P.min()), int(words_P.max())
        return cls(words_P.size, float(words_P.mean()), float(words_P.std()), least, most)

    def as_json(self) -> dict[str, float | int]:
        """Plain values, for a checkpoint's facts."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> WordCounts | None:
        """What `as_json` gave; None for anything else, such as what an earlier version wrote."""
        if not isinstance(value, Mapping) or set(value) != set(cls.__slots__):
            return None
        if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in value.values()):
            return None
        return cls(**value)


def word_counts(pages: Sequence[Page]) -> WordCounts | None:
    """Of a set of pages; of an index without making its words."""
    return WordCounts.of(pages.word_counts() if isinstance(pages, PageIndex) else (len(page.words) for page in pages))


def pooled(counts: Iterable[WordCounts | None]) -> WordCounts | None:
    """Of all pages that several sets have, each counted as often as it stands in them; None where nothing is known."""
    known = [each for each in counts if each is not None]
    if not known:
        return None
    pages = sum(each.pages for each in known)
    mean = sum(each.pages * each.mean for each in known) / pages
    square = sum(each.pages * (each.sd**2 + each.mean**2) for each in known) / pages
    sd = max(0.0, square - mean**2) ** 0.5
    return WordCounts(pages, mean, sd, min(each.least for each in known), max(each.most for each in known))
