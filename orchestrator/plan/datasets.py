"""The pages of a roadmap, and what identity and previews need to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detector.types import Page


@dataclass(frozen=True, slots=True)
class Datasets:
    """The pages of a roadmap, read and checked once; train and val are indexes, which travel as paths.

    Attributes:
        digest: over names, image contents and words of train and val; None while the data is not there.
        folds: for each training page its fold, 0 .. k - 1; empty without folds.
        notes: what reading dropped or did not use, with file and word.
    """

    train: Sequence[Page]
    val: Sequence[Page]
    test: tuple[Page, ...]
    digest: str
    folds: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def train_pages(self, fold: int | None) -> Sequence[Page]:
        """The training pages with one fold left out."""
        from detector.data.index import part  # loads OpenCV: only where pages are used

        if fold is None:
            return self.train
        return part(self.train, [index for index, home in enumerate(self.folds) if home != fold])


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What identity and previews need to know of the pages, without the pages.

    Attributes:
        train, val, test: numbers of pages; `train_words`, `val_words` of words.
        digest: as of `Datasets`.
        folds: how many; 0 without. `fold_sizes`, `fold_words`: training pages and words of each.
        folds_digest: over which page is in which fold; empty without folds.
        notes: as of `Datasets`.
    """

    train: int
    val: int
    test: int
    train_words: int
    val_words: int
    digest: str
    folds: int = 0
    folds_digest: str = ""
    notes: tuple[str, ...] = ()
    fold_sizes: tuple[int, ...] = ()
    fold_words: tuple[int, ...] = ()

    def pages_of(self, fold: int | None) -> int:
        """Training pages of a trial, with one fold left out."""
        return self.train if fold is None or fold >= len(self.fold_sizes) else self.train - self.fold_sizes[fold]
