"""The `predict` command: killed and carried on, spread over Ray, barred from Ray and MLflow: always the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detector import checkpoint
from detector.config import Config, Postprocess
from detector.inference.bundle import save_bundle
from detector.model.detector import build
from orchestrator.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = 40
TINY = Config(
    encoder="test_resnet.r160_in1k",
    encoder_weights="none",
    inner_channels=16,
    output_channels=8,
    image_size=64,
    postprocess=Postprocess(thresh=0.1, box_thresh=0.1),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of different sizes, a bundle of both with a turned view, and pages."""
    folder = tmp_path_factory.mktemp("home")
    for seed, size in ((0, 64), (1, 96)):
        torch.manual_seed(seed)
        config = TINY.model_copy(update={"seed": seed, "image_size": size})
        model = build(config)
        nn.init.normal_(model.head.prob.out.weight, std=0.5)
        words = {"pages": 10, "mean": 20.0, "sd": 300.0, "least": 0, "most": 90}
        checkpoint.save(folder / f"m{seed}", model, config, {"train": words})
    members = [(folder / "m0", 1.0), (folder / "m1", 2.0)]
    save_bundle(folder / "bundle", members, ("identity", "rot90"), Postprocess(thresh=0.1, box_thresh=0.1))
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(PAGES):
        pixels = rng.integers(0, 256, (70 + number, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"p_{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def alone(home: Path) -> tuple[bytes, bytes]:
    """What a run that was left alone writes."""
    words = ["predict", str(home / "bundle"), str(home / "images"), "-o", str(home / "alone.csv")]
    assert main([*words, "--json", str(home / "alone.json"), "--device", "cpu"]) == 0
    assert len((home / "alone.csv").read_text().split("|")) > PAGES  # there is something to compare
    assert not (home / ".alone.csv.part").exists()
    return (home / "alone.csv").read_bytes(), (home / "alone.json").read_bytes()


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def lines_of(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("*.jsonl"))


def test_a_killed_run_goes_on_and_writes_the_same_bytes(home: Path, tmp_path: Path, alone: tuple[bytes, bytes]) -> None:
    out, also = tmp_path / "s.csv", tmp_path / "s.json"
    words = [
        "predict",
        str(home / "bundle"),
        str(home / "images"),
        "-o",
        str(out),
        "--json",
        str(also),
        "--device",
        "cpu",
    ]
    part = tmp_path / ".s.csv.part"
    found = 0
    for _ in range(2):
        run = subprocess.Popen([sys.executable, "-m", "orchestrator", *words], cwd=tmp_path, env=environment())
        until = time.monotonic() + 200
        while lines_of(part) < found + 5 and run.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not out.exists() and not also.exists()
        assert found + 5 <= lines_of(part) < PAGES, "too fast to be killed"
        found = lines_of(part)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{PAGES} pages (" in done.stdout and "of them found before)" in done.stdout
    assert (out.read_bytes(), also.read_bytes()) == alone
    assert not part.exists()


# Importing Ray or MLflow ends this program.
BARRED = "import sys; sys.modules.update(ray=None, mlflow=None); from orchestrator.__main__ import main; "


def test_a_bundle_gives_the_same_bytes_in_a_fresh_process_without_ray_and_mlflow(
    home: Path, tmp_path: Path, alone: tuple[bytes, bytes]
) -> None:
    (home / "bundle").rename(home / "moved")
    try:
        words = ["predict", str(home / "moved"), str(home / "images"), "-o", "s.csv", "--device", "cpu"]
        code = f"{BARRED}sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / "s.csv").read_bytes() == alone[0]
    finally:
        (home / "moved").rename(home / "bundle")


SERVED = """
import sys
from pathlib import Path
import numpy as np
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
sys.modules["ray"] = None
import pandas, detector
from detector.data.formats import read_images, write_submission
assert Path(detector.__file__).is_relative_to(sys.argv[1]), detector.__file__  # the code that came with the model
paths = [str(page.path) for page in read_images(Path(sys.argv[2]))]
found = model.predict(pandas.DataFrame({"image": paths[:3]})) + model.predict(paths[3:])
write_submission(Path(sys.argv[3]), {one["image"]: [np.array(p) for p in one["polygons"]] for one in found})
"""


def test_the_same_folder_is_an_mlflow_model_with_the_same_words(
    home: Path, tmp_path: Path, alone: tuple[bytes, bytes]
) -> None:
    kept = {key: value for key, value in environment().items() if key != "PYTHONPATH"}
    out = tmp_path / "s.csv"
    done = subprocess.run(
        [sys.executable, "-P", "-c", SERVED, str(home / "bundle"), str(home / "images"), str(out)],
        cwd=tmp_path,
        env={**kept, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'm.db'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert out.read_bytes() == alone[0]


@pytest.mark.parametrize("workers", ["auto", "1"])
def test_ray_tasks_write_the_same_bytes(
    home: Path,
    tmp_path: Path,
    alone: tuple[bytes, bytes],
    two_cpus: None,
    workers: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "s.csv"
    words = ["predict", str(home / "bundle"), str(home / "images"), "-o", str(out), "--json", str(tmp_path / "s.json")]
    broken = home / "images" / "zz.png"
    broken.write_bytes(b"no image")
    try:
        assert main([*words, "--workers", workers]) == 2
        assert "zz.png" in capsys.readouterr().err
        assert not out.exists()
    finally:
        broken.unlink()
    assert lines_of(tmp_path / ".s.csv.part") >= PAGES // 2  # what was found before the fault is kept
    assert main([*words, "--workers", workers]) == 0
    assert "of them found before" in capsys.readouterr().out
    assert (out.read_bytes(), (tmp_path / "s.json").read_bytes()) == alone


def test_the_submission_is_checked(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"pages": 1000, "mean": 900.0, "sd": 0.5, "least": 1, "most": 999}
    model, config = checkpoint.load(home / "m0")
    checkpoint.save(tmp_path / "many", model, config, {"train": words})
    page = str(home / "images" / "p_000.png")
    out = tmp_path / "s.csv"
    assert main(["predict", str(tmp_path / "many"), page, "-o", str(out), "--device", "cpu"]) == 1
    assert "boxes an image are sane after training on 900.0 words a page, got" in capsys.readouterr().out
    assert out.exists()  # it is written; whether it is sent is the person's choice


def test_wrong_input_is_told(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = str(home / "images")
    for words, hint in (
        (["nowhere", images, "-o", "s.csv"], "nowhere: there is no such checkpoint, bundle or .onnx file"),
        ([str(home / "bundle"), images, "-o", "s.txt"], "a .csv (submission) or .json (annotations) file expected"),
        ([str(home / "bundle"), images, "-o", "s.csv", "--json", "t.csv"], "--json t.csv: a .json file other than"),
        (
            [str(home / "bundle"), images, "-o", "s.csv", "--workers", "0"],
            "--workers 0: a number of 1 or more",
        ),
    ):
        assert main(["predict", *words]) == 2
        assert hint in capsys.readouterr().err


def test_digests_are_those_of_the_files(home: Path) -> None:
    value = json.loads((home / "bundle" / "bundle.json").read_text())
    for name, digest in value["files"].items():
        data = (home / "bundle" / name).read_bytes()
        assert hashlib.blake2b(data, digest_size=16).hexdigest() == digest
