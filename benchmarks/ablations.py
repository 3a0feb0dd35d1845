"""What does each trained variant gain over the baseline on the same pages: CLEval (both variants) and IoU?

Run: python -m benchmarks.ablations WORKSPACE FOLDER
WORKSPACE is a roadmap's folder with finished trials; FOLDER holds images/ and val.json. Every best checkpoint finds the
words of all validation pages by its plan's own rule; differences from the trial named `baseline` are paired over pages.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.data.formats import read_annotations
from detector.inference.predict import predict
from detector.metrics.report import score_set
from detector.types import Float64, Page
from orchestrator.evaluation.statistics import paired_bootstrap

BASELINE = "baseline"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    pages = read_annotations(arguments.folder / "val.json", arguments.folder / "images").pages
    found = {name: scores(folder, pages) for name, folder in finished(arguments.workspace).items()}
    if BASELINE not in found:
        parser.error(f"{arguments.workspace}: a finished trial must be named `{BASELINE}`, got {sorted(found)}")
    print(f"| trial | official H | competition H | IoU H a page | less the {BASELINE}, in this order |")
    print("|---|---|---|---|---|")
    for name, rows in found.items():
        differences = [paired_bootstrap(one, other) for one, other in zip(rows, found[BASELINE], strict=True)]
        told = "" if name == BASELINE else ", ".join(map(str, differences))
        print(f"| {name} | " + " | ".join(f"{row.mean():.4f}" for row in rows) + f" | {told} |", flush=True)


def finished(workspace: Path) -> dict[str, Path]:
    """Experiment -> folder of its best checkpoint, the baseline first."""
    trials = [json.loads(path.read_text(encoding="utf-8")) for path in workspace.glob("trials/*/trial.json")]
    folders = {trial["experiment"]: workspace / "trials" / trial["digest"] for trial in trials}
    ended = {name: folder for name, folder in folders.items() if _state(folder) == "finished"}
    return {name: ended[name] / "best" for name in sorted(ended, key=lambda name: (name != BASELINE, name))}


def _state(folder: Path) -> str:
    return str(json.loads((folder / "state.json").read_text(encoding="utf-8"))["state"])


def scores(checkpoint: Path, pages: Sequence[Page]) -> tuple[Float64, Float64, Float64]:
    """Each page's H: CLEval official, CLEval competition, IoU."""
    words = {name: found.polygons for name, found in predict(checkpoint, pages).items()}
    truth = {page.name: page.words for page in pages}
    official, competition = (score_set(truth, words, variant) for variant in ("official", "competition"))
    return (
        np.array([count.hmean for count in official.counts.values()]),
        np.array([count.hmean for count in competition.counts.values()]),
        np.array([count.hmean for count in official.iou_counts.values()]),
    )


if __name__ == "__main__":
    main()
