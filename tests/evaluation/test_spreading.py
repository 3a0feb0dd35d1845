"""Scores made on the cluster's workers, by mapped files, and here: the same bits; and what a search leaves behind."""

from __future__ import annotations

import io
import pickle
import sys
import uuid
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import ray
from numpy.typing import NDArray

from detector.config import Postprocess
from detector.files import write_bytes
from detector.geometry import fit_frame
from detector.types import Page, Word
from orchestrator.evaluation.blends import HELD, Bench, Blend, normal
from orchestrator.evaluation.map_cache import hold, trim
from orchestrator.evaluation.maps import MapStore
from orchestrator.evaluation.packing import MeanMaps, ViewMaps
from orchestrator.evaluation.spreading import Scratch, score_pages, scratch
from orchestrator.evaluation.thresholds import search

SIDE, PAGES = 96, 9
VIEWS = ("identity", "hflip")
RULES = tuple(
    Postprocess(thresh=thresh, box_thresh=box, unclip_ratio=unclip, shape=shape)
    for thresh, box, unclip, shape in product((0.2, 0.4), (0.3, 0.6), (0.0, 1.5), ("quad", "polygon"))
)
BLENDS = [Blend(normal([first, 10 - first]), views) for first in range(11) for views in (VIEWS[:1], VIEWS)]


@pytest.fixture(scope="module", autouse=True)
def scores_travel() -> None:
    """Ray's workers cannot import a test's module."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def pages_of(count: int) -> list[Page]:
    words = tuple(
        Word(f"w{number}", np.array([[x, y], [x + 30, y], [x + 30, y + 10], [x, y + 10]], dtype=np.float64))
        for number, (x, y) in enumerate(product((8, 52), (8, 40, 70)))
    )
    return [Page(str(number), Path(f"{number}.png"), words) for number in range(count)]


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> ViewMaps:
    """Two candidates in two views, in files as `ensure_maps` writes them: words and noise by chance."""
    folder, frame = tmp_path_factory.mktemp("maps"), fit_frame((SIDE, SIDE), SIDE, multiple=1)
    stores: dict[str, list[MapStore]] = {view: [] for view in VIEWS}
    for candidate, view in product(range(2), VIEWS):
        place, random = folder / f"{candidate}-{view}", np.random.default_rng((candidate, len(view)))
        stores[view].append(MapStore(place, tuple(str(number) for number in range(PAGES)), hold(place)))
        for number in range(PAGES):
            prob_HW = random.integers(0, 40, (SIDE, SIDE), dtype=np.uint8)
            for x, y in product((8, 52), (8, 40, 70)):
                dx, dy = random.integers(-3, 4, 2).tolist()
                prob_HW[y + dy : y + dy + 10, x + dx : x + dx + 30] = random.integers(40, 256)
            buffer = io.BytesIO()
            wh = np.array((SIDE, SIDE))
            np.savez_compressed(buffer, prob_HW=prob_HW, matrix_33=frame.matrix_33, image_wh=wh, canvas_wh=wh)
            write_bytes(place / f"{number:05d}.npz", buffer.getvalue())
    return ViewMaps(stores)


def test_the_cluster_scores_to_the_bit_what_one_process_scores(maps: ViewMaps, two_cpus: None, tmp_path: Path) -> None:
    here = Bench(maps, pages_of(PAGES), RULES, "competition", "logit")
    told: list[tuple[int, int]] = []
    with scratch(tmp_path, "key") as kept:
        ways = {"kept": kept, "spread_s": 0.0, "on_pages": lambda done, total: told.append((done, total))}
        there = Bench(maps, pages_of(PAGES), RULES, "competition", "logit", **ways)
        there.need(dict.fromkeys(BLENDS))
        assert told == [(done, PAGES) for done in range(1, PAGES + 1)]
        assert len(list(kept.folder.rglob("*.npy"))) == PAGES - 2  # two pages were looked at here first
        for blend in [*BLENDS, *BLENDS[: HELD + 1]]:  # more than are held at once
            np.testing.assert_array_equal(there.table(blend).counts_RNF, here.table(blend).counts_RNF)
            assert there.table(blend).hmean_RN.tobytes() == here.table(blend).hmean_RN.tobytes()
            np.testing.assert_array_equal(there.counts(blend, 5), here.counts(blend, 5))
        assert there.evaluations == len(BLENDS) * len(RULES)
        few = dict.fromkeys([Blend((0.25, 0.75), VIEWS), Blend((0.75, 0.25), VIEWS)], (3, 0))
        there.need(few)
        for blend, rules in few.items():
            for rule in rules:
                np.testing.assert_array_equal(there.counts(blend, rule), here.counts(blend, rule))
        assert len(there._tables) == HELD
    assert not kept.folder.exists()


def test_a_search_of_one_model_is_spread_as_well(maps: ViewMaps, two_cpus: None, tmp_path: Path) -> None:
    mean, pages = MeanMaps(maps.stores["identity"]), pages_of(PAGES)
    plain = search(mean, pages, RULES, "official", threads=1)
    with scratch(tmp_path, "key") as kept:
        spread = search(mean, pages, RULES, "official", kept.of("one"), spread_s=0.0)
    np.testing.assert_array_equal(spread.counts_RNF, plain.counts_RNF)


@dataclass(frozen=True)
class Slow:
    """Rows that are known beforehand; leaves a note of each call, and fails on one page."""

    notes: Path
    fails: str = ""

    def __call__(self, page: Page) -> NDArray[np.int32]:
        (self.notes / f"{page.name}-{uuid.uuid4()}").touch()
        if page.name == self.fails:
            raise ValueError(f"page {page.name} cannot be scored")
        return np.full((3, 9), int(page.name), dtype=np.int32)

    def packed(self, names: object) -> Slow:
        return self

    def called(self) -> list[int]:
        return sorted(int(note.name.partition("-")[0]) for note in self.notes.iterdir())


def test_a_search_that_failed_goes_on_where_it_was(two_cpus: None, tmp_path: Path) -> None:
    score, pages = Slow(tmp_path / "notes", fails="17"), pages_of(18)
    score.notes.mkdir()
    with pytest.raises(ValueError, match="page 17 cannot be scored"), scratch(tmp_path, "key") as kept:
        score_pages(score, pages, 3, kept.of("it"), spread_s=0.0)
    first, files = score.called(), [path.stem for path in kept.folder.rglob("*.npy")]
    assert 17 in first and "00017" not in files
    with scratch(tmp_path, "key") as kept:
        found = score_pages(replace(score, fails=""), pages, 3, kept.of("it"), spread_s=0.0)
    assert [rows.tolist() for rows in found] == [[[number] * 9] * 3 for number in range(18)]
    again = [number for number in range(18) if score.called().count(number) > first.count(number)]
    assert again == [number for number in range(18) if f"{number:05d}" not in files]


def test_large_requests_are_mapped_from_files(tmp_path: Path) -> None:
    score, pages = Slow(tmp_path / "notes"), pages_of(4)
    score.notes.mkdir()
    with scratch(tmp_path, "key") as kept:
        found = score_pages(score, pages, 10**6, kept.of("it"), spread_s=1e9)
        assert all(isinstance(rows, np.memmap) for rows in found)
        small = score_pages(score, pages, 3, kept.of("other"), spread_s=1e9)
        assert not any(isinstance(rows, np.memmap) for rows in small)
        assert score_pages(score, pages, 10**6, kept.of("it"))[3].tolist() == [[3] * 9] * 3
        assert score.called() == [number for number in range(4) for _ in range(2)]  # the third time they are found


def test_scratch_is_held_then_gone_and_stays_after_a_failure(tmp_path: Path) -> None:
    with scratch(tmp_path, "a") as kept:
        write_bytes(kept.of("it").file(0), b"x")
        assert trim(tmp_path / "maps", 0) == ()  # never from under a search
    assert not kept.folder.exists()
    with pytest.raises(RuntimeError), scratch(tmp_path, "b") as kept:
        write_bytes(kept.of("it").file(0), b"x")
        raise RuntimeError
    assert kept.of("it").file(0).exists()
    assert trim(tmp_path / "maps", 0) == ("scored-b",)  # it is a part of the cache


def test_requests_are_told_apart(tmp_path: Path) -> None:
    kept = Scratch(tmp_path, tmp_path)
    asked = [[[0.5, 0.5], ["identity"], [0, 1]]], [[[0.5, 0.5], ["identity"], [0]]], [[[1.0], ["identity"], [0, 1]]]
    assert len({kept.of(request).folder for request in asked}) == 3
    assert kept.of(asked[0]) == kept.of(asked[0])


def test_packed_maps_travel_with_their_pages_alone(maps: ViewMaps) -> None:
    sent: ViewMaps = pickle.loads(pickle.dumps(maps.packed(["1", "4"])))  # noqa: S301
    for candidate, view, name in product(range(2), VIEWS, ("1", "4")):
        there, here = sent(candidate, view, name), maps(candidate, view, name)
        np.testing.assert_array_equal(there.prob_HW, here.prob_HW)
        assert there.frame.image_wh == here.frame.image_wh
        np.testing.assert_array_equal(there.frame.matrix_33, here.frame.matrix_33)
    with pytest.raises(KeyError):
        sent(0, "identity", "2")
    with pytest.raises(KeyError, match="no map of page 99"):
        maps.packed(["99"])
