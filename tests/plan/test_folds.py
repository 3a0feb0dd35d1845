"""Folds: balanced, complete, independent of the order of pages; groups stay together."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.errors import DataError
from orchestrator.plan.folds import assign


@given(st.integers(2, 7), st.integers(7, 60), st.integers(0, 5))
def test_sizes_differ_by_at_most_one(k: int, pages: int, seed: int) -> None:
    sizes = Counter(assign([f"p{i}" for i in range(pages)], k, seed))
    assert len(sizes) == k
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_the_order_of_pages_does_not_matter_and_the_seed_does() -> None:
    names = [f"p{i}" for i in range(30)]
    home = dict(zip(names, assign(names, 5, 42), strict=True))
    assert dict(zip(names[::-1], assign(names[::-1], 5, 42), strict=True)) == home
    assert assign(names, 5, 43) != assign(names, 5, 42)


def test_groups_stay_together_and_sizes_balance() -> None:
    names = [f"shop{i % 6}_{i}.jpg" for i in range(60)]  # six shops of ten receipts
    folds = assign(names, 3, 0, r"shop(\d)_")
    homes = {(name[:5], fold) for name, fold in zip(names, folds, strict=True)}
    assert len(homes) == 6
    assert Counter(folds) == {0: 20, 1: 20, 2: 20}


def test_what_cannot_be_folded_is_refused() -> None:
    with pytest.raises(DataError, match="k=5 folds need as many pages, got 4"):
        assign(["a", "b", "c", "d"], 5, 0)
    with pytest.raises(DataError, match="matches nothing in b"):
        assign(["x1", "b"], 2, 0, "x")
