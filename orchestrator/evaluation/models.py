"""The model that a name means in a workspace: its champion, an ensemble, the folds of an experiment, one trial.

    champion               what `champion.json` points to
    PHASE/EXPERIMENT       an ensemble's bundle; a search's model under the rule that was found; the one finished trial;
                           or all finished trials that differ in fold and seed alone, averaged with equal weights
    PHASE/EXPERIMENT-...   one trial by its name, or by its digest
    ...+soup               the soup of that trial's best epochs

    <workspace>/bundles/<phase>-<experiment>/     what was made for such a name; made again where it is another now

`.` may stand for `/`. Only the workspace is read: neither the plan nor its data is needed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from detector.config import Postprocess
from detector.errors import InputError
from detector.files import read_json
from detector.inference.bundle import is_bundle, save_bundle
from detector.inference.described import describe
from orchestrator.evaluation.champion import read_champion
from orchestrator.evaluation.soups import SUFFIX
from orchestrator.ledger import Ledger
from orchestrator.storage.mirror import whole

SAME: Final = ("seed",)  # settings in which the trainings of one model may differ


def named_model(workspace: Path, name: str) -> Path:
    """The checkpoint or bundle that `name` means.

    Raises:
        InputError: nothing of that name has finished, or it means several different models.
    """
    if name == "champion":
        champion = read_champion(workspace)
        if champion is None:
            raise InputError(f"{workspace}: has no champion yet; run the plan first")
        return whole(workspace, workspace / champion.path)
    ledger = Ledger.open(workspace)
    if name.endswith(SUFFIX):
        return _soup(ledger, name)
    wanted = name.replace(".", "/")
    made = _result(ledger, wanted)
    if made is not None:
        return whole(ledger.workspace, made)
    trials = _trials(ledger)
    found = _called(name, trials)
    if not found:
        raise InputError(f"{workspace}: {_unknown(name, ledger, trials)}")
    if len(found) == 1:
        return ledger.checkpoint(found[0]["digest"])
    return _averaged(ledger, name, found)


def _trials(ledger: Ledger) -> list[Mapping[str, Any]]:
    """What is known of every finished trial."""
    digests = [record.digest for record in ledger.records() if record.state == "finished"]
    return [trial for digest in digests if (trial := ledger.trial(digest)) is not None]


def _result(ledger: Ledger, wanted: str) -> Path | None:
    """The bundle of an ensemble or of a search of thresholds; None where the name is of neither."""
    folder = ledger.workspace / "ensembles" / wanted.replace("/", "-")
    if is_bundle(folder):
        return folder
    scores = ledger.workspace / "thresholds" / wanted.replace("/", "-") / "scores.json"
    if not scores.is_file():
        return None
    value = read_json(scores)
    members = [(ledger.checkpoint(row["trial"]), float(row["weight"])) for row in value["members"]]
    return _bundle(ledger, wanted, members, tuple(value["views"]), Postprocess.model_validate(value["rule"]))


def _called(name: str, trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The trial of that name or digest; else those of the experiment of that name."""
    wanted = name.replace(".", "/")
    one = [trial for trial in trials if name in (trial["name"], trial["digest"])]
    return one or [
        trial for trial in trials if wanted in (f"{trial['phase']}/{trial['experiment']}", trial["experiment"])
    ]


def _soup(ledger: Ledger, name: str) -> Path:
    """The soup of one trial."""
    whose, trials = name.removesuffix(SUFFIX), _trials(ledger)
    found = _called(whose, trials)
    if not found:
        raise InputError(f"{ledger.workspace}: {_unknown(whose, ledger, trials)}")
    having = [trial for trial in found if ledger.model(trial["digest"], soup=True) is not None]
    if len(having) == 1:
        return ledger.checkpoint(having[0]["digest"], soup=True)
    names = ", ".join(sorted(trial["name"] + SUFFIX for trial in having)[:6])
    remedy = f"name one of {names}" if having else "only a trial with `keep_epochs` has one, where averaging helped"
    raise InputError(f"{name}: must be the soup of one trial, but {len(having)} of {len(found)} have one; {remedy}")


def _averaged(ledger: Ledger, name: str, trials: Sequence[Mapping[str, Any]]) -> Path:
    """Folds and seeds of one model as a bundle of equal weights."""
    models = {repr({key: value for key, value in trial["config"].items() if key not in SAME}) for trial in trials}
    if len(models) > 1:
        names = ", ".join(sorted(trial["name"] for trial in trials)[:6])
        raise InputError(
            f"{name}: must be one model, over folds and seeds, but its {len(trials)} finished trials are {len(models)} "
            f"different ones; name one of them ({names}{', ...' if len(trials) > 6 else ''}), or an ensemble"
        )
    ordered = sorted(trials, key=lambda trial: str(trial["name"]))
    members = [(ledger.checkpoint(trial["digest"]), 1.0 / len(ordered)) for trial in ordered]
    first = trials[0]
    return _bundle(ledger, f"{first['phase']}/{first['experiment']}", members, ("identity",), None)


def _bundle(
    ledger: Ledger, name: str, members: Sequence[tuple[Path, float]], views: Sequence[str], rule: Postprocess | None
) -> Path:
    folder = ledger.workspace / "bundles" / name.replace("/", "-")
    rule = rule or describe(members[0][0]).rule
    wanted = (tuple((describe(path).digest, weight) for path, weight in members), tuple(views), rule)
    if is_bundle(folder):
        about = describe(folder)
        if (about.members, about.views, about.rule) == wanted:
            return folder
    save_bundle(folder, members, views, rule)
    return folder


def _unknown(name: str, ledger: Ledger, trials: Sequence[Mapping[str, Any]]) -> str:
    ensembles = sorted(path.parent.name for path in ledger.workspace.glob("ensembles/*/bundle.json"))
    known = ["champion", *ensembles, *sorted({f"{trial['phase']}/{trial['experiment']}" for trial in trials})]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(known[:10])}"
    return f"no finished model is called `{name}`; {hint}"
