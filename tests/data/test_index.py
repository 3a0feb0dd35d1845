"""The index of a set gives what the reader gives, travels as a path, and follows its annotation file."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from detector.data.formats import Reading, read_annotations
from detector.data.index import PageIndex, bare, open_annotations, part
from detector.errors import DataError
from detector.types import Page

number = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-5, 2000)
text = st.none() | st.text(st.characters(codec="utf-8") | st.sampled_from("가\ud800\0"), max_size=4)
word = st.fixed_dictionaries(
    {"points": st.lists(st.tuples(number, number), max_size=6)},
    optional={
        "transcription": text,
        "illegibility": st.booleans(),
        "orientation": text,
        "language": st.none() | st.lists(st.text("ab한", max_size=2), max_size=2),
        "stranger": st.just(1),
    },
)
entry = st.fixed_dictionaries(
    {}, optional={"img_w": st.just(9), "words": st.dictionaries(st.text(max_size=3), word, max_size=4)}
)
NAMES = ("a 1.jpg", "빈.png", "c.jpg")


def write(folder: Path, images: object) -> tuple[Path, Path]:
    (folder / "images").mkdir(exist_ok=True)
    for name in NAMES:
        (folder / "images" / name).touch()
    (folder / "set.json").write_text(json.dumps({"images": images}))
    return folder / "set.json", folder / "images"


def values(pages) -> list[object]:
    return [
        (
            p.name,
            p.path,
            [(w.id, w.polygon_V2.tolist(), w.transcription, w.ignore, w.orientation, w.language) for w in p.words],
        )
        for p in pages
    ]


def assert_same(found: Reading, want: Reading) -> None:
    assert isinstance(found.pages, PageIndex)
    assert (found.counts, found.notes) == (want.counts, want.notes)
    assert values(found.pages) == values(want.pages)
    assert all(w.polygon_V2.dtype == np.float64 and w.polygon_V2.flags.writeable for p in found.pages for w in p.words)


@settings(max_examples=60, deadline=None)
@given(images=st.dictionaries(st.sampled_from(NAMES), entry))
def test_equal_to_the_reader(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("set")
    places = write(folder, images)
    want = read_annotations(*places)
    assert_same(open_annotations(*places, folder / "cache"), want)  # made
    assert_same(open_annotations(*places, folder / "cache"), want)  # opened


def page(*corners: float) -> dict[str, object]:
    return {"words": {"1": {"points": [corners[:2], corners[2:4], corners[4:]]}}}


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path, {name: page(0, 0, 5 + i, 0, 5, 5) for i, name in enumerate(NAMES)})


def test_a_sequence_of_pages(three, tmp_path):
    whole, plain = open_annotations(*three, tmp_path / "cache").pages, read_annotations(*three).pages
    assert len(whole) == 3 and whole[-1].name == "c.jpg"
    assert values(whole[1:]) == values(plain[1:]) and values(whole[::-1][:2]) == values(plain[::-1][:2])
    assert values(part(whole, [2, 0])) == values(part(plain, [2, 0])) == values([plain[2], plain[0]])
    assert [(p.name, p.path, p.words) for p in bare(whole)] == [(p.name, p.path, ()) for p in plain]
    for index in (3, -4):
        with pytest.raises(IndexError):
            whole[index]
    again = open_annotations(*three, tmp_path / "cache").pages
    assert again == whole and hash(again) == hash(whole)
    assert whole[1:] == part(whole, [1, 2]) and whole[1:] != whole and whole != plain


def test_changes_are_seen(three, tmp_path):
    _, images = three
    first = open_annotations(*three, tmp_path / "cache").pages
    (old,) = (tmp_path / "cache").iterdir()
    write(tmp_path, {"c.jpg": page(0, 0, 9, 0, 9, 9)})
    changed = open_annotations(*three, tmp_path / "cache")
    assert_same(changed, read_annotations(*three))
    assert first[0].words[0].polygon_V2.tolist() == [[0, 0], [5, 0], [5, 5]]  # who has it open keeps it
    assert not old.exists() and len(list((tmp_path / "cache").iterdir())) == 1
    with pytest.raises(DataError, match=r"cannot be read.*run the command again"):
        pickle.loads(pickle.dumps(first))  # noqa: S301 (our own)
    # a listed image that has gone is refused as the reader refuses it
    stamp = images.stat().st_mtime_ns
    (images / "c.jpg").unlink()
    os.utime(images, ns=(stamp + 1, stamp + 1))  # clocks of file systems tick in milliseconds
    with pytest.raises(DataError, match=r"image c\.jpg: listed but not in"):
        open_annotations(*three, tmp_path / "cache")


def test_damaged_files_are_made_again(three, tmp_path):
    want = read_annotations(*three)
    open_annotations(*three, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    for damaged in (b"", b"\x07", whole[:40], whole[:-1], whole.replace(b'"format": 1', b'"format": 2')):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="pages: "):
            PageIndex(path)
        assert_same(open_annotations(*three, tmp_path / "cache"), want)
    with pytest.raises(DataError, match="other annotations"):
        PageIndex(path, "0" * 16)
    # no folder to write to: the pages are there all the same
    (tmp_path / "file").touch()
    reading = open_annotations(*three, tmp_path / "file" / "cache")
    assert values(reading.pages) == values(want.pages)


def _words(pages: PageIndex) -> list[object]:
    return values(pages)


def test_workers_get_a_path(tmp_path):
    # 2,000 pages of 20 words are 3.5 MB as objects
    images = {
        f"{i}.jpg": {"words": {str(k): {"points": [[0, 0], [k + 1, 0], [0, 1]]} for k in range(20)}}
        for i in range(2000)
    }
    json_path, folder = write(tmp_path, images)
    for name in images:
        (folder / name).touch()
    index = open_annotations(json_path, folder, tmp_path / "cache").pages
    assert isinstance(index, PageIndex)
    sent = pickle.dumps(index)
    assert len(sent) < 1_000 < 1_000_000 < len(pickle.dumps([_plain(page) for page in index]))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (found,) = pool.map(_words, [index[1990:]])
    assert found == values(read_annotations(json_path, folder).pages[1990:])
    assert_array_equal(index[7].words[3].polygon_V2, [[0, 0], [4, 0], [0, 1]])


def _plain(page: Page) -> object:
    return page.name, str(page.path), [(w.id, w.polygon_V2) for w in page.words]
