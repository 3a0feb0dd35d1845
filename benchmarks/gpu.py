"""How well a GPU is used: images/s, share of its peak, memory, and the share of time spent waiting for data.

Run: python -m benchmarks.gpu [--tiny] [--networks resnet50+unet] [--sides 1024] [--out FILE.json].
Needs torch, timm, numpy and OpenCV alone. resnet50+unet and hrnet_w44+fpn at 1024 and 1280 px, training (forward, loss,
backward, AdamW) and inference, from plain fp32 to bf16 in channels_last and compiled; `--tiny` is for a CPU: seconds.

The share of the peak is the arithmetic of the network as it runs here (torch.utils.flop_counter, products and sums
counted apart) over the seconds and the card's dense peak. Figures of one row are medians over steps that were waited
for; data-wait is the share of a training's time in which no batch was ready, with loader processes, best variant.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_feed import feed
from benchmarks.gpu_steps import Variant, moved_to, network_of, random_batch, step_of

# Dense TFLOP/s without sparsity, (bf16, fp32), from NVIDIA's data sheets; fp32 means TF32 where a card has it, since
# torch's convolutions use it by default (torch.backends.cudnn.allow_tf32).
PEAKS = {
    "H200": (989.0, 494.0),
    "H100 PCIe": (756.0, 378.0),
    "H100": (989.0, 494.0),
    "A100": (312.0, 156.0),
    "L40S": (362.0, 183.0),
    "L4": (121.0, 60.0),
    "A10": (125.0, 62.0),
    "RTX 4090": (165.0, 82.6),
    "RTX 3090": (71.0, 35.6),
}
NETWORKS = (("resnet50", "unet"), ("hrnet_w44", "fpn"))
TINY_NETWORKS = (("test_resnet", "unet"), ("test_resnet", "fpn"))
VARIANTS = (
    Variant("fp32", False, False),
    Variant("fp32", True, False),
    Variant("bf16", False, False),
    Variant("bf16", True, False),
    Variant("bf16", True, True),
)


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured where; `peaks`: dense TFLOP/s (bf16, fp32) of the card, if known."""

    encoder: str
    decoder: str
    side_px: int
    device: torch.device
    peaks: tuple[float, float] | None
    args: argparse.Namespace

    @property
    def network(self) -> str:
        return f"{self.encoder}+{self.decoder}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `peak_share` and `data_wait` are None where they cannot be told."""

    network: str
    side_px: int
    work: str
    variant: str
    images_s: float
    gflop_image: float
    peak_share: float | None
    memory_gb: float
    data_wait: float | None = None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny networks at 64 px, two steps: does it run?")
    parser.add_argument("--batch", type=int, default=8, help="images a step (default 8)")
    parser.add_argument("--steps", type=int, default=10, help="measured steps a row (default 10)")
    parser.add_argument("--workers", type=int, default=max(0, (os.cpu_count() or 1) - 1), help="loader processes")
    parser.add_argument("--peak", type=float, help="dense peak of the card for bf16, TFLOP/s; fp32 counts half")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--networks", nargs="+", metavar="ENCODER+DECODER", help="of those of the table; default: all")
    parser.add_argument("--sides", nargs="+", type=int, help="canvas, px (default 1024 1280)")
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    args = parser.parse_args()
    if args.tiny:
        args.batch, args.steps, args.workers = 2, 2, 0
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    peaks = next((peak for card, peak in PEAKS.items() if card in name), None)
    peaks = (args.peak, args.peak / 2) if args.peak else peaks
    print(f"{name}, torch {torch.__version__}; peak TFLOP/s (bf16, fp32): {peaks or 'unknown, give --peak'}")
    print(
        f"{'network':18}{'px':>6} {'work':10}{'variant':28}{'images/s':>9}{'GFLOP':>8}{'peak':>7}{'GB':>7}{'wait':>7}"
    )
    rows: list[Row] = []
    variants = [v for v in VARIANTS if not (v.compiled and (args.no_compile or args.tiny or not _has_compiler()))]
    known = TINY_NETWORKS if args.tiny else NETWORKS
    if unknown := set(args.networks or ()) - {"+".join(pair) for pair in known}:
        parser.error(f"--networks: {', '.join(sorted(unknown))} must be among {', '.join(map('+'.join, known))}")
    for side in args.sides or ((64,) if args.tiny else (1024, 1280)):
        for encoder, decoder in (pair for pair in known if not args.networks or "+".join(pair) in args.networks):
            case = Case(encoder, decoder, side, device, peaks, args)
            for work in ("training", "inference"):
                rows += _contest(case, work, variants)
    if args.out:
        args.out.write_text(json.dumps({"device": name, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    return 0


def _contest(case: Case, work: str, variants: list[Variant]) -> list[Row]:
    """All variants of one network, size and work; the fastest training is fed by a loader as well."""
    rows = []
    runs: dict[float, Variant] = {}
    for variant in variants:
        try:
            row = _measure(case, work, variant)
        except torch.OutOfMemoryError:
            told = f"{case.network} {case.side_px} {work} {variant}: out of memory at --batch {case.args.batch}"
            print(told, flush=True)
            continue
        finally:
            gc.collect()
            if case.device.type == "cuda":
                torch.cuda.empty_cache()
        runs[row.images_s] = variant
        rows.append(row)
        _show(row)
    if work == "training" and runs:
        best = runs[max(runs)]
        wait, images_s, whose = _data_wait(case, best)
        fed = Row(case.network, case.side_px, work, f"{best}, fed", images_s, 0.0, None, 0.0, wait)
        rows.append(fed)
        _show(fed)
        print(f"{'':24} fed by {case.args.workers} processes of {whose}", flush=True)
    return rows


def _measure(case: Case, work: str, variant: Variant) -> Row:
    args, device = case.args, case.device
    model = network_of(case.encoder, case.decoder, device, variant)
    batch = random_batch(args.batch, case.side_px, device, variant)
    step = step_of(model, variant, device, work)
    with FlopCounterMode(display=False) as counter:
        step(batch)
    flop = counter.get_total_flops()
    if variant.compiled:
        model.compile()
    for _ in range(3 if device.type == "cuda" else 1):
        step(batch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = statistics.median(_timed(lambda: step(batch), device) for _ in range(args.steps))
    share = None
    if case.peaks:
        share = flop / seconds / 1e12 / case.peaks[0 if variant.precision == "bf16" else 1]
    images_s = args.batch / seconds
    gflop_image = flop / args.batch / 1e9
    return Row(case.network, case.side_px, work, str(variant), images_s, gflop_image, share, _memory(device))


def _data_wait(case: Case, variant: Variant) -> tuple[float, float, str]:
    """Share of the time in which a training waited for its loader, its images/s, and whose pipeline fed it."""
    args, device = case.args, case.device
    model = network_of(case.encoder, case.decoder, device, variant)
    step = step_of(model, variant, device, "training")
    if variant.compiled:
        model.compile()
    warm = max(2, args.workers // 2)
    with tempfile.TemporaryDirectory() as folder:
        whose, samples = feed(Path(folder), case.side_px, args.batch * (warm + args.steps))
        loader = iter(
            DataLoader(
                samples,
                args.batch,
                num_workers=args.workers,
                pin_memory=device.type == "cuda",
                multiprocessing_context="spawn" if args.workers else None,
            )
        )
        waited, started = 0.0, 0.0
        for done in range(warm + args.steps):
            if done == warm:
                waited, started = 0.0, time.perf_counter()
            before = time.perf_counter()
            batch = next(loader)
            waited += time.perf_counter() - before
            _timed(lambda batch=batch: step(moved_to(batch, device, variant)), device)
        total = time.perf_counter() - started
    return waited / total, args.batch * args.steps / total, whose


def _timed(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _memory(device: torch.device) -> float:
    """GB at the peak: of the card since it was last reset, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++", "c++"))


def _show(row: Row) -> None:
    share = "" if row.peak_share is None else f"{row.peak_share:.1%}"
    wait = "" if row.data_wait is None else f"{row.data_wait:.1%}"
    gflop, memory = (f"{value:.1f}" if value else "" for value in (row.gflop_image, row.memory_gb))
    print(
        f"{row.network:18}{row.side_px:6} {row.work:10}{row.variant:28}{row.images_s:9.2f}{gflop:>8}{share:>7}"
        f"{memory:>7}{wait:>7}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
