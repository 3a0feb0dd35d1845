"""What `predict` writes goes to the file page by page, and the file is whole or absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from detector.config import Config, Postprocess
from detector.data.formats import read_annotations, read_submission, write_annotations, write_submission
from detector.inference.exported import facts_of
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


SIDE_PX = 512
KEPT = """
import sys
from pathlib import Path
from orchestrator.__main__ import main
assert main(["predict", "brightness.onnx", sys.argv[1], "-o", sys.argv[1] + ".csv", "--device", "cpu"]) == 0
(line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(line.split()[1]) * 1024)
"""


def brightness(path: Path) -> None:
    """An exported file whose probability is the pixel's brightness: the command in full, at no cost of a network."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, "h", "w"])
    prob = helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["b", "h", "w"])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sigmoid", ["mean"], ["prob"]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "brightness", [image], [prob], [axes]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    config = Config(image_size=SIDE_PX, postprocess=Postprocess(thresh=0.6, box_thresh=0.6))
    helper.set_model_props(model, facts_of(config, "0" * 32))
    onnx.save(model, path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the high-water mark is the Linux kernel's")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    # A picture takes 786 kB and its map 262 kB: were either kept, 200 pages more would show it.
    brightness(tmp_path / "brightness.onnx")
    pixels = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    pixels[40:60, 50:200] = 255
    Image.fromarray(pixels).save(tmp_path / "page.png")
    peaks = []
    for count in (40, 240):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            os.link(tmp_path / "page.png", folder / f"{number}.png")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", KEPT, str(count)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]))
        found = read_submission(tmp_path / f"{count}.csv")
        assert len(found) == count and all(len(page) == 1 for page in found.values())
    assert (peaks[1] - peaks[0]) / 200 < 60_000
