"""What converters refuse, each with its place, its rule and its remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conversions import FOLDERS, QUAD, annotate, trip

from detector.data.convert import NAMES, convert
from detector.data.foreign.trip import Options
from detector.data.words_json import parse_words
from detector.errors import DataError, InputError
from detector.types import Word
from orchestrator import data_commands


def test_all_faults_of_a_source_are_told_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = "0,0,9,0,9,9,0,9,x"
    (folder / "gt_1.txt").write_text(f"{good}\n1,2,3\n0,0,9,0,9,nan,0,9,x\n0,0,9,0,1e99,9,0,9,x\n")
    (folder / "gt_2.txt").write_text("0,0,9,0,9,9,0,_9,x\n")
    with pytest.raises(DataError) as caught:
        convert(folder, tmp_path / "o.json", "icdar", "competition")
    rule = "must begin with 8 numbers x1,y1,...,x4,y4 below 1e9"
    assert str(caught.value).splitlines() == [
        f"{folder}/gt_1.txt:2: {rule}, got '1,2,3'; mend the line",
        f"{folder}/gt_1.txt:3: {rule}, got '0,0,9,0,9,nan,0,9,x'; mend the line",
        f"{folder}/gt_1.txt:4: {rule}, got '0,0,9,0,1e99,9,0,9,x'; mend the line",
        f"{folder}/gt_2.txt:1: {rule}, got '0,0,9,0,9,9,0,_9,x'; mend the line",
    ]
    assert not (tmp_path / "o.json").exists()
    (folder / "1.txt").write_text(good)
    with pytest.raises(DataError, match=r"gt_1\.txt: image 1\.jpg has .*1\.txt already; remove one"):
        convert(folder, tmp_path / "o.json", "icdar", "competition")


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("paddle", "a.jpg [1]", "path.*, a tab and a JSON list"),
        ("paddle", "a.jpg\t[1", "not JSON"),
        ("paddle", "a.jpg\t[1]", r":1: word 1: must be an object with `points`"),
        ("paddle", 'a.jpg\t[{"points": [[0, 0], [1, "x"], [2, 2]]}]', r"a point must be \[x, y\]"),
        ("paddle", 'a.jpg\t[{"points": [], "transcription": 5}]', "`transcription` must be a string"),
        ("paddle", "a/..\t[]", "bare file name"),
        ("paddle", "x/a.jpg\t[]\ny/a.jpg\t[]", ":2: image a.jpg is on line 1 already"),
        ("coco", '{"imgs": {}, "anns": {}}', "try --from coco-text"),
        ("coco", '{"images": [{"id": 1, "file_name": "../.."}], "annotations": []}', "bare file name"),
        ("coco", '{"images": [], "annotations": [{"image_id": 3}]}', "`image_id` of a listed image"),
        ("coco-text", '{"imgs": {"1": {"id": 1}}, "anns": {}}', "must have `id` and `file_name`"),
        ("coco", '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1}]}', "outline or a `bbox`"),
        (
            "coco",
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "segmentation": [[1, 2, 3]]}]}',
            "flat list",
        ),
        (
            "coco",
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "bbox": [0, 0, 9, 9], '
            '"segmentation": {"counts": "x"}}]}',
            "runs of pixels.*--lossy",
        ),
    ],
)
def test_broken_sources_name_their_place(form: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text(content)
    with pytest.raises(DataError, match=f"in.*{message}"):
        convert(tmp_path / "in", tmp_path / "o.json", form, "competition")


def test_labelme_shapes_that_are_no_words(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    circle = {"label": "o", "points": [[1, 1], [2, 2]], "shape_type": "circle", "description": "logo"}
    (folder / "a.json").write_text(json.dumps({"shapes": [circle], "imagePath": "a.jpg"}))
    with pytest.raises(DataError, match=r"a\.json: shapes\[0\]: shape of type 'circle'.*--lossy"):
        convert(folder, tmp_path / "o.json", "labelme", "competition")
    (folder / "b.json").write_text("{")
    (folder / "c.json").write_text(json.dumps({"shapes": [{"label": 1}], "imagePath": None}))
    with pytest.raises(DataError, match=r"(?s)b\.json:1:2: is not JSON.*c\.json: `imagePath`.*circle"):
        convert(folder, tmp_path / "o.json", "labelme", "competition")


def test_missing_images_are_all_named(tmp_path: Path) -> None:
    path, images = annotate(tmp_path / "s", {"a.jpg": [], "b.jpg": [], "c.jpg": []})
    (images / "a.jpg").unlink()
    (images / "c.jpg").unlink()
    with pytest.raises(DataError, match=r"(?s)image a\.jpg: not in .*image c\.jpg: not in"):
        trip(path, images, "paddle")


def test_encodings_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "1.txt").write_bytes("0,0,9,0,9,9,0,9,영".encode("cp949"))
    with pytest.raises(DataError, match=r"1\.txt: is not utf-8 at byte 16; name its encoding"):
        convert(folder, tmp_path / "o.json", "sroie", "competition")
    done = convert(folder, tmp_path / "o.json", "sroie", "competition", Options(encoding="cp949"))
    assert parse_words(tmp_path / "o.json").words["1.jpg"][0].transcription == "영"
    assert done.notes == (
        f"image name is not in the file, .jpg assumed (--images tells): 1 (first: {folder / '1.txt'})",
    )


def test_nothing_is_written_over_without_force(tmp_path: Path) -> None:
    path, images = annotate(tmp_path / "s", {"a.jpg": [Word("0001", QUAD, "a")]})
    for form in NAMES[1:]:
        out, options = tmp_path / form, Options(images=images)
        convert(path, out, "competition", form, options)
        with pytest.raises(InputError, match="choose another name or give --force"):
            convert(path, out, "competition", form, options)
        if form in FOLDERS:
            next(out.iterdir()).rename(out / f"old{next(out.iterdir()).suffix}")
        done = convert(path, out, "competition", form, options, force=True)
        assert any("older file of the folder stays" in note for note in done.notes) == (form in FOLDERS)
    with pytest.raises(InputError, match="is written to a file"):
        convert(path, tmp_path, "competition", "paddle", Options(images=images), force=True)
    with pytest.raises(InputError, match="is written to a folder"):
        convert(path, path, "competition", "icdar", Options(images=images), force=True)


@pytest.mark.parametrize(
    ("origin", "target", "options", "message"),
    [
        ("icdar", "icdar", {}, "nothing to convert"),
        ("icdar", "coco", {}, "give --images"),
        ("icdar", "competition", {"frame": "stored"}, "give --images"),
        ("icdar", "competition", {"subset": "val"}, "only coco-text"),
        ("coco", "competition", {"encoding": "cp949"}, "always UTF-8"),
        ("icdar", "competition", {"encoding": "klingon"}, "is unknown"),
        ("icdar", "competition", {"whole": True}, "holds decimals"),
    ],
)
def test_options_that_do_not_go_together(
    origin: str, target: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        convert(tmp_path, tmp_path / "o", origin, target, Options(**options))


def test_the_command_knows_all_formats() -> None:
    assert data_commands.FORMATS == NAMES
    assert all(f"\n  {name} " in data_commands.FORMATS_HELP for name in NAMES)
