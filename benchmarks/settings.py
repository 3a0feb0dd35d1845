"""A search of post-processing settings: the product's service beside predicting and scoring anew for each setting.

    python -m benchmarks.settings --data DATA                   # a folder with images, train.json and val.json
    python -m benchmarks.settings --data DATA --model FOLDER    # with a checkpoint; else one is trained for a minute
    python -m benchmarks.settings --data DATA --settings 200 --pages 4 --measured 1     # quick

The service computes the maps once (as Ray tasks, their start included) and scores thousands of settings on them. By
hand, each setting reads the images, computes the network, takes RapidOCR's post-processor and scores with PyPI
`cleval`; so many settings are measured as `--measured` says, and the rest is extrapolated: seconds a setting times
settings, said as such. The network is the same, ours, in both: what is compared is doing it again. `cached maps` is the
same by hand with the network computed once. The first column is by the clock, so a busy machine shows in it; the second
is processor time of this process, in which the service's maps count as the network does by hand, and Ray's start does
not. Equal: every count of the measured settings, our words scored by PyPI `cleval`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from detector.config import Config, Postprocess
from detector.data.formats import read_annotations, read_image
from detector.metrics.cleval import Counts
from detector.types import Float64, Page

if TYPE_CHECKING:
    from detector.inference.fusion import PageMap

Result = TypeVar("Result")
VARIANT = "official"  # the one that PyPI `cleval` computes
EPOCHS = 12
SIDE_PX = 320


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by the clock, and of processor time of this process."""

    clock: float
    processor: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.clock + other.clock, self.processor + other.processor)

    def times(self, factor: float) -> Spent:
        """So many of these."""
        return Spent(factor * self.clock, factor * self.processor)

    def __str__(self) -> str:
        return f"{self.clock:10.1f} s {self.processor:10.1f} s"


@dataclass(frozen=True, slots=True)
class Times:
    """What each part took.

    Attributes:
        maps: of the service: all pages.
        search: of the service: all settings on these maps.
        network, words, scoring: of one setting by hand, all pages.
        equal: every count of the settings that were measured by hand.
    """

    settings: int
    pages: int
    measured: int
    maps: Spent
    search: Spent
    network: Spent
    words: Spent
    scoring: Spent
    equal: bool

    @property
    def service(self) -> Spent:
        return self.maps + self.search

    @property
    def by_hand(self) -> Spent:
        """Extrapolated to all settings."""
        return (self.network + self.words + self.scoring).times(self.settings)

    @property
    def cached(self) -> Spent:
        """The same with the network computed once."""
        return self.network + (self.words + self.scoring).times(self.settings)

    def __str__(self) -> str:
        by_hand, cached = (
            f"{slow.clock / self.service.clock:10.0f}   {slow.processor / self.service.processor:10.0f}"
            for slow in (self.by_hand, self.cached)
        )
        rows = [
            f"{self.settings} settings on {self.pages} pages, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            f"{'':24}     clock    processor",
            f"maps, once              {self.maps}",
            f"all settings            {self.search}",
            f"one by hand: network    {self.network}   mean of {self.measured} measured",
            f"  post-processing       {self.words}",
            f"  cleval                {self.scoring}",
            f"service                 {self.service}",
            f"by hand, extrapolated   {self.by_hand}   not run",
            f"cached maps, the same   {self.cached}   not run",
            f"ratio, by hand          {by_hand}",
            f"ratio, cached maps      {cached}",
        ]
        return "\n".join([*rows, f"equal: {'yes' if self.equal else 'NO'}, counts of {self.measured} settings"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settings", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images, train.json and val.json")
    parser.add_argument("--model", type=Path, help="a checkpoint folder; without it a small one is trained")
    parser.add_argument("--settings", type=int, default=2000, help="at least so many, a full grid")
    parser.add_argument("--pages", type=int, help="of val.json; all unless given")
    parser.add_argument("--measured", type=int, default=2, help="settings that are measured by hand")
    arguments = parser.parse_args()
    pages = read_annotations(arguments.data / "val.json", arguments.data / "images").pages[: arguments.pages]
    with tempfile.TemporaryDirectory(prefix="settings-") as folder:
        model = arguments.model or trained(arguments.data, Path(folder) / "model")
        times = compare(model, pages, rules_of(arguments.settings), arguments.measured, Path(folder) / "workspace")
    print(times)
    return 0 if times.equal else 1


def rules_of(least: int) -> tuple[Postprocess, ...]:
    """A grid of at least so many settings, as many values for each of three knobs."""
    side = int(np.ceil(round(least ** (1 / 3), 6)))
    return tuple(
        Postprocess(thresh=float(thresh), box_thresh=float(box), unclip_ratio=float(unclip))
        for thresh, box, unclip in product(
            np.linspace(0.15, 0.5, side), np.linspace(0.3, 0.75, side), np.linspace(1.2, 2.4, side)
        )
    )


def trained(data: Path, folder: Path) -> Path:
    """A small network that has learned enough for its maps to look like maps."""
    from detector.fit import Runtime, fit

    train, val = (read_annotations(data / f"{name}.json", data / "images").pages for name in ("train", "val"))
    config = Config(
        encoder="mobilenetv3_small_050",
        encoder_weights="none",
        inner_channels=32,
        output_channels=8,
        image_size=SIDE_PX,
        max_epochs=EPOCHS,
        batch_size=4,
    )
    return Path(fit(config, train, val[:2], Runtime(folder)).checkpoint)


def compare(model: Path, pages: Sequence[Page], rules: Sequence[Postprocess], measured: int, workspace: Path) -> Times:
    """Time both ways.

    Args:
        workspace: a folder to be made, for the service's maps.
    """
    from benchmarks.peers import published_cleval, rapidocr
    from detector.inference.predict import load_network, map_of, words_of_page
    from orchestrator.evaluation.maps import ensure_maps
    from orchestrator.evaluation.packing import MeanMaps
    from orchestrator.evaluation.thresholds import search

    stores, maps_s = timed(lambda: ensure_maps([model], pages, workspace))
    maps = MeanMaps(stores)
    search(maps, pages[:1], rules[:2], VARIANT)  # kernels are loaded; by hand their like is loaded, too
    table, search_s = timed(lambda: search(maps, pages, rules, VARIANT))

    network, config = load_network(model, None)
    map_of(network, read_image(pages[0].path), config.image_size)
    rapidocr.postprocessor(maps(pages[0].name).prob_HW / np.float32(255), rules[0])()

    def predicted() -> list[PageMap]:
        return [map_of(network, read_image(page.path), config.image_size) for page in pages]

    def quads_of(found: Sequence[PageMap], rule: Postprocess) -> list[list[Float64]]:
        each = [(one, rapidocr.postprocessor(one.prob_HW / np.float32(255), rule)()) for one in found]
        return [list(one.frame.to_image(np.asarray(quads, np.float64)).reshape(-1, 4, 2)) for one, quads in each]

    def scored(words: Sequence[Sequence[Float64]]) -> list[Counts]:
        return [published_cleval.counts(page.words, quads) for page, quads in zip(pages, words, strict=True)]

    drawn = np.linspace(0, len(rules) - 1, measured + 2).astype(int)[1:-1].tolist()
    spent: list[tuple[Spent, Spent, Spent]] = []
    equal = True
    for index in drawn:
        found, network_s = timed(predicted)
        words, words_s = timed(partial(quads_of, found, rules[index]))
        _, scoring_s = timed(partial(scored, words))
        spent.append((network_s, words_s, scoring_s))
        ours = [words_of_page(page_map, rules[index]).polygons for page_map in found]
        equal = equal and tuple(scored(ours)) == table.scores(index).counts
    parts = [
        Spent(statistics.mean(e.clock for e in each), statistics.mean(e.processor for e in each))
        for each in zip(*spent, strict=True)
    ]
    maps_s = Spent(maps_s.clock, parts[0].processor)  # its processes are Ray's
    return Times(len(rules), len(pages), len(drawn), maps_s, search_s, parts[0], parts[1], parts[2], equal)


def timed(work: Callable[[], Result]) -> tuple[Result, Spent]:
    """What some work returns, and what it took."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    found = work()
    return found, Spent(time.perf_counter() - began_s, time.process_time() - began_cpu_s)


if __name__ == "__main__":
    sys.exit(main())
