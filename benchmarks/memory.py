"""Peak memory against the number of images: predicting, a loader's epoch, validating, opening a set. A line each.

    python -m benchmarks.memory                     # 100 and 10,000 images; the index with 100,000
    python -m benchmarks.memory --counts 50 500     # quick

Images are hard links to a few files of 64 px, each measurement is a process of its own, and memory is the kernel's
high-water mark of it (VmHWM; Linux). Growth is told in bytes an image: keeping a 64 px picture would cost 12,288, and
keeping its map 4,096.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from detector.config import Config

FILES = 8
SIDE_PX = 64
WORDS = 10
INDEX_PAGES = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--counts", type=int, nargs=2, default=(100, 10_000), metavar="N")
    parser.add_argument("--index", type=int, default=INDEX_PAGES, metavar="N", help="pages of the index; 0: none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for row in measure(Path(root), arguments.counts, ("predict", "epoch", "validate")):
            print(row)
        if arguments.index:
            made = make_set(Path(root) / "large", arguments.index)
            for job in ("parse", "pack", "reopen"):
                seconds, peak = run(job, made)
                print(f"{job:8} {arguments.index:7} pages of {WORDS} words: {seconds:6.2f} s CPU, {peak / 1e6:8.1f} MB")


def measure(root: Path, counts: tuple[int, int], jobs: tuple[str, ...]) -> list[str]:
    """A line for each job: peaks at both counts, and growth."""
    rows = []
    for job in jobs:
        peaks = [run(job, make_set(root / f"{job}{count}", count))[1] for count in counts]
        grown = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
        shown = ", ".join(f"{peak / 1e6:.1f} MB at {count}" for peak, count in zip(peaks, counts, strict=True))
        rows.append(f"{job:8} {shown}: {grown:.0f} bytes an image")
    return rows


def growth(root: Path, counts: tuple[int, int], job: str) -> float:
    """Bytes of peak memory an image more."""
    low, high = (run(job, make_set(root / f"{job}{count}", count))[1] for count in counts)
    return (high - low) / (counts[1] - counts[0])


def make_set(folder: Path, count: int) -> Path:
    """`images` with links to a few pictures, and `set.json` with ten words for each."""
    import numpy as np
    from PIL import Image

    images = folder / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(FILES):
        pixels = rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    words = {
        f"{k:04d}": {"points": [[4 * k, 5 * k], [4 * k + 9, 5 * k], [4 * k + 9, 5 * k + 4], [4 * k, 5 * k + 4]]}
        for k in range(WORDS)
    }
    entry = json.dumps({"words": words})
    with (folder / "set.json").open("w", encoding="utf-8") as stream:
        stream.write('{"images": {')
        for number in range(count):
            name = f"{number:06d}.png"
            os.link(folder / f"{number % FILES}.png", images / name)
            stream.write(f'{", " if number else ""}"{name}": {entry}')
        stream.write("}}\n")
    return folder


def run(job: str, folder: Path) -> tuple[float, int]:
    """(seconds of processor time, peak bytes) of a job in a process of its own."""
    code = f"from benchmarks.memory import {job}, tell; from pathlib import Path; tell({job}, Path({str(folder)!r}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{job}: {done.stderr}")
    seconds, peak = done.stdout.split()[-2:]
    return float(seconds), int(peak)


def tell(job: object, folder: Path) -> None:
    """Run a job; print its processor time and this process's high-water mark."""
    assert callable(job)
    started = time.process_time()
    job(folder)
    seconds = time.process_time() - started
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    print(seconds, int(line.split()[1]) * 1024)


def predict(folder: Path) -> None:
    """The command, with a tiny network."""
    from detector import checkpoint
    from detector.model.detector import build
    from orchestrator.__main__ import main as command

    checkpoint.save(folder / "best", build(config()), config())
    assert command(["predict", str(folder / "best"), str(folder / "images"), "-o", str(folder / "out.csv")]) == 0


def epoch(folder: Path) -> None:
    """A training epoch's batches, without the network."""
    from torch.utils.data import DataLoader

    from detector.data.dataset import TrainSet
    from detector.data.index import open_annotations

    pages = open_annotations(folder / "set.json", folder / "images", folder / "cache").pages
    for _ in DataLoader(TrainSet(pages, config()), batch_size=4):
        pass


def validate(folder: Path) -> None:
    """The scores of a tiny network on all pages, twice, as after two epochs."""
    from detector.data.index import open_annotations
    from detector.model.detector import build
    from detector.training.validation import Validator
    from detector.training.world import World

    pages = open_annotations(folder / "set.json", folder / "images", folder / "cache").pages
    validator, model = Validator(pages, config(), World(0, 1)), build(config()).eval()
    for _ in range(2):
        validator.metrics(model)


def parse(folder: Path) -> None:
    """The annotations as objects, as every process had them before."""
    from detector.data.formats import read_annotations

    tell.held = read_annotations(folder / "set.json", folder / "images")  # type: ignore[attr-defined]


def pack(folder: Path) -> None:
    """The index, made: the first start."""
    from detector.data.index import open_annotations

    open_annotations(folder / "set.json", folder / "images", folder / "cache")


def reopen(folder: Path) -> None:
    """The index, found: every later start, and every worker."""
    pack(folder)


def config() -> Config:
    """The smallest network there is, at 64 px."""
    return Config(
        encoder="test_resnet.r160_in1k", encoder_weights="none", inner_channels=8, output_channels=8, image_size=64
    )


if __name__ == "__main__":
    main()
