"""What a model scores here, found in the workspace by its members, views, fusion and rule.

    on the validation images    cross-fitted where its rule was searched, else under its own rule: the common images,
                                which no training saw
    out-of-fold                 on the training images, each under the models that did not learn from it: of all folds
                                of one model averaged, and of a model whose rule was searched on the maps of its folds

An out-of-fold score is of many more images, and of models that learned from a little less; so both are kept. Neither
the plan nor its data is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from detector.checkpoint import META
from detector.config import Postprocess
from detector.files import read_json
from detector.inference.described import describe
from detector.training.kept import SOUP
from orchestrator.evaluation.outoffold import SAME, key_of
from orchestrator.evaluation.scores import SOUPS, ImageScores
from orchestrator.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Local:
    """A model's score on a set of images.

    Attributes:
        what: `cross-fitted`, or `own rule`.
        images: digest of the images' names: only scores on the same can be compared.
        hmean_N: of each image, in the order of their names; not kept of training images.
        count: how many images.
    """

    what: str
    hmean: float
    precision: float
    recall: float
    images: str
    hmean_N: tuple[float, ...]
    count: int = 0

    def summary(self) -> dict[str, Any]:
        """Plain values, without those of each image."""
        return {name: value for name, value in asdict(self).items() if name != "hmean_N"}

    def __str__(self) -> str:
        return f"{self.hmean:.4f} ({self.what})"


def local_of(workspace: Path, model: Mapping[str, Any]) -> Local | None:
    """What a model, as `Described.as_json` says it, scores on the common validation images; None if nobody knows."""
    ledger, wanted = Ledger.open(workspace), _wanted(model)
    for value in _results(workspace):
        for candidate, scores in _candidates(value, ledger):
            if candidate == wanted:
                return _local("cross-fitted", ImageScores.from_json(scores))
    members = [row["digest"] for row in model["members"]]
    return _own(ledger, members[0], wanted) if len(members) == 1 else None


def outoffold_of(workspace: Path, model: Mapping[str, Any]) -> Local | None:
    """What a model scores out-of-fold on the training images; None where it has no such score."""
    ledger, wanted = Ledger.open(workspace), _wanted(model)
    folds = _folds_of(ledger, model)
    for value in _results(workspace):
        found = value["images"].get("outoffold")
        if found is None:
            continue
        same_rule = Postprocess.model_validate(value["rule"]) == wanted["postprocess"]
        searched = same_rule and value["members"][0]["trial"] in chain.from_iterable(folds.values())
        if searched or next(_candidates(value, ledger), (None,))[0] == wanted:
            return _local("cross-fitted", ImageScores.from_json(found), each=False)
    scores = _under_own_rule(ledger, folds, wanted["postprocess"])
    return None if scores is None else _local("own rule", scores, each=False)


def same_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """What two models must share to differ in thresholds alone: members with their shares, views, fusion."""
    total = sum(row["weight"] for row in model["members"]) or 1.0
    shares = sorted((row["digest"], round(row["weight"] / total, 9)) for row in model["members"])
    return {"members": shares, "views": list(model["views"]), "fusion": model.get("fusion", "mean")}


def _wanted(model: Mapping[str, Any]) -> dict[str, Any]:
    return same_model(model) | {"postprocess": Postprocess.model_validate(model["postprocess"])}


# --- on the validation images ----------------------------------------------------------------------------------------


def _results(workspace: Path) -> Iterator[Mapping[str, Any]]:
    for path in sorted((*workspace.glob("ensembles/*/scores.json"), *workspace.glob("thresholds/*/scores.json"))):
        yield read_json(path)


def _candidates(value: Mapping[str, Any], ledger: Ledger) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    """The models whose cross-fitted scores stand in a result: its own, and the single one that it was held against."""
    fusion = (value.get("anatomy") or {}).get("fusion", "mean")
    found = [(value["members"], value["views"], fusion, value["rule"], value["images"]["crossfitted"])]
    reference = value["reference"]
    if reference["rule"] and reference["images"]["crossfitted"]:
        single = [{"trial": reference["trial"], "weight": 1.0}]
        found.append((single, ["identity"], "mean", reference["rule"], reference["images"]["crossfitted"]))
    for members, views, how, rule, scores in found:
        digests = [ledger.model(row["trial"], soup=row.get("soup", False)) for row in members]
        if all(digests):
            rows = [{"digest": d, "weight": row["weight"]} for d, row in zip(digests, members, strict=True)]
            one = len(rows) == 1
            model = same_model({"members": rows, "views": views, "fusion": "mean" if one else how})
            yield model | {"postprocess": Postprocess.model_validate(rule)}, scores


def _own(ledger: Ledger, checkpoint: str, wanted: Mapping[str, Any]) -> Local | None:
    """A single model's score under the rule of its own config."""
    for folder in sorted(ledger.workspace.glob("trials/*")):
        for name, key in (("best", "val-*"), (SOUP, f"{SOUPS}val-*")):
            if ledger.model(folder.name, soup=name == SOUP) != checkpoint:
                continue
            about = describe(folder / name)
            saved = sorted(folder.glob(f"scores/{key}.json"), key=lambda path: path.stat().st_mtime)
            if saved and same_model(about.as_json()) | {"postprocess": about.rule} == wanted:
                return _local("own rule", ImageScores.from_json(read_json(saved[-1])))
    return None


# --- out-of-fold -----------------------------------------------------------------------------------------------------


def _folds_of(ledger: Ledger, model: Mapping[str, Any]) -> dict[int, list[str]]:
    """Fold -> its trainings by seed, of a model that is the plain mean of all folds of one; empty for others."""
    digests = {str(row["digest"]) for row in model["members"]}
    plain = list(model["views"]) == ["identity"] and model.get("fusion", "mean") == "mean"
    if not plain or len({round(row["weight"], 9) for row in model["members"]}) > 1:
        return {}
    trials = {path.parent.name: read_json(path) for path in sorted(ledger.workspace.glob("trials/*/trial.json"))}
    mine = [trial for name, trial in trials.items() if _checkpoint(ledger, name) in digests]
    kinds = {repr(_kind(trial)) for trial in mine}
    if len(mine) != len(digests) or len(kinds) != 1:
        return {}
    every = {trial["fold"] for trial in trials.values() if repr(_kind(trial)) in kinds}
    if None in every or {trial["fold"] for trial in mine} != every:
        return {}
    ordered = sorted(mine, key=lambda trial: (trial["fold"], trial["config"]["seed"]))
    return {fold: [trial["digest"] for trial in ordered if trial["fold"] == fold] for fold in sorted(every)}


def _kind(trial: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for trainings of one model that differ in fold and seed alone."""
    config = {key: value for key, value in trial["config"].items() if key not in SAME}
    return config, trial["workers"], trial["fold"] is None


def _under_own_rule(ledger: Ledger, folds: Mapping[int, Sequence[str]], rule: Postprocess) -> ImageScores | None:
    """What the ledger holds of the folds' pages; None where a fold is not known, or the rule is another."""
    parts: list[ImageScores] = []
    for digests in folds.values():
        config = (ledger.trial(digests[0]) or {})["config"]
        found = ledger.scores(digests[0], key_of(digests, config["metric"]["variant"]))
        if found is None or Postprocess.model_validate(config["postprocess"]) != rule:
            return None
        parts.append(ImageScores.from_json(found))
    if not parts:
        return None
    return ImageScores(
        tuple(chain.from_iterable(part.names for part in parts)),
        tuple(chain.from_iterable(part.counts for part in parts)),
    )


def _checkpoint(ledger: Ledger, trial: str) -> str | None:
    meta = ledger.folder(trial) / "best" / META
    return str(read_json(meta)["digest"]) if meta.is_file() else None


def _local(what: str, scores: ImageScores, *, each: bool = True) -> Local:
    images = hashlib.blake2b("\0".join(sorted(scores.names)).encode("utf-8", "surrogatepass"), digest_size=8)
    hmean, precision, recall = (scores.mean("hmean"), scores.mean("precision"), scores.mean("recall"))
    order = sorted(range(len(scores.names)), key=scores.names.__getitem__)
    hmean_N = scores.stat_N("hmean")
    values = tuple(float(hmean_N[place]) for place in order) if each else ()
    return Local(what, hmean, precision, recall, images.hexdigest(), values, len(scores.names))
