"""What an experiment without training found out, kept in the workspace; and the search of thresholds for one model.

    <workspace>/(thresholds|ensembles)/<phase>-<experiment>/scores.json     a `Tuned`, and a key of its inputs

Where all folds of one model are there (`thresholds: {of: kfold}`), rules are searched on the out-of-fold maps of the
training images: many more than a validation set has, and no model learned from them. The threshold for fold f comes
from the others, what ships is chosen on all, and the validation images, which took no part, say what it is worth.

A saved result with the same key is taken as it is, so that a finished plan is read, not computed again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from detector.config import Postprocess
from detector.errors import DataError
from detector.files import read_json, write_json
from orchestrator.evaluation.anatomy import Anatomy
from orchestrator.evaluation.blends import Progress
from orchestrator.evaluation.maps import digest_of, ensure_maps
from orchestrator.evaluation.outoffold import FoldResult, fold_results, fold_table
from orchestrator.evaluation.scores import (
    STATS,
    Board,
    ImageScores,
    experiment_named,
    top,
    validation_pages,
    variant_of,
)
from orchestrator.evaluation.sensitivity import Knob, sensitivity
from orchestrator.evaluation.statistics import Interval, paired_bootstrap
from orchestrator.evaluation.thresholds import Table, choose, search
from orchestrator.ledger import Ledger
from orchestrator.plan.study import EnsembleSpec, Experiment, Study, ThresholdSearch, Top, Trial

FORMAT: Final = 2
_KNOBS: Final[TypeAdapter[tuple[Knob, ...]]] = TypeAdapter(tuple[Knob, ...])
_ANATOMY: Final[TypeAdapter[Anatomy | None]] = TypeAdapter(Anatomy | None)


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told on the way of (done, in all): of `maps` computed, and of `pages` scored in a stage of a search."""

    maps: Progress | None = None
    pages: Progress | None = None


SILENT: Final = Told()


@dataclass(frozen=True, slots=True)
class Member:
    """One model of a result: `trial` is its digest, `weight` its share of the fused map."""

    trial: str
    name: str
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """Members, views and a rule, with what they are worth against a reference on the same images.

    Attributes:
        kind: `thresholds` compares a model with itself under its own rule; `ensemble` compares with the best single
            model of the pool, whose rule is searched in the same way.
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
            "members": [{"trial": m.trial, "name": m.name, "weight": m.weight} for m in self.members],
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


def tune(
    experiment: Experiment,
    study: Study,
    ledger: Ledger,
    board: Board,
    *,
    compute: bool = True,
    told: Told = SILENT,
) -> Tuned | None:
    """Search the rules of a `thresholds:` experiment for the best trial of its source.

    Args:
        compute: False reads a saved result only.
        told: what is told on the way.

    Returns:
        None where the source has no finished trial, or nothing is saved and `compute` is False.
    """
    spec = experiment.thresholds
    if spec is None:
        raise ValueError(f"{experiment.phase}.{experiment.id} is no search of thresholds")
    best = top(study, board, spec.of if isinstance(spec.of, Top) else (spec.of,), experiment.phase)[:1]
    if not best:
        return None
    folder = result_folder(ledger, experiment)
    folds = _folds_of(spec, study, ledger, board, experiment.phase)
    models = [trial for trials in folds.trials.values() for trial in trials] if folds is not None else []
    key = result_key(study, (*best, *models), spec)
    if (saved := load_tuned(folder, key)) or not compute:
        return saved
    trial, own = best[0], board.scores[best[0].digest]
    if folds is None:
        table = table_of(trial, spec.rules, study, ledger, told)
        choice = choose((table,))
        honest, outoffold = choice.crossfitted, None
    else:
        table, fold_N = fold_table(folds, spec.rules, study, ledger, on_maps=told.maps, on_pages=told.pages)
        choice = choose((table,), part_N=fold_N)
        honest, outoffold = table_of(trial, (choice.rule,), study, ledger, told).scores(0), choice.crossfitted
    gain = paired_bootstrap(honest.stat_N("hmean"), own.stat_N("hmean"))
    tuned = Tuned(
        "thresholds",
        experiment.phase,
        experiment.id,
        (Member(trial.digest, trial.name, 1.0),),
        ("identity",),
        choice.rule,
        len(spec.rules),
        choice.flat,
        choice.shown,
        honest,
        Reference(trial.digest, trial.name, own),
        gain,
        gain.above_zero,
        curve_of(table),
        folder,
        sensitivity(table, choice.rule),
        outoffold=outoffold,
    )
    save_tuned(tuned, key)
    return tuned


def _folds_of(spec: ThresholdSearch, study: Study, ledger: Ledger, board: Board, phase: str) -> FoldResult | None:
    """The one model over folds that `of` names, once each fold has one and they are scored out-of-fold."""
    source = None if isinstance(spec.of, Top) else experiment_named(study, spec.of, phase)
    found = fold_results(source, study, ledger, board, compute=False) if source is not None else ()
    return found[0] if len(found) == 1 and found[0].scores is not None else None


def table_of(trial: Trial, rules: Sequence[Postprocess], study: Study, ledger: Ledger, told: Told = SILENT) -> Table:
    """What every rule makes of one model's maps of the validation images."""
    pages = validation_pages(study)
    (store,) = ensure_maps([ledger.best(trial.digest)], pages, ledger.workspace, on_pages=told.maps)
    return search(store.map, pages, rules, variant_of(study), on_pages=told.pages)


def curve_of(table: Table) -> tuple[tuple[float, float], ...]:
    """The best mean H of each `thresh`: how much this knob matters at all."""
    best: dict[float, float] = {}
    for rule, hmean in zip(table.rules, table.hmean_RN.mean(axis=1), strict=True):
        best[rule.thresh] = max(best.get(rule.thresh, 0.0), float(hmean))
    return tuple(sorted(best.items()))


def result_folder(ledger: Ledger, experiment: Experiment) -> Path:
    """Where an experiment without training keeps its result."""
    home = "ensembles" if experiment.kind == "ensemble" else "thresholds"
    return ledger.workspace / home / f"{experiment.phase}-{experiment.id}"


def result_key(study: Study, pool: Sequence[Trial], spec: EnsembleSpec | ThresholdSearch) -> str:
    """A digest of all that a result depends on: models, images, rules and the other settings of its plan."""
    pages = validation_pages(study)
    test = study.datasets.test if study.datasets else ()
    settings: list[Any] = []
    if isinstance(spec, EnsembleSpec):
        settings = [list(spec.views), spec.max_members, spec.fusion, spec.weights]
    value = [
        FORMAT,
        [trial.digest for trial in pool],
        settings,
        [rule.model_dump(mode="json") for rule in spec.rules],
        [digest_of(pages), digest_of(test) if test else "", variant_of(study)],
    ]
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


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
