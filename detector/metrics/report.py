"""Scores of a set of images against its ground truth, as values and as the JSON of the `score` command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detector.errors import DataError
from detector.metrics.cleval import Counts, Score, Variant, cleval, macro, micro
from detector.metrics.iou import IouCounts, iou, iou_score
from detector.types import Float64, Word

NAMED = 5  # files that a message names before it counts the rest


@dataclass(frozen=True, slots=True)
class SetScore:
    """CLEval and IoU of a set.

    Attributes:
        variant: of CLEval.
        macro: mean over images of recall, precision and hmean (what the leaderboard shows).
        micro: score of the summed counts.
        iou: score of the summed IoU counts.
        counts, iou_counts: of each image, by file name, in the ground truth's order.
    """

    variant: Variant
    macro: Score
    micro: Score
    iou: Score
    counts: dict[str, Counts]
    iou_counts: dict[str, IouCounts]

    def as_json(self) -> dict[str, Any]:
        """variant, macro, micro, iou, and under `images` each file's recall, precision, hmean, counts and iou."""
        return {
            "variant": self.variant,
            "macro": asdict(self.macro),
            "micro": asdict(self.micro),
            "iou": asdict(self.iou),
            "images": {
                name: {
                    **asdict(counts.score),
                    **asdict(counts),
                    "iou": _iou_json(self.iou_counts[name]),
                }
                for name, counts in self.counts.items()
            },
        }


def score_set(
    pages: Mapping[str, Sequence[Word]],
    predictions: Mapping[str, Sequence[Float64]],
    variant: Variant = "competition",
    *,
    source: str = "predictions",
) -> SetScore:
    """Scores each page of the ground truth with its predictions.

    Args:
        pages: words by file name.
        predictions: polygons by file name; an image without detections has an empty sequence.
        source: what an error calls the predictions.

    Raises:
        DataError: the two do not hold the same files, or there are none.
    """
    if not pages:
        raise DataError("the ground truth lists no images, so there is nothing to score; check the annotation file")
    _require(
        [name for name in pages if name not in predictions],
        source,
        "no predictions for",
        "every image needs an entry, an empty one if nothing was found",
    )
    _require(
        [name for name in predictions if name not in pages],
        source,
        "the ground truth does not list",
        "score against the annotations of this set, or remove the entries",
    )
    counts = {name: cleval(words, predictions[name], variant) for name, words in pages.items()}
    iou_counts = {name: iou(words, predictions[name]) for name, words in pages.items()}
    return SetScore(
        variant, macro(counts.values()), micro(counts.values()), iou_score(iou_counts.values()), counts, iou_counts
    )


def score_files(predictions: Path, annotations: Path, variant: Variant = "competition") -> SetScore:
    """Scores a submission CSV or an annotations-shaped JSON against an annotation file; no images are read.

    Raises:
        DataError: a file cannot be read, or the two do not hold the same images.
    """
    from detector.data.formats import read_predictions, read_words  # the only two names of `data` that scoring needs

    return score_set(read_words(annotations), read_predictions(predictions), variant, source=str(predictions))


def _require(wrong: Sequence[str], source: str, rule: str, remedy: str) -> None:
    if wrong:
        more = f" ({len(wrong) - NAMED} more)" if len(wrong) > NAMED else ""
        raise DataError(f"{source}: {rule} {', '.join(wrong[:NAMED])}{more}; {remedy}")


def _iou_json(counts: IouCounts) -> dict[str, float]:
    return {"recall": counts.recall, "precision": counts.precision, "hmean": counts.hmean, **asdict(counts)}
