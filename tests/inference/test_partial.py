"""What a killed prediction leaves behind, and what the next one makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from detector.errors import InputError
from detector.inference.partial import Lines, opened, results
from detector.types import Detections, Page

FACTS = {"model": "m", "device": None}


@pytest.fixture
def pages(tmp_path: Path) -> list[Page]:
    made = []
    for name in ("a.png", "b.png", "빈.png"):
        (tmp_path / name).write_bytes(name.encode())
        made.append(Page(name, tmp_path / name))
    return made


def words(seed: int) -> Detections:
    rng = np.random.default_rng(seed)
    return Detections(tuple(rng.normal(size=(4 + i, 2)) * 1e3 for i in range(seed)), rng.random(seed))


class Stop(Exception):
    pass


def leave(out: Path, pages: list[Page], facts: dict[str, object] = FACTS, tear: bytes = b"") -> Path:
    """Find words of pages, and be killed."""
    with pytest.raises(Stop), opened(out, facts) as partial, Lines(partial.file(0)) as lines:
        for number, page in enumerate(pages, start=1):
            lines.add(page, words(number))
        raise Stop
    folder = out.parent / f".{out.name}.part"
    (file,) = folder.glob("*.jsonl")
    with file.open("ab") as stream:
        stream.write(tear)
    return folder


@pytest.mark.parametrize("tear", [b"", b'{"name": "b.png", "image": "', b"\0\0\0\n", b'{"name": 1}\n', b"[]\n"])
def test_what_was_found_is_found_again_to_the_bit(tmp_path: Path, pages: list[Page], tear: bytes) -> None:
    folder = leave(tmp_path / "x.csv", pages[:2], tear=tear)
    with opened(tmp_path / "x.csv", FACTS) as partial:
        places = partial.found(pages)
        assert list(places) == ["a.png", "b.png"]
        with Lines(partial.file(0)) as lines:
            lines.add(pages[2], words(0))
        places |= partial.mine()
        for number, (page, found) in enumerate(results(pages[::-1], places)):
            want = words((0, 2, 1)[number])
            assert page is pages[2 - number] and len(found.polygons) == len(want.polygons)
            assert_array_equal(found.scores_N, want.scores_N)
            for mine, theirs in zip(found.polygons, want.polygons, strict=True):
                assert_array_equal(mine, theirs)
    assert not folder.exists()


def test_only_pages_of_the_same_image_count(tmp_path: Path, pages: list[Page]) -> None:
    leave(tmp_path / "x.csv", pages)
    pages[0].path.write_bytes(b"another picture")
    with pytest.raises(Stop), opened(tmp_path / "x.csv", FACTS) as partial:
        assert list(partial.found(pages)) == ["b.png", "빈.png"]
        with Lines(partial.file(0)) as lines:
            lines.add(pages[0], words(5))
        raise Stop
    with opened(tmp_path / "x.csv", FACTS) as partial:
        # Of the two lines of a.png that of the present image counts, wherever it stands.
        assert [len(found.polygons) for _, found in results(pages, partial.found(pages))] == [5, 2, 3]


def test_another_model_begins_anew(tmp_path: Path, pages: list[Page]) -> None:
    leave(tmp_path / "x.csv", pages)
    with pytest.raises(Stop), opened(tmp_path / "x.csv", {**FACTS, "model": "n"}) as partial:
        assert partial.found(pages) == {}
        raise Stop
    with opened(tmp_path / "x.csv", FACTS) as partial:  # and so does the first one after it
        assert partial.found(pages) == {}
    folder = leave(tmp_path / "x.csv", pages)
    (folder / "head.json").write_text('{"format": 1, "dig')
    with opened(tmp_path / "x.csv", FACTS) as partial:
        assert partial.found(pages) == {}


def test_two_processes_do_not_share_an_output(tmp_path: Path) -> None:
    with opened(tmp_path / "x.csv", FACTS):
        with (
            pytest.raises(InputError, match=r"-o .*x\.csv: another process predicts for it now"),
            opened(tmp_path / "x.csv", FACTS),
        ):
            pass
        with opened(tmp_path / "y.csv", FACTS):
            pass


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_any_coordinates_come_back(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    out = tmp_path_factory.mktemp("any") / "x.csv"
    page = Page("a", out.with_name("a"))
    page.path.write_bytes(b"")
    polygon = np.array(values).reshape(3, 2)
    with opened(out, FACTS) as partial:
        with Lines(partial.file(0)) as lines:
            lines.add(page, Detections((polygon,), np.array([0.5])))
        ((_, found),) = results([page], partial.mine())
        assert found.polygons[0].tobytes() == polygon.tobytes()
