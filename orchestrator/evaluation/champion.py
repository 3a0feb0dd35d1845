"""The one model of a roadmap that goes out of the door, and why.

    <workspace>/champion.json      {"format": 1, "path", "kind", "name", "score", "why", ...}; `path` is relative to
                                   the workspace, so that a workspace can be moved
    <workspace>/singles/<digest>/  a bundle of the best single model with the rule that was found for it

Recommended ensembles compete with the best single model by H on the common validation images, cross-fitted; an ensemble
that is not recommended never wins, nor does one that was held against another model (views of that one; or a better
single model came later) unless it is surely better than the best one, too. The single model ships with the rule that
was searched for it if that scored better, cross-fitted, than its own. A champion that another plan of the same roadmap
crowned on the same images stays while its score is higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from detector.config import Postprocess
from detector.files import read_json, write_json
from detector.inference.bundle import save_bundle
from orchestrator.evaluation.maps import IDENTITY, digest_of
from orchestrator.evaluation.scores import Board, ImageScores, study_trials, validation_pages, variant_of
from orchestrator.evaluation.statistics import paired_bootstrap
from orchestrator.evaluation.tuned import Tuned
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Study, Trial

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Champion:
    """The content of champion.json.

    Attributes:
        path: a bundle folder, relative to the workspace.
        name: of the ensemble or the trial, as people know it.
        hmean, precision, recall: macro means on the common validation images, cross-fitted where thresholds were
            searched.
        why: one sentence.
        images: digest of the validation images and the variant: only champions on the same can be compared.
        plan: the plan file that crowned it.
    """

    path: str
    kind: Literal["ensemble", "single"]
    name: str
    hmean: float
    precision: float
    recall: float
    why: str
    images: str
    plan: str


def crown(study: Study, ledger: Ledger, board: Board, results: Sequence[Tuned]) -> Champion | None:
    """Choose the champion, write its bundle and pointer; None while no trial has finished."""
    best = board.ranked(study_trials(study))[:1]
    if not best:
        return None
    single, scores = _single(best[0], study, ledger, board, results)
    ensemble = _ensemble(study, ledger, results, best[0], scores)
    champion = ensemble if ensemble is not None and ensemble.hmean >= single.hmean else single
    old = read_champion(ledger.workspace)
    if (
        old is not None
        and (old.images == champion.images and old.plan != champion.plan and old.hmean > champion.hmean)
        and (ledger.workspace / old.path).is_dir()
    ):
        return old
    if old != champion:
        write_json(ledger.workspace / "champion.json", {"format": FORMAT, **asdict(champion)})
    return champion


def read_champion(workspace: Path) -> Champion | None:
    """The champion of a workspace, if there is one of this format."""
    path = workspace / "champion.json"
    if not path.exists():
        return None
    value = read_json(path)
    if value.pop("format", None) != FORMAT:
        return None
    return Champion(**value)


def _ensemble(
    study: Study, ledger: Ledger, results: Sequence[Tuned], best: Trial, scores: ImageScores
) -> Champion | None:
    """The best ensemble that is surely better than the best single model, whose scores these are."""

    def surely(result: Tuned) -> bool:
        if result.kind != "ensemble" or not result.recommended or result.reference.trial == best.digest:
            return result.kind == "ensemble" and result.recommended
        return paired_bootstrap(result.crossfitted.stat_N("hmean"), scores.stat_N("hmean")).above_zero

    recommended = [result for result in results if surely(result)]
    if not recommended:
        return None
    winner = max(recommended, key=lambda result: result.crossfitted.mean("hmean"))
    one = winner.members[0].name if winner.members[0].soup else f"views {', '.join(winner.views)}"
    what = f"{len(winner.members)} members" if len(winner.members) > 1 else one
    rival = winner.rival if winner.alone else f"the best single model {winner.rival}"
    why = f"{what}; H, cross-fitted, against {rival}: {winner.gain} on {winner.gain.count} images"
    path = winner.folder.relative_to(ledger.workspace).as_posix()
    return _champion(path, "ensemble", winner.name, winner.crossfitted, why, study)


def _single(
    trial: Trial, study: Study, ledger: Ledger, board: Board, results: Sequence[Tuned]
) -> tuple[Champion, ImageScores]:
    own = board.scores[trial.digest]
    rule, scores, why = trial.config.postprocess, own, "the best single model, under its own rule"
    for found_rule, found in _searched(trial, results):
        if found.mean("hmean") > scores.mean("hmean"):
            rule, scores, why = found_rule, found, "the best single model, under the rule that was searched for it"
    ensembles = [result for result in results if result.kind == "ensemble"]
    if ensembles:
        closest = max(ensembles, key=lambda result: result.gain.mean)
        why += f"; no ensemble is surely better (closest: {closest.name}, {closest.gain})"
    folder = _write_single(trial, rule, ledger)
    return _champion(folder.relative_to(ledger.workspace).as_posix(), "single", trial.name, scores, why, study), scores


def _searched(trial: Trial, results: Sequence[Tuned]) -> list[tuple[Postprocess, ImageScores]]:
    """Rules that a search found for this trial, with their cross-fitted scores."""
    found = []
    for result in results:
        reference = result.reference
        if reference.trial == trial.digest and reference.rule is not None and reference.crossfitted is not None:
            found.append((reference.rule, reference.crossfitted))
        if result.kind == "thresholds" and result.members[0].trial == trial.digest:
            found.append((result.rule, result.crossfitted))
    return found


def _write_single(trial: Trial, rule: Postprocess, ledger: Ledger) -> Path:
    folder = ledger.workspace / "singles" / trial.digest
    bundle = folder / "bundle.json"
    if not bundle.exists() or Postprocess.model_validate(read_json(bundle)["postprocess"]) != rule:
        save_bundle(folder, [(ledger.checkpoint(trial.digest), 1.0)], IDENTITY, rule)
    return folder


def _champion(
    path: str, kind: Literal["ensemble", "single"], name: str, scores: ImageScores, why: str, study: Study
) -> Champion:
    summary = scores.summary()
    images = f"{digest_of(validation_pages(study))}-{variant_of(study)}"
    plan = study.plan_path.name
    return Champion(path, kind, name, summary["hmean"], summary["precision"], summary["recall"], why, images, plan)
