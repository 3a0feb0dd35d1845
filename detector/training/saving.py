"""The checkpoints of a training: of its best epoch, and of those that are kept for a soup. The first rank writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector import checkpoint
from detector.config import Config
from detector.data.word_counts import word_counts
from detector.model.detector import Detector
from detector.training.kept import Kept, place_of, with_epoch
from detector.training.micro import Micro
from detector.training.world import World
from detector.types import Page


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a training's checkpoints go, and what they say of it; `pages` are those that it learns from."""

    folder: Path
    config: Config
    pages: Sequence[Page]
    micro: Micro
    world: World

    @property
    def facts(self) -> dict[str, Any]:
        """What each of them says beside its epoch and metrics."""
        facts: dict[str, Any] = {"micro_batch": self.micro.images} if self.micro.halved else {}
        return facts | ({"train": counts.as_json()} if (counts := word_counts(self.pages)) else {})

    def save(self, place: str, model: Detector, number: int, scores: Mapping[str, float]) -> None:
        """The checkpoint of an epoch at a place in the folder."""
        if self.world.is_first:
            facts = {"epoch": number, "metrics": dict(scores), **self.facts}
            checkpoint.save(self.folder / place, model, self.config, facts)

    def keep(self, kept: Sequence[Kept], model: Detector, number: int, scores: Mapping[str, float]) -> tuple[Kept, ...]:
        """What is kept for a soup after an epoch; its weights are saved if it is among them."""
        after = with_epoch(kept, number, scores["hmean"], self.config.keep_epochs)
        for one in after:
            if one.epoch == number:
                self.save(place_of(one), model, number, scores)
        return after
