"""What `predict` writes goes to the file page by page, and the file is whole or absent."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detector.data.formats import read_annotations, write_annotations, write_submission
from detector.types import Page, Word

QUAD = np.array([[1, 2], [30, 2], [30, 9.5], [1, 9.5]])


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_writers_hold_one_page_at_a_time(tmp_path, suffix):
    # A stream that counts what lives: were two pages held, the first would be alive when the third is made.
    alive: list[int] = []

    class Tracked(Page):
        __slots__ = ()

        def __init__(self, number: int) -> None:
            super().__init__(f"{number}.jpg", tmp_path / f"{number}.jpg", (Word("0001", QUAD),))
            alive.append(number)

        def __del__(self) -> None:
            alive.remove(int(self.name[:-4]))

    most = 0

    def pages():
        nonlocal most
        for number in range(5):
            yield Tracked(number)
            most = max(most, len(alive))

    out = tmp_path / f"out{suffix}"
    if suffix == ".csv":
        write_submission(out, ((page.name, [word.polygon_V2 for word in page.words]) for page in pages()))
    else:
        write_annotations(out, pages())
    assert most <= 2  # the one that is written, and the one that the generator has just made
    text = out.read_text(encoding="utf-8")
    if suffix == ".csv":
        assert text == "filename,polygons\n" + "".join(f"{n}.jpg,1 2 30 2 30 10 1 10\n" for n in range(5))
    else:
        words = {"0001": {"points": QUAD.tolist(), "illegibility": False}}
        images = {f"{n}.jpg": {"words": words} for n in range(5)}
        assert text == json.dumps({"images": images}) + "\n"


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_stream_that_breaks_leaves_the_old_file(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    out.write_text("old")

    def pages():
        yield Page("a.jpg", tmp_path / "a.jpg")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        if suffix == ".csv":
            write_submission(out, ((page.name, []) for page in pages()))
        else:
            write_annotations(out, pages())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(out.name, "old")]
    write_annotations(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == {"images": {}}
    (tmp_path / "images").mkdir()
    assert len(read_annotations(tmp_path / "none.json", tmp_path / "images").pages) == 0
