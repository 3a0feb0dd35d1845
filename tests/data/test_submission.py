"""The submission file: exact bytes out, strict lines in."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from detector.data.formats import read_predictions, read_submission, write_submission
from detector.data.formats_csv import round_half_away
from detector.errors import DataError

QUAD = np.array([[12.0, 30.5], [90.49, 30.0], [90.5, 52.0], [-0.5, 52.0]])
TRIANGLE = np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 5.0]])


def test_exact_bytes(tmp_path: Path) -> None:
    write_submission(tmp_path / "s.csv", {"a 1.jpg": [QUAD, TRIANGLE], "빈.jpg": [], "c,d.jpg": [TRIANGLE]})
    assert (tmp_path / "s.csv").read_bytes().decode() == (
        'filename,polygons\na 1.jpg,12 31 90 30 91 52 -1 52|0 0 5 0 5 5\n빈.jpg,\n"c,d.jpg",0 0 5 0 5 5\n'
    )


def test_equal_to_what_pandas_writes(tmp_path: Path) -> None:
    # The baseline of the competition writes its file with pandas.
    write_submission(tmp_path / "s.csv", {"a.jpg": [QUAD], "b.jpg": []})
    theirs = io.StringIO()
    pd.DataFrame({"filename": ["a.jpg", "b.jpg"], "polygons": ["12 31 90 30 91 52 -1 52", ""]}).to_csv(
        theirs, index=False
    )
    assert (tmp_path / "s.csv").read_text() == theirs.getvalue()


def test_halves_go_away_from_zero() -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, -2.5, 0.49999999999999994, -0.2, 4503599627370497.0])
    assert round_half_away(values).tolist() == [1, 2, 3, -1, -3, 0, 0, 4503599627370497.0]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=9),
        st.lists(st.integers(-999, 9999), min_size=6, max_size=9),
    )
)
def test_written_and_read_again_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, list[int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.csv"
    pages = {
        name: [np.array(values[: len(values) // 2 * 2], dtype=float).reshape(-1, 2)] for name, values in rows.items()
    }
    write_submission(path, pages)
    again = read_submission(path)
    assert list(again) == list(pages)
    for name, polygons in pages.items():
        assert_array_equal(np.array(again[name]), np.array(polygons))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", ":1: the first line must be `filename,polygons`"),
        ("a.jpg,1 1 2 2 3 1\n", ":1: the first line must be"),
        ("filename,polygon\n", ":1: the first line must be"),
        (
            "filename,polygons\na.jpg,\nb.jpg,1 1 2 2 3\n",
            ":3: file b.jpg: a polygon must have an even count of coordinates",
        ),
        (
            "filename,polygons\na.jpg,1 1 2 2\n",
            ":2: file a.jpg: a polygon must have at least 3 vertices, got 4 numbers",
        ),
        ("filename,polygons\na.jpg,1 1 2 2 3 1||1 1 2 2 3 1\n", ":2: file a.jpg: a polygon must have at least 3"),
        ("filename,polygons\na.jpg,1 1 2 2 3 x\n", ":2: file a.jpg: coordinates must be finite numbers, got 'x'"),
        ("filename,polygons\na.jpg,1 1 2 2 3 nan\n", "got 'nan'"),
        ("filename,polygons\na.jpg,1 1 2 2 3 1e999\n", "got '1e999'"),
        ("filename,polygons\na.jpg,1 1 2 2 3 1_0\n", "got '1_0'"),
        ("filename,polygons\na.jpg,1 1 2 2 3 ٣\n", "got '٣'"),
        ("filename,polygons\na.jpg,\nb.jpg,\na.jpg,\n", ":4: file name 'a.jpg' is there twice"),
        ("filename,polygons\n,1 1 2 2 3 1\n", ":2: file name '' is empty"),
        ("filename,polygons\na.jpg\n", ":2: must have 2 fields, got 1"),
        ("filename,polygons\na.jpg,1 1,2 2\n", ":2: must have 2 fields, got 3"),
        ('filename,polygons\n"a\nb.jpg",\nc.jpg\n', ":4: must have 2 fields, got 1"),
        ('filename,polygons\n"a.jpg,\n', "is not CSV"),
    ],
)
def test_faults_name_their_line(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_submission(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_what_other_programs_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(b"\xef\xbb\xbffilename,polygons\r\na.jpg,1.5 1 2 2 3 -1\r\n\r\nb.jpg,\r\n")
    found = read_submission(path)
    assert_array_equal(found["a.jpg"][0], [[1.5, 1], [2, 2], [3, -1]])
    assert found["b.jpg"] == ()


def test_a_long_row_is_read(tmp_path: Path) -> None:
    outline = np.stack([np.arange(30_000.0), np.arange(30_000.0) ** 2 % 977], axis=1)
    write_submission(tmp_path / "s.csv", {"a.jpg": [outline]})
    assert_array_equal(read_submission(tmp_path / "s.csv")["a.jpg"][0], outline)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for polygon in (TRIANGLE[:2], np.full((4, 2), np.nan), np.zeros(8)):
        with pytest.raises(ValueError, match=r"a\.jpg"):
            write_submission(tmp_path / "s.csv", {"a.jpg": [polygon]})
    assert not (tmp_path / "s.csv").exists()


def test_predictions_in_either_form(tmp_path: Path) -> None:
    flat = [[0, 0], [5, 5], [9, 9]]
    images = {"a.jpg": {"words": {"1": {"points": TRIANGLE.tolist()}, "2": {"points": flat}}}, "b.jpg": {}}
    for name in ("p.json", "p"):
        (tmp_path / name).write_text(json.dumps({"images": images}))
        found = read_predictions(tmp_path / name)
        # A detection without an area stays: it is a false alarm all the same.
        assert_array_equal(found["a.jpg"][0], TRIANGLE)
        assert_array_equal(found["a.jpg"][1], flat)
        assert found["b.jpg"] == ()
    for name in ("p.csv", "q"):
        write_submission(tmp_path / name, {"a.jpg": [TRIANGLE]})
        assert_array_equal(read_predictions(tmp_path / name)["a.jpg"][0], TRIANGLE)
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "none")
