"""How much scores scatter over the validation images, from what the ledger has: what an `expect` can be held against.

The scatter of a difference of two models follows from that of one (`sd`) and their correlation over images (`rho`).
Both come from the per-image scores of finished trainings on the same pages, the best of them: what is compared in the
end are good models, and those that diverged scatter otherwise. Without two such trainings both are assumed.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np

from detector.errors import DataError
from detector.files import read_json
from detector.types import Float64
from orchestrator.evaluation.statistics import LEAST_IMAGES, detectable
from orchestrator.plan.advice import Smallest
from orchestrator.plan.study import Stat

STATS: Final[tuple[Stat, ...]] = ("hmean", "precision", "recall")
SCORES_FORMAT: Final = 2  # raise it when scoring changes, so that scores of old rules are not taken for new ones
SD, RHO = 0.03, 0.7  # of H over receipts; 413 of them then show .0032
BEST: Final = 8


@dataclass(frozen=True, slots=True)
class Scatter:
    """Of one statistic over images.

    Attributes:
        sd: standard deviation.
        rho: correlation of two models.
        trainings: that it was measured on; 0 where it is assumed.
    """

    sd: float
    rho: float
    trainings: int

    def smallest(self, images: int) -> Smallest:
        """The difference that so many images show 80 % of the time, and why."""
        source = f"measured on {self.trainings} trainings" if self.trainings else "assumed"
        why = f"scatter {self.sd:.4f} an image, correlation {self.rho:.2f}, {source}"
        return Smallest(detectable(self.sd, self.rho, images), why)


def scatter(folders: Iterable[Path], images: int, suffix: str) -> dict[Stat, Scatter]:
    """The scatter of each statistic.

    Args:
        folders: of the finished trainings on these pages.
        images: in the validation set.
        suffix: how the names of score files end: variant and format.
    """
    found = [path for folder in folders for path in sorted((folder / "scores").glob(f"val-*{suffix}.json"))]
    common = Count(path.name for path in found).most_common(1)
    tables = [table for path in found if path.name == common[0][0] if (table := _read(path, images)) is not None]
    return {stat: of_stats([table[stat] for table in tables], [table["hmean"] for table in tables]) for stat in STATS}


def of_stats(values: Sequence[Float64], hmeans: Sequence[Float64]) -> Scatter:
    """The pooled scatter of models that were scored on the same images; those with the best H of them."""
    order = sorted(range(len(values)), key=lambda index: -float(hmeans[index].mean()))[:BEST]
    kept = [values[index] for index in order]
    if len(kept) < 2 or len(kept[0]) < LEAST_IMAGES:
        return Scatter(SD, RHO, 0)
    variance = float(np.mean([np.var(one, ddof=1) for one in kept]))
    apart = float(np.mean([np.var(one - other, ddof=1) for one, other in combinations(kept, 2)]))
    if variance <= 0 or apart <= 0:  # equal models, or all images alike: that tells nothing of other ones
        return Scatter(SD, RHO, 0)
    return Scatter(variance**0.5, 1 - apart / (2 * variance), len(kept))


def _read(path: Path, images: int) -> dict[Stat, Float64] | None:
    from detector.metrics.cleval import Counts  # loads compiled loops, which a ledger without scores does not need

    try:
        counts = [Counts(**value) for value in read_json(path).values()]
    except (DataError, TypeError, AttributeError):
        return None
    if len(counts) != images:
        return None
    return {stat: np.array([getattr(count, stat) for count in counts], dtype=np.float64) for stat in STATS}
