"""`data check`: each thing that can be wrong is found where it was put, and nothing else is."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image

from detector.data.check import KINDS, Finding, Part, check, parts_of
from detector.data.check_images import BANDS, MOST_IN_BAND, NEAR_BITS, _candidates, look, look_at, similar_groups
from detector.data.check_words import check_words, sides
from detector.data.images import ORIENTATION
from detector.data.synthetic import make_pages
from detector.errors import DataError
from detector.types import Word
from orchestrator.__main__ import main
from orchestrator.report import data_page

WH = (200, 100)
SQUARE = [[10, 10], [60, 10], [60, 30], [10, 30]]
BOW_TIE = [[10, 10], [60, 30], [60, 10], [10, 30]]
EVIL = "영수증 <b onload=x>&\"'.png"


def picture(seed: int, wh: tuple[int, int] = WH) -> Image.Image:
    """A blot of its own for each seed: pictures that are neither equal nor alike."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(wh, Image.Resampling.BICUBIC)


def words_at(*polygons: Any) -> dict[str, Any]:
    return {f"{index:04d}": {"points": points} for index, points in enumerate(polygons, start=1)}


def write(folder: Path, name: str, images: dict[str, Any]) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"images": images}), encoding="utf-8")
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A set with one of each."""
    folder = tmp_path / "set"
    moved = [[x, y + 40] for x, y in SQUARE]
    nearly = [*moved, [9.9, 60]]
    train = {
        "good.png": {"img_w": 200, "img_h": 100, "words": words_at(SQUARE, moved)},
        "missing.png": {"words": words_at(SQUARE)},
        "half.jpg": {"words": words_at(SQUARE)},
        EVIL: {"img_w": 100, "img_h": 200, "words": words_at(BOW_TIE, [[300, 0], [320, 0], [320, 20], [300, 20]])},
        "empty.png": {},
        "words.png": {
            "words": words_at([], [[1, 1], [2, 2]], [[5, 5], [50, 5], [90, 5]], SQUARE, moved, SQUARE, nearly)
        },
        "edge.png": {"words": words_at([[-5, 0], [30, 0], [30, 20], [-5, 20]], [[150, 80], [200.9, 80], [199, 99]])},
        "turned.png": {"img_w": 100, "img_h": 200, "words": words_at([[10, 150], [60, 150], [60, 190], [10, 190]])},
    }
    val = {"copy.bmp": {"words": words_at(SQUARE)}, "near.jpg": {"words": words_at(SQUARE), "colour": 1}}
    write(folder, "train", train)
    write(folder, "val", val)
    for seed, name in enumerate([*train, "unlisted.png"]):
        if name not in ("missing.png", "half.jpg", "turned.png"):
            picture(seed).save(folder / "images" / name)
    picture(50, (400, 300)).save(folder / "images" / "half.jpg", quality=95)
    data = (folder / "images" / "half.jpg").read_bytes()
    (folder / "images" / "half.jpg").write_bytes(data[: len(data) // 2])
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture(51).save(folder / "images" / "turned.png", exif=exif)  # 100 x 200 upright, as annotated
    picture(0).save(folder / "images" / "copy.bmp")
    picture(4).resize((150, 75)).save(folder / "images" / "near.jpg", quality=60)
    return folder


def test_each_fault_is_found_where_it_was_put(broken: Path) -> None:
    survey = check(parts_of(broken))
    found = {kind: [(f.part, f.image, f.words) for f in survey.of(kind)] for kind in KINDS}
    train = "set/train"
    assert found == {
        "missing": [(train, "missing.png", ())],
        "unreadable": [(train, "half.jpg", ())],
        "same": [(train, "good.png", ())],
        "degenerate": [(train, "words.png", (f"000{n}",)) for n in (1, 2, 3)],
        "crossing": [(train, EVIL, ("0001",))],
        "outside": [(train, EVIL, ("0002",))],
        # Of words.png: 4 and 6 are equal; 5 and 7 have IoU 1000 / 1000.75, for 7 has a vertex 0.1 px beside an edge.
        "twice": [(train, "words.png", ("0004", "0006")), (train, "words.png", ("0005", "0007"))],
        "similar": [(train, "empty.png", ())],
        "beyond": [(train, "edge.png", ("0001",))],
        "stale": [(train, EVIL, ())],
        "unlisted": [("", "unlisted.png", ())],
        "empty": [(train, "empty.png", ())],
        "unknown": [("set/val", "", ())],
    }
    assert not survey.clean
    (same,), (similar,) = survey.of("same"), survey.of("similar")
    assert str(same) == "set/train good.png: = set/val copy.bmp; in more than one part; annotated differently"
    assert str(similar) == "set/train empty.png: ~ set/val near.jpg; in more than one part"
    assert str(survey.of("stale")[0]).endswith("is 200 x 100, annotated 100 x 200")
    assert str(survey.of("unreadable")[0]).startswith("set/train half.jpg: cannot be decoded (")
    assert str(survey.of("beyond")[0]) == "set/train edge.png, word 0001: by 5.0 px"
    assert [len(part.pages) for part in survey.parts] == [7, 2]


def test_a_file_in_two_parts_is_a_leak_of_itself(tmp_path: Path) -> None:
    for name in ("train", "val"):
        write(tmp_path, name, {"a.png": {"words": words_at(SQUARE)}})
    picture(1).save(tmp_path / "images" / "a.png")
    (finding,) = check(parts_of(tmp_path)).findings
    assert (finding.kind, finding.others) == ("same", ((f"{tmp_path.name}/val", "a.png"),))
    assert finding.detail.endswith("a.png; in more than one part")


def test_made_pages_are_clean(tmp_path: Path) -> None:
    make_pages(tmp_path / "d", 6, seed=3, size=160)
    survey = check(parts_of(tmp_path / "d"))
    assert Counter(f.kind for f in survey.findings if f.kind != "beyond") == Counter()


def test_the_real_sets(real_data: Path) -> None:
    # Found by this check and looked at: SROIE holds receipts twice, with annotations of two people.
    (same,) = check(parts_of(real_data / "sroie_mini")).findings
    assert str(same) == "sroie_mini/train sroie_016.jpg: = sroie_mini/train sroie_018.jpg; annotated differently"


@given(st.floats(1, 500), st.floats(1, 500), st.floats(0, 6.3))
@settings(max_examples=50, deadline=None)
def test_sides_of_turned_rectangles(width: float, height: float, turn: float) -> None:
    box = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    turned = box @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + 700.0
    # Near a square the root is taken of a difference of nearly equal numbers: half the digits are left.
    assert_allclose(sides([turned]), [sorted((width, height), reverse=True)], rtol=1e-5, atol=1e-4)


@st.composite
def pages(draw: st.DrawFn) -> list[Word]:
    point = st.tuples(st.integers(-20, 40), st.integers(-20, 40))
    polygons = draw(st.lists(st.lists(point, min_size=3, max_size=5), max_size=5))
    repeated = [*polygons, *polygons[: draw(st.integers(0, 1))]]
    return [Word(str(index), np.array(points, dtype=np.float64)) for index, points in enumerate(repeated)]


@given(pages())
@settings(max_examples=100, deadline=None)
def test_words_by_shapely_one_by_one(words: list[Word]) -> None:
    found = {(fault.kind, fault.words) for fault in check_words(words, (20, 20))}
    outlines = [shapely.Polygon(word.polygon_V2) for word in words]
    for word, outline in zip(words, outlines, strict=True):
        kinds = {kind for kind, ids in found if ids == (word.id,)}
        flawed = not outline.is_valid or outline.area < 1
        assert bool(kinds & {"crossing", "degenerate"}) == flawed
        if not flawed:
            inside = outline.intersection(shapely.box(0, 0, 20, 20)).area
            out = max(-word.polygon_V2.min(), word.polygon_V2.max() - 20)
            assert kinds == ({"outside"} if inside == 0 else {"beyond"} if out > 1 else set())
    for a, b in combinations(range(len(words)), 2):
        both = outlines[a].is_valid and outlines[b].is_valid
        union = outlines[a].union(outlines[b]).area if both else 0.0
        alike = both and union > 0 and outlines[a].intersection(outlines[b]).area >= 0.95 * union - 1e-9
        equal = np.array_equal(words[a].polygon_V2, words[b].polygon_V2)
        assert (("twice", (words[a].id, words[b].id)) in found) == (alike or equal)


def test_neighbours_by_band_are_all_neighbours() -> None:
    """Pairs within NEAR_BITS by comparing all with all; bands are small here, so none may be passed over."""
    rng = np.random.default_rng(8)
    base = rng.integers(0, 2, (40, 256), dtype=np.uint8)
    flips = rng.integers(0, 256, (3, 40, NEAR_BITS))
    copies = [base]
    for flip in flips:
        copy = base.copy()
        for row, places in zip(copy, flip, strict=True):
            row[places] ^= 1
        copies.append(copy)
    bits = np.concatenate(copies)
    assert len(bits) < MOST_IN_BAND * BANDS
    signs = np.packbits(bits, axis=1).view(np.uint64)
    far = (bits[:, None] != bits[None]).sum(axis=-1)
    plain = {(a, b) for a in range(len(bits)) for b in range(a + 1, len(bits)) if far[a, b] <= NEAR_BITS}
    assert {(min(pair), max(pair)) for pair in _candidates(signs)} == plain


def test_alike_are_scaled_and_brightened_pictures_alone(tmp_path: Path, real_data: Path) -> None:
    names = ("sroie_082.jpg", "sroie_123.jpg", "sroie_005.jpg")
    paths = [real_data / "sroie_mini" / "images" / name for name in names]
    with Image.open(paths[0]) as page:
        page.resize((page.width // 2, page.height // 2)).save(tmp_path / "half.png")
        page.point(lambda value: min(255, round(value * 1.05))).save(tmp_path / "light.png")
        page.save(tmp_path / "same.png")
    paths += [tmp_path / f"{name}.png" for name in ("half", "light", "same")]
    assert similar_groups(paths, list(look_at(paths))) == [[0, 3, 4]]


def test_looks_come_in_order_for_any_number_of_threads(tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.png" for seed in range(30)]
    for seed, path in enumerate(paths):
        picture(seed).save(path)
    alone = [look(path).pixels for path in paths]
    assert len(set(alone)) == 30
    for threads in (1, 3):
        assert [seen.pixels for seen in look_at(paths, threads)] == alone


# --- the command -----------------------------------------------------------------------------------------------------


def test_exit_codes_and_texts(broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(broken)]) == 1
    text = capsys.readouterr().out
    assert "problems:\n  listed images that are not in the folder: 1\n    set/train missing.png\n" in text
    assert main(["data", "check", str(broken), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["clean"] is False and found["parts"][1] == {"name": "set/val", "pages": 2, "words": 2, "ignored": 0}
    assert {finding["kind"] for finding in found["findings"]} == set(KINDS)
    good = write(tmp_path / "good", "t", {"a.png": {"words": words_at(SQUARE)}})
    picture(1).save(tmp_path / "good" / "images" / "a.png")
    assert main(["data", "check", str(good)]) == 0
    assert "problems: none\n\nnotices: none" in capsys.readouterr().out
    assert main(["data", "check", str(good), "--images", str(broken / "images")]) == 1
    (tmp_path / "p.txt").write_text("")
    for words, message in (
        ([str(good), str(good)], "two sets are called good/t"),
        ([str(tmp_path / "none")], "no such file or folder"),
        ([str(tmp_path)], "holds no annotations"),
        ([str(good), "--images", "none"], "no such folder"),
        ([str(good), "-o", "x.txt"], "a .html file expected"),
        ([str(good), "--threads", "-1"], "must be 1 or more"),
    ):
        assert main(["data", "check", *words]) == 2
        assert message in capsys.readouterr().err


def test_a_plan_names_its_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "p.yaml"
    made = "data: {synthetic: {train: 2, val: 1, seed: 1, size: 160}}"
    plan.write_text(f"roadmap: r\nworkspace: {tmp_path}/w\n{made}\nphases: [{{id: a, experiments: [{{id: b}}]}}]\n")
    assert main(["data", "check", str(plan), "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert [(part["name"], part["pages"]) for part in parts] == [("r/train", 2), ("r/val", 1)]


def test_the_page_holds_its_pictures_and_escapes_names(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert main(["data", "check", str(broken), "-o", str(out)]) == 1
    text = out.read_text(encoding="utf-8")
    assert EVIL not in text and "영수증 &lt;b onload=x&gt;&amp;" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text) and "<script" not in text
    assert text.count("data:image/svg+xml") == 1
    pictures = [base64.b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", text)]
    # Same and similar 2 each, degenerate, crossing, outside, twice, beyond and empty 1 each; and two pages of train,
    # one of val, where the median page is the one with most words.
    assert len(pictures) == 4 + 6 + 3 and all(data[:2] == b"\xff\xd8" for data in pictures)
    assert main(["data", "check", str(broken), "-o", str(out)]) == 2
    assert "give --force" in capsys.readouterr().err
    assert main(["data", "check", str(broken), "-o", str(out), "--force"]) == 1


def test_long_lists_are_cut_and_say_so(tmp_path: Path) -> None:
    path = write(tmp_path, "t", {f"{n}.png": {"words": words_at(SQUARE)} for n in range(300)})
    survey = check([Part("t", path, tmp_path / "images")])
    lines = data_page.as_lines(survey)
    assert lines[2] == "  listed images that are not in the folder: 300" and lines[8] == "    ... and 295 more"
    text = data_page.page(survey)
    assert "... and 100 more" in text and "199.png" in text and "200.png" not in text


def test_findings_say_their_place() -> None:
    assert str(Finding("twice", "p", "a.png", ("1", "2"), "IoU 0.97")) == "p a.png, words 1, 2: IoU 0.97"
    assert str(Finding("unlisted", "", "a.png")) == "a.png"
    with pytest.raises(DataError, match="no such file"):
        parts_of(Path("nowhere"))
