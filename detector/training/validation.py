"""Scores of a model on the validation pages, each page exactly once however many ranks share the work."""

from __future__ import annotations

from collections.abc import Sequence

from detector.config import Config
from detector.data.formats import read_image
from detector.inference.predict import page_map, words_of_page
from detector.metrics.cleval import Counts, GroundTruth, cleval, ground_truth, macro, micro
from detector.metrics.iou import IouCounts, iou, iou_score
from detector.model.detector import Detector
from detector.training.world import World
from detector.types import Page

PageCounts = tuple[int, Counts, IouCounts]


KEPT_WORDS = 20_000  # words whose prepared truth is kept: 5 kB each at most, for pages of any number


class Validator:
    """Scores checkpoints on one set of pages; ground truth is prepared once for as many as `KEPT_WORDS` allows."""

    def __init__(self, pages: Sequence[Page], config: Config, world: World) -> None:
        self._config = config
        self._world = world
        self._pages = pages
        self._truths: dict[int, GroundTruth] = {}
        self._room = KEPT_WORDS

    def metrics(self, model: Detector) -> dict[str, float]:
        """`hmean`, `precision` and `recall` as the config aggregates them; `micro_*` and `iou_*` beside them.

        The counts of all ranks are gathered by page and summed in page order, so the figures are those of one process.
        """
        rows = self._world.gather(self._score_mine(model))
        rows.sort(key=lambda row: row[0])
        if [index for index, _, _ in rows] != list(range(len(self._pages))):
            raise AssertionError("every validation page must be scored exactly once")  # a bug here, never the user's
        counts = [row[1] for row in rows]
        summed, mean = micro(counts), macro(counts)
        chosen = mean if self._config.metric.aggregate == "macro" else summed
        overlap = iou_score([row[2] for row in rows])
        return {
            "hmean": chosen.hmean,
            "precision": chosen.precision,
            "recall": chosen.recall,
            "micro_hmean": summed.hmean,
            "micro_precision": summed.precision,
            "micro_recall": summed.recall,
            "iou_hmean": overlap.hmean,
            "iou_precision": overlap.precision,
            "iou_recall": overlap.recall,
        }

    def _score_mine(self, model: Detector) -> list[PageCounts]:
        rule = self._config.postprocess
        rows: list[PageCounts] = []
        for index in self._world.share(len(self._pages)):
            page = self._pages[index]
            found = words_of_page(page_map(model, self._config, read_image(page.path)), rule)
            counts = cleval(self._truth(index, page), found.polygons, self._config.metric.variant)
            rows.append((index, counts, iou(page.words, found.polygons)))
        return rows

    def _truth(self, index: int, page: Page) -> GroundTruth:
        truth = self._truths.get(index)
        if truth is None:
            truth = ground_truth(page.words, self._config.metric.variant)
            if len(page.words) <= self._room:
                self._room -= len(page.words)
                self._truths[index] = truth
        return truth
