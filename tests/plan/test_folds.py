"""Folds: complete, whole, balanced in pages, words and areas, independent of the order of pages."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.errors import DataError
from orchestrator.plan.fold_files import digest_of, keep, kept, place_of, read_folds
from orchestrator.plan.folds import Sheet, assign, clusters, sizes_of

SEEDS = st.integers(0, 50)
GROUP = r"shop(\d+)_"


def sheets(pages: int, words: list[int] | None = None, areas: list[int] | None = None) -> list[Sheet]:
    counts, sizes = words or [0] * pages, areas or [1] * pages
    return [Sheet(f"p{i:03d}", counts[i], sizes[i], f"image {i}") for i in range(pages)]


@st.composite
def receipts(draw: st.DrawFn) -> list[Sheet]:
    """Pages of some shops, a few of them with equal images."""
    found = []
    for index in range(draw(st.integers(8, 60))):
        shop, image = draw(st.integers(0, 9)), draw(st.integers(0, 80))
        found.append(Sheet(f"shop{shop}_{index}", draw(st.integers(0, 403)), draw(st.integers(1, 9)), str(image)))
    return found


@given(receipts(), st.integers(2, 7), SEEDS, st.booleans())
def test_every_page_is_in_one_fold_with_its_group_and_its_equals(
    pages: list[Sheet], k: int, seed: int, grouped: bool
) -> None:
    group = GROUP if grouped else None
    whole = clusters(pages, group)
    if len(whole) < k:
        with pytest.raises(DataError, match=f"k={k} folds need as many"):
            assign(pages, k, seed, group)
        return
    folds = assign(pages, k, seed, group)
    assert len(folds) == len(pages) and set(folds) == set(range(k))
    home = {page.name: fold for page, fold in zip(pages, folds, strict=True)}
    keys = [lambda page: page.content] + ([lambda page: page.name.partition("_")[0]] if grouped else [])
    for key in keys:
        for one in pages:
            assert len({home[other.name] for other in pages if key(other) == key(one)}) == 1
    # greedy: whoever has most had the fewest before its last cluster came
    sizes = sizes_of(folds)
    assert sum(sizes) == len(pages) and max(sizes) - min(sizes) <= max(map(len, whole))


@given(st.lists(st.tuples(st.integers(0, 403), st.integers(1, 5)), min_size=7, max_size=90), st.integers(2, 7), SEEDS)
def test_folds_of_single_pages_differ_by_one_page_and_by_few_words(
    facts: list[tuple[int, int]], k: int, seed: int
) -> None:
    pages = sheets(len(facts), [words for words, _ in facts], [area for _, area in facts])
    folds = assign(pages, k, seed)
    sizes = sizes_of(folds)
    assert max(sizes) - min(sizes) <= 1
    # A round of k neighbours differs by their range at most. Along the order words go up, down and up again: the ranges
    # sum to at most 3 R, a round that spans a turn between two thirds adds R each, and the last, short one W.
    words = [page.words for page in pages]
    spread = max(words) - min(words)
    totals = sizes_of(folds, words)
    assert max(totals) - min(totals) <= 5 * spread + max(words)


def test_words_and_areas_are_spread_better_than_by_lot() -> None:
    # Receipts of 31..403 words, most of them short; a fifth photographed at twice the size.
    random = np.random.default_rng(7)
    words = np.minimum(403, 31 + random.exponential(90, 200)).astype(int)
    areas = np.where(random.random(200) < 0.2, 4, 1)
    pages = sheets(200, words.tolist(), areas.tolist())

    def scatter(folds: tuple[int, ...]) -> tuple[float, float]:
        large = sizes_of(folds, [int(area > 1) for area in areas])
        return float(np.std(sizes_of(folds, words.tolist()))), float(np.ptp(large))

    dealt = [scatter(assign(pages, 5, seed)) for seed in range(20)]
    lots = [scatter(tuple(np.random.default_rng(seed).permutation(200) % 5)) for seed in range(20)]
    assert max(sd for sd, _ in dealt) < min(sd for sd, _ in lots) / 2
    # areas: 1 is the lower bound of the first third, so all pages of area 4 are one stratum, dealt in rounds
    assert max(apart for _, apart in dealt) <= 2 < np.median([apart for _, apart in lots])


def test_the_order_of_pages_does_not_matter_and_the_seed_does() -> None:
    pages = sheets(30, [*range(30)])
    home = dict(zip(pages, assign(pages, 5, 42), strict=True))
    assert dict(zip(pages[::-1], assign(pages[::-1], 5, 42), strict=True)) == home
    assert assign(pages, 5, 43) != assign(pages, 5, 42)


def test_groups_stay_together_and_sizes_balance() -> None:
    pages = [Sheet(f"shop{i % 6}_{i}.jpg") for i in range(60)]  # six shops of ten receipts
    folds = assign(pages, 3, 0, GROUP)
    assert len({(page.name[:5], fold) for page, fold in zip(pages, folds, strict=True)}) == 6
    assert Counter(folds) == {0: 20, 1: 20, 2: 20}


def test_groups_that_share_an_image_are_one() -> None:
    # a1 = b2 joins the shops a and b; c stays alone
    pages = [Sheet(name, content=content) for name, content in (("a1", "x"), ("a2", "y"), ("b1", "z"), ("b2", "x"))]
    found = clusters([*pages, Sheet("c1", content="w")], "^.")
    assert [[sheet.name for sheet in cluster] for cluster in found] == [["a1", "a2", "b1", "b2"], ["c1"]]


def test_what_cannot_be_folded_is_refused() -> None:
    with pytest.raises(DataError, match="k=5 folds need as many pages, got 4"):
        assign(sheets(4), 5, 0)
    with pytest.raises(DataError, match=r"got 1 \(equal images count once\)"):
        assign([Sheet("a", content="x"), Sheet("b", content="x")], 2, 0)
    with pytest.raises(DataError, match="matches nothing in b"):
        assign([Sheet("x1"), Sheet("b")], 2, 0, "x")


# --- on disk ---------------------------------------------------------------------------------------------------------


def test_an_assignment_is_kept_for_these_pages_alone(tmp_path: Path) -> None:
    pages, given_ = sheets(6, [5, 3, 9, 1, 7, 2]), {"k": 2, "seed": 0}
    path = place_of(pages, given_, tmp_path)
    folds = (0, 1, 1, 0, 0, 1)
    assert kept(path, pages) is None
    keep(path, pages, folds, given_)
    value = json.loads(path.read_text())
    assert kept(path, pages) == folds
    assert (value["digest"], value["pages"]) == (digest_of([page.name for page in pages], folds), [3, 3])
    assert value["words"] == [5 + 1 + 7, 3 + 9 + 2]
    for other in (sheets(6, [5, 3, 9, 1, 7, 3]), pages[1:]):
        assert place_of(other, given_, tmp_path) != path
    assert place_of(pages, {"k": 2, "seed": 1}, tmp_path) != path
    path.write_text(path.read_text().replace('"p000": 0', '"p000": 1'))  # changed by hand: no longer what it says
    assert kept(path, pages) is None


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_file_of_ones_own_is_taken(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"folds.{suffix}"
    rows = {"p002": 1, "p000": 0, "p001": 1}
    path.write_text(
        json.dumps(rows) if suffix == "json" else "image,fold\n" + "".join(f"{n},{f}\n" for n, f in rows.items())
    )
    assert read_folds(path, sheets(3), 2) == (0, 1, 1)


def test_what_a_workspace_keeps_can_be_given_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    keep(path, sheets(4), (1, 0, 0, 1), {"k": 2, "seed": 3})
    assert read_folds(path, sheets(4), 2) == (1, 0, 0, 1)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_each_fault_of_a_file_has_its_line(tmp_path: Path, suffix: str) -> None:
    pages = [*sheets(5), Sheet("twin", content="image 0")]
    rows = [("p000", "0"), ("nobody", "1"), ("p001", "2"), ("p000", "1"), ("twin", "1"), ("p002", "one")]
    path = tmp_path / f"folds.{suffix}"
    if suffix == "csv":
        path.write_text("image,fold\n" + "".join(f"{name},{fold}\n" for name, fold in rows))
    else:
        path.write_text(
            "{\n"
            + ",\n".join(f'"{name}": {fold if fold.isdigit() else json.dumps(fold)}' for name, fold in rows)
            + "\n}"
        )
    with pytest.raises(DataError) as caught:
        read_folds(path, pages, 2)
    wrong = "one" if suffix == "csv" else '"one"'
    assert str(caught.value).splitlines() == [
        f"{path}:3: nobody: is no page of data.train; remove the line, or mend the name",
        f"{path}:4: p001: `0 <= fold < k` must hold with k=2, got 2; mend it, or `k`",
        f"{path}:5: p000: stands in line 2 already; remove one of the two",
        f"{path}:6: twin: is byte for byte p000 (line 2), but that is in fold 0, not 1; put both in one, or its "
        "out-of-fold score is of a page learned from",
        f"{path}:7: p002: `0 <= fold < k` must hold with k=2, got {wrong}; mend it, or `k`",
        f"{path}: p003, p004: pages of data.train without a fold; add them",
    ]


def test_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    with pytest.raises(DataError, match="cannot be read"):
        read_folds(path, sheets(2), 2)
    for text, said in (
        ("page,fold\n", ":1: the header `image,fold` expected, got `page,fold`"),
        ("image,fold\np000\n", ":2: two cells expected"),
        ("image,fold\np000,0\np001,0\n", "fold 1 of k=2 has no pages"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            read_folds(path, sheets(2), 2)
