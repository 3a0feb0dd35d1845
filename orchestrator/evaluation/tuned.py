"""What an experiment without training found out: values, kept in the workspace as JSON, and told as numbers.

    <workspace>/(thresholds|ensembles)/<phase>-<experiment>/scores.json     a `Tuned`, and a key of its inputs

A saved result with the same key is taken as it is, so that a finished plan is read, not computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from detector.config import Postprocess
from detector.errors import DataError
from detector.files import read_json, write_json
from orchestrator.evaluation.anatomy import Anatomy
from orchestrator.evaluation.scores import STATS, ImageScores
from orchestrator.evaluation.sensitivity import Knob
from orchestrator.evaluation.statistics import Interval

FORMAT: Final = 2
_KNOBS: Final[TypeAdapter[tuple[Knob, ...]]] = TypeAdapter(tuple[Knob, ...])
_ANATOMY: Final[TypeAdapter[Anatomy | None]] = TypeAdapter(Anatomy | None)


@dataclass(frozen=True, slots=True)
class Member:
    """One model of a result: `trial` is its digest, `weight` its share of the fused map.

    `soup`: the soup of the trial's best epochs, not its best checkpoint.
    """

    trial: str
    name: str
    weight: float
    soup: bool = False

    def as_json(self) -> dict[str, Any]:
        plain = {"trial": self.trial, "name": self.name, "weight": self.weight}
        return plain | {"soup": True} if self.soup else plain


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """Members, views and a rule, with what they are worth against a reference on the same images.

    Attributes:
        kind: `thresholds` compares a model with itself under its own rule; `ensemble` compares with the best single
            model (of a pool of one: with it, without views), whose rule is searched in the same way.
        rule: chosen on all images; this one ships.
        searched, flat: rules in the search, and those within one standard error of the best.
        shown: scores of `rule` on the images it was chosen on (optimistic).
        crossfitted: each image under what the others chose (honest); all comparisons use these.
        reference: name, own rule's scores and (for an ensemble) its tuned and cross-fitted ones.
        gain: of the mean H, cross-fitted, against the reference.
        recommended: the gain's interval lies above 0.
        curve: best mean H for each `thresh` (on all images).
        folder: where the result lies; an ensemble's bundle and submission, too.
        knobs: what each knob of the post-processing does on all images.
        anatomy: of an ensemble: what its steps, views and members are worth; None for `thresholds`.
        outoffold: of a search on the training images of folds: each image under what the other folds chose; `shown` is
            then of those images, too, and `crossfitted` of the validation images under `rule`.
    """

    kind: Literal["thresholds", "ensemble"]
    phase: str
    experiment: str
    members: tuple[Member, ...]
    views: tuple[str, ...]
    rule: Postprocess
    searched: int
    flat: int
    shown: ImageScores
    crossfitted: ImageScores
    reference: Reference
    gain: Interval
    recommended: bool
    curve: tuple[tuple[float, float], ...]
    folder: Path
    knobs: tuple[Knob, ...] = ()
    anatomy: Anatomy | None = None
    outoffold: ImageScores | None = None

    @property
    def fusion(self) -> str:
        """How the members' maps become one."""
        return self.anatomy.fusion if self.anatomy else "mean"

    @property
    def name(self) -> str:
        return f"{self.phase}/{self.experiment}"

    @property
    def alone(self) -> bool:
        """Whether it is one model's views, held against that model without them."""
        found = [(member.trial, member.soup) for member in self.members]
        return self.kind == "ensemble" and found == [(self.reference.trial, False)]

    @property
    def rival(self) -> str:
        """What it is held against, for people."""
        return f"{self.reference.name} without views" if self.alone else self.reference.name

    @property
    def submission(self) -> Path | None:
        """The submission file, where one was written."""
        path = self.folder / "submission.csv"
        return path if path.exists() else None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values, sums first, images last."""
        return {
            "kind": self.kind,
            "phase": self.phase,
            "experiment": self.experiment,
            "members": [member.as_json() for member in self.members],
            "views": list(self.views),
            "rule": self.rule.model_dump(mode="json"),
            "searched": self.searched,
            "flat": self.flat,
            "summary": {"shown": self.shown.summary(), "crossfitted": self.crossfitted.summary()},
            "gain": self.gain.as_json(),
            "recommended": self.recommended,
            "reference": self.reference.as_json(),
            "curve": [list(point) for point in self.curve],
            "knobs": _KNOBS.dump_python(self.knobs, mode="json"),
            "anatomy": _ANATOMY.dump_python(self.anatomy, mode="json"),
            "images": {
                "shown": self.shown.as_json(),
                "crossfitted": self.crossfitted.as_json(),
                "outoffold": self.outoffold.as_json() if self.outoffold else None,
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], folder: Path) -> Tuned:
        gain = value["gain"]
        return cls(
            value["kind"],
            value["phase"],
            value["experiment"],
            tuple(Member(**member) for member in value["members"]),
            tuple(value["views"]),
            Postprocess.model_validate(value["rule"]),
            value["searched"],
            value["flat"],
            ImageScores.from_json(value["images"]["shown"]),
            ImageScores.from_json(value["images"]["crossfitted"]),
            Reference.from_json(value["reference"]),
            Interval(gain["mean"], gain["low"], gain["high"], gain["level"], gain["images"]),
            value["recommended"],
            tuple((thresh, hmean) for thresh, hmean in value["curve"]),
            folder,
            _KNOBS.validate_python(value["knobs"]),
            _ANATOMY.validate_python(value["anatomy"]),
            ImageScores.from_json(found) if (found := value["images"].get("outoffold")) else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The single model that a result is held against.

    Attributes:
        trial, name: whose it is.
        own: under the rule of its own config.
        rule: found by the same search as the result's; None for `thresholds`, whose result it is.
        crossfitted: of that search.
    """

    trial: str
    name: str
    own: ImageScores
    rule: Postprocess | None = None
    crossfitted: ImageScores | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "name": self.name,
            "rule": self.rule.model_dump(mode="json") if self.rule else None,
            "summary": {
                "own": self.own.summary(),
                "crossfitted": self.crossfitted.summary() if self.crossfitted else None,
            },
            "images": {
                "own": self.own.as_json(),
                "crossfitted": self.crossfitted.as_json() if self.crossfitted else None,
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reference:
        images = value["images"]
        return cls(
            value["trial"],
            value["name"],
            ImageScores.from_json(images["own"]),
            Postprocess.model_validate(value["rule"]) if value["rule"] else None,
            ImageScores.from_json(images["crossfitted"]) if images["crossfitted"] else None,
        )


def load_tuned(folder: Path, key: str) -> Tuned | None:
    """A saved result, if it was made from the same things."""
    path = folder / "scores.json"
    if not path.exists():
        return None
    value = read_json(path)
    try:
        return Tuned.from_json(value, folder) if value["key"] == key else None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a saved result ({error}); remove the file, it will be made anew") from error


def save_tuned(tuned: Tuned, key: str) -> None:
    """Write a result; last of all, since its presence means that the rest of its folder is complete."""
    write_json(tuned.folder / "scores.json", {"format": FORMAT, "key": key, **tuned.as_json()}, indent=None)


def metrics_of(tuned: Tuned) -> dict[str, float]:
    """Flat numbers of a result, for tracking."""
    found: dict[str, float] = {stat: tuned.crossfitted.mean(stat) for stat in STATS}
    found |= {f"shown_{stat}": tuned.shown.mean(stat) for stat in STATS}
    reference = tuned.reference.crossfitted or tuned.reference.own
    found |= {f"reference_{stat}": reference.mean(stat) for stat in STATS}
    if tuned.outoffold is not None:
        found |= {f"oof_{stat}": tuned.outoffold.mean(stat) for stat in STATS}
    found |= _ends("gain", tuned.gain)
    found |= {"recommended": float(tuned.recommended), "members": float(len(tuned.members))}
    found |= {f"moves/{knob.name}": knob.loss.mean for knob in tuned.knobs if knob.loss is not None}
    if tuned.anatomy is None:
        return found
    for rung in tuned.anatomy.rungs:
        found |= {f"steps/{rung.name}": rung.hmean} | _ends(f"steps/{rung.name} gain", rung.gain)
    for view in tuned.anatomy.views:
        found |= _ends(f"views/{view.view}", view.gain) | _cost(f"views/{view.view}", view.ms)
    for number, member in enumerate(tuned.anatomy.members):
        found |= _ends(f"without_member/{number}", member.gain) | _cost(f"without_member/{number}", member.ms)
    return found


def _ends(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _cost(name: str, ms: float | None) -> dict[str, float]:
    return {} if ms is None else {f"{name}_ms": ms}
