"""Trainings that are one and the same although their settings differ, and settings that change nothing.

Digests refuse equal settings. Beyond them, a setting may be read only beside another (`shrink_ratio` by `unclip:
inverse`), may never come into play (`patience` longer than the training), or may come to the same (a warm-up of so many
steps). With equal seeds and pages such trainings see the same images in the same order and end with the same bits.

Trainings that differ in post-processing or patience alone are others, since these decide which epoch is kept; but they
train the same network epoch for epoch, which is worth a warning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.config import Config
from detector.training.schedule import steps_per_epoch
from orchestrator.plan.settings import flat
from orchestrator.plan.study import Trial
from orchestrator.plan.tree import Loc

KEEPING = ("postprocess.", "patience", "patience_from", "min_delta", "metric.", "keep_epochs")  # decides what is kept
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Idle:
    """A setting that another one keeps from having an effect, and how to say so."""

    key: str
    holds: Callable[[Config], bool]
    why: str


def _never_strikes(config: Config) -> bool:
    # The first epoch is always a best one, and the last ends the training anyway.
    return max(config.patience + 1, config.patience_from) > config.max_epochs - 1


IDLE = (
    Idle("postprocess.shrink_ratio", lambda c: c.postprocess.unclip == "ratio", "only `unclip: inverse` reads it"),
    Idle("postprocess.unclip_ratio", lambda c: c.postprocess.unclip == "inverse", "only `unclip: ratio` reads it"),
    Idle("postprocess.epsilon", lambda c: c.postprocess.shape == "quad", "only `shape: polygon` reads it"),
    Idle("schedule.final_ratio", lambda c: c.schedule.name == "constant", "only `name: cosine` reads it"),
    Idle("loss.negative_ratio", lambda c: c.loss.prob == 0.0, "`loss.prob` is 0"),
    Idle("loss.k", lambda c: c.loss.binary == 0.0, "`loss.binary` is 0"),
    Idle("targets.thresh_min", lambda c: c.loss.thresh == 0.0, "`loss.thresh` is 0"),
    Idle("targets.thresh_max", lambda c: c.loss.thresh == 0.0, "`loss.thresh` is 0"),
    Idle("patience", _never_strikes, "it can never strike within max_epochs"),
    Idle("patience_from", lambda c: not c.patience or _never_strikes(c), "patience never strikes"),
    Idle("patience_from", lambda c: c.patience_from <= c.patience + 1, "patience strikes no earlier anyway"),
    Idle("min_delta", lambda c: c.max_epochs == 1, "one epoch is always the best"),
    Idle("keep_epochs", lambda c: c.max_epochs == 1, "one epoch makes no soup"),
    Idle("crop_size", lambda c: c.crop_size == c.image_size, "whole pages have this side already"),
)
_DEFAULTS: Mapping[str, Any] = flat(Config().model_dump(mode="json"))


def idle(config: Config) -> dict[str, str]:
    """Dotted settings that change nothing in this training, each with why."""
    return {rule.key: rule.why for rule in IDLE if rule.holds(config)}


def effective(trial: Trial, pages: int | None) -> dict[str, Any]:
    """What a training is made of: flat settings, with one value for all that come to the same.

    Args:
        pages: that it learns from; None where they are not known.
    """
    config = trial.config
    values = flat(config.model_dump(mode="json")) | {"workers": trial.workers, "fold": trial.fold}
    values |= {key: _DEFAULTS[key] for key in idle(config)}
    if config.schedule.final_ratio == 1.0:
        values |= {"schedule.name": "constant", "schedule.final_ratio": _DEFAULTS["schedule.final_ratio"]}
    if config.encoder_weights not in ("hub", "none") and not config.encoder_weights.startswith("package:"):
        values["encoder_weights"] = str(Path(config.encoder_weights).expanduser().resolve())
    if pages is not None:
        batches, steps = steps_per_epoch(pages, config.batch_size, trial.workers, config.accumulate)
        values["accumulate"] = min(config.accumulate, batches)  # a group ends with its epoch
        most = config.max_epochs * steps // 2
        values["schedule.warmup_epochs"] = ["steps", min(round(config.schedule.warmup_epochs * steps), most)]
    return values


def twins(made: Sequence[tuple[Trial, Loc]], pages: Mapping[str, int]) -> Iterator[tuple[Loc, str]]:
    """Trainings that are another's under other settings: where they stand, and what to say.

    Args:
        made: trials whose digests differ, or are told elsewhere.
        pages: digest -> pages that it learns from, where they are known.
    """
    for loc, twin, trial, more in _pairs(made, lambda trial: effective(trial, pages.get(trial.digest))):
        reasons = {**idle(twin.config), **idle(trial.config)}
        parts = [f"{key} ({reasons[key]})" if key in reasons else key for key in _apart(twin, trial)]
        text = f"{trial.name} is the same training as {twin.name}{more}: they differ in {', '.join(_few(parts))} alone"
        yield loc, f"{text}, which changes nothing here; change a setting that does, or remove one"


def same_networks(made: Sequence[tuple[Trial, Loc]], pages: Mapping[str, int]) -> Iterator[tuple[Loc, str]]:
    """Experiments whose trainings make a network that another makes as well, epoch for epoch."""

    def network(trial: Trial) -> dict[str, Any]:
        values = effective(trial, pages.get(trial.digest))
        return {key: value for key, value in values.items() if not key.startswith(KEEPING)}

    for loc, twin, trial, more in _pairs(made, network):
        text = f"{trial.name} trains the same network as {twin.name}, epoch for epoch{more}"
        keys = ", ".join(_few(_apart(twin, trial)))
        yield (
            loc,
            f"{text}: {keys} decides which epoch is kept, no more; an experiment with `thresholds` searches "
            "post-processing without training",
        )


def without_effect(made: Sequence[tuple[Trial, Loc]]) -> Iterator[tuple[Loc, str]]:
    """Settings that an experiment gives, and that change nothing in any of its trainings that has them."""
    reasons: dict[tuple[Loc, str], set[str]] = {}
    working: set[tuple[Loc, str]] = set()
    for trial, loc in made:
        unread = idle(trial.config)
        for key, value in trial.settings.items():
            if key not in unread:
                working.add((loc, key))
            elif value != _DEFAULTS.get(key):
                reasons.setdefault((loc, key), set()).add(unread[key])
    for (loc, key), why in reasons.items():
        if (loc, key) not in working:
            yield (*loc, "set", *key.split(".")), f"`{key}` changes nothing here: {', '.join(sorted(why))}"


def _pairs(
    made: Sequence[tuple[Trial, Loc]], values: Callable[[Trial], Mapping[str, Any]]
) -> Iterator[tuple[Loc, Trial, Trial, str]]:
    """For each place the first trial whose values an earlier one has, that one, and how many more there are."""
    first: dict[str, Trial] = {}
    found: dict[Loc, list[tuple[Trial, Trial]]] = {}
    for trial, loc in made:
        twin = first.setdefault(json.dumps(values(trial), sort_keys=True), trial)
        if twin.digest != trial.digest:
            found.setdefault(loc, []).append((twin, trial))
    for loc, pairs in found.items():
        yield loc, *pairs[0], f" (and {len(pairs) - 1} more like it)" if len(pairs) > 1 else ""


def _apart(one: Trial, other: Trial) -> list[str]:
    """The settings in which two trainings differ."""
    a, b = (flat(trial.config.model_dump(mode="json")) | {"workers": trial.workers} for trial in (one, other))
    return [key for key in a if a[key] != b[key]]


def _few(keys: Sequence[str]) -> list[str]:
    return [*keys[:SHOWN], *([f"{len(keys) - SHOWN} more"] if len(keys) > SHOWN else [])]
