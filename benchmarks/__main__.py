"""Every job beside its peers: a table, and build/bench.json. Run: make bench, or python -m benchmarks [JOB ...]."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import cv2

from benchmarks.harness import GROWTH, STANDARD, Contest, measure
from detector.files import write_text

# In the order of the table; a module of benchmarks/jobs each, with `contest(scale)` and, where it makes sense, GROWS.
JOBS = (
    "cleval", "cleval_competition", "iou", "targets", "quads", "polygons", "ohem", "pipeline",
    "threshold_search", "evaluate", "train_step", "inference",
)  # fmt: skip
PACKAGES = (
    "numpy", "numba", "opencv-python-headless", "pyclipper", "shapely", "scipy", "torch", "timm", "albumentations",
    "cleval", "python-doctr", "rapidocr-onnxruntime",
)  # fmt: skip
OUT = Path("build/bench.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"default: all of {', '.join(JOBS)}")
    chosen = parser.parse_args().jobs or list(JOBS)
    if unknown := sorted(set(chosen) - set(JOBS)):
        parser.error(f"no job {', '.join(unknown)}; there are {', '.join(JOBS)}")
    cv2.setNumThreads(1)
    report: dict[str, Any] = _machine()
    print(f"{'job':20}{'ours ms':>10}{'peer ms':>10}{'ratio':>9}{'at least':>10}  equal  peer", flush=True)
    for name in chosen:
        report[name] = _row(name, importlib.import_module(f"benchmarks.jobs.{name}"))
    _write(report)
    return 0 if all(report[name]["met"] and report[name]["equal"] for name in chosen) else 1


def _row(name: str, job: Any) -> dict[str, Any]:
    contest: Contest = job.contest(STANDARD)
    ms = measure(contest)
    ours = ms.pop("ours")
    equal = bool(contest.equal())
    peers = {
        peer: {"ms": ms[peer], "ratio": ms[peer] / ours, "at_least": rival.at_least}
        for peer, rival in contest.peers.items()
    }
    fastest = min(ms, key=ms.__getitem__)
    met = all(peer["ratio"] >= peer["at_least"] for peer in peers.values())
    for peer, figures in sorted(peers.items(), key=lambda item: item[1]["ms"]):
        short = "" if figures["ratio"] >= figures["at_least"] else "  <-- short"
        print(
            f"{name:20}{ours:10.3f}{figures['ms']:10.2f}{figures['ratio']:9.2f}{figures['at_least']:10.4g}  "
            f"{'yes' if equal else 'NO ':5}  {peer}{short}",
            flush=True,
        )
    if note := contest.notes():
        print(f"{'':20}{note}", flush=True)
    growth = {}
    for scale in GROWTH if getattr(job, "GROWS", False) else ():
        growth[str(scale)] = measure(job.contest(scale), with_peers=False)["ours"]
        per_word = growth[str(scale)] / scale.words / (ours / STANDARD.words)
        print(f"{'':20}{growth[str(scale)]:10.3f}  at {scale}: {per_word:.2f} x the cost of a word", flush=True)
    return {
        "ours_ms": ours,
        "peer_ms": ms[fastest],
        "ratio": ms[fastest] / ours,
        "equal": equal,
        "peer": fastest,
        "met": met,
        "peers": peers,
        "growth_ms": growth,
        "note": note,
    }


def _machine() -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.processor())
    facts = {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    return {"machine": facts | {"threads": 1, "versions": versions}}


def _write(report: dict[str, Any]) -> None:
    """Jobs that were not run keep the figures of an earlier run."""
    OUT.parent.mkdir(exist_ok=True)
    earlier = json.loads(OUT.read_text("utf-8")) if OUT.exists() else {}
    write_text(OUT, json.dumps(earlier | report, indent=1, ensure_ascii=False) + "\n")
    print(f"written: {OUT}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
