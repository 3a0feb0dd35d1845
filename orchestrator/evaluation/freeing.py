"""What of a workspace may go, and what must stay: the policy of `gc`. It decides; `free` acts.

What goes is what nothing needs any more: the resumable states of trials that have ended, the weights of those that are
not kept, the maps of these. What a trial was, what it scored and every picture stay, so that nothing is trained
again because of it. What stays, and why, `_kept` decides. The weights lie in MLflow's local store, too, as links to the
same bytes; they go together, or no byte would be free.
"""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from detector.checkpoint import WEIGHTS
from detector.errors import DataError
from detector.files import read_json
from detector.training.kept import KEPT, SOUP
from orchestrator.evaluation.champion import read_champion
from orchestrator.evaluation.map_cache import evict, size_of
from orchestrator.evaluation.review import Review
from orchestrator.evaluation.scores import SOUPS, Board, ImageScores, experiment_named, has_soup, top
from orchestrator.evaluation.soups import candidates
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Study
from orchestrator.records import TrialRecord

STATE: Final = "last.safetensors"
Kind = Literal["weights", "state", "maps", "scratch"]


@dataclass(frozen=True, slots=True)
class Item:
    """Something that may go.

    Attributes:
        paths: its files or folders.
        size: bytes that the disk gets back, or the store where this machine has no copy.
        name: of its trial, as people know it.
        why: nothing needs it any more.
    """

    kind: Kind
    name: str
    paths: tuple[Path, ...]
    size: int
    why: str


@dataclass(frozen=True, slots=True)
class Freeing:
    """The decision.

    Attributes:
        items: what may go, largest first.
        kept: name of a trial whose weights stay -> why.
    """

    items: tuple[Item, ...]
    kept: Mapping[str, str]

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)


def freeing(state: Review, ledger: Ledger, keep: int, *, maps: bool = False) -> Freeing:
    """What may go of the workspace that `state` is of, all plans of its roadmap included.

    Args:
        keep: so many best trials of each experiment stay.
        maps: the maps of checkpoints that stay go, too; they are computed again when they are asked for.
    """
    records = {record.digest: record for record in ledger.records()}
    kept = _kept(state, ledger, records, keep)
    names = {digest: str((ledger.trial(digest) or {}).get("name", digest)) for digest in records}
    links = _links(ledger.workspace / "mlflow" / "artifacts")
    stored = ledger.stored()
    items: list[Item] = []
    for digest, record in records.items():
        folder = ledger.folder(digest)
        if record.state not in ("finished", "pruned"):
            continue
        weights, soup = folder / "best" / WEIGHTS, folder / SOUP / WEIGHTS
        states = (folder / STATE, *_below(folder / KEPT, stored))
        if size := _size(states, stored):
            items.append(Item("state", names[digest], states, size, f"{record.state}: it never goes on"))
        copies = [weights, *(links.get(_inode(weights), ()) if weights.exists() else ())]
        copies += [soup] if soup.exists() or soup in stored else []
        if digest not in kept and (size := _size(copies, stored)):
            items.append(Item("weights", names[digest], tuple(copies), size, _why_not(record, keep)))
    items += _maps(ledger, kept, names, maps)
    if (scratch := ledger.workspace / "ray").is_dir() and not ledger.driving():
        items.append(Item("scratch", "ray", (scratch,), size_of(scratch), "of a driver that is gone"))
    stays = {names[digest]: why for digest, why in kept.items()}
    return Freeing(tuple(sorted(items, key=lambda item: (-item.size, item.name, item.kind))), stays)


def free(found: Freeing, ledger: Ledger) -> int:
    """Remove what was found; bytes that are free now. Maps that a process holds by now stay."""
    freed = 0
    for item in found.items:
        for path in item.paths:
            if item.kind == "maps":
                evict(path)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                ledger.remove(path)
        freed += 0 if any(path.exists() for path in item.paths) else item.size
    return freed


# --- policy ----------------------------------------------------------------------------------------------------------


def _kept(state: Review, ledger: Ledger, records: Mapping[str, TrialRecord], keep: int) -> dict[str, str]:
    """Digest -> why its weights stay."""
    kept: dict[str, str] = {}

    def hold(digests: Iterable[str], why: str) -> None:
        for digest in digests:
            kept.setdefault(digest, why)

    scores = {digest: _scores(ledger, digest) for digest, record in records.items() if record.state == "finished"}
    for digest, record in records.items():
        if record.state not in ("finished", "pruned"):
            hold([digest], f"{record.state}: it may go on")
        elif record.state == "finished" and not scores[digest]:
            hold([digest], "not scored yet")
        elif record.state == "finished" and has_soup(digest, ledger) and not _scored_soup(ledger, digest):
            hold([digest], "its soup is not scored yet")
        elif record.state == "finished" and _undrawn(ledger, digest, scores[digest]):
            hold([digest], "its pictures are not drawn yet")
    for path in sorted(ledger.workspace.glob("ensembles/*/scores.json")):
        hold(_members(path), f"member of the ensemble {path.parent.name}")
    champion = read_champion(ledger.workspace)
    if champion is not None and champion.kind == "single":
        hold([Path(champion.path).name], "the champion")
    for one in state.folds:
        if one.wanted and one.scores is None:
            hold((trial.digest for mine in one.trials.values() for trial in mine), "not scored out-of-fold yet")
    for item, trials in _wanted(state.study, state.board):
        hold((trial.digest for trial in trials), f"in the pool of {item}")
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for digest in scores:
        value = ledger.trial(digest) or {}
        groups[value.get("phase", ""), value.get("experiment", "")].append(digest)
    for (phase, experiment), digests in sorted(groups.items()):
        for key in sorted({key for digest in digests for key in scores[digest]}):
            # ranked as `Board.ranked` does, on each set of images that they were ever compared on
            rated = sorted((-scores[digest][key], digest) for digest in digests if key in scores[digest])
            hold((digest for _, digest in rated[:keep]), f"of the best {keep} of {phase}/{experiment}")
    return kept


def _wanted(study: Study, board: Board) -> list[tuple[str, Sequence[Any]]]:
    """What the plan's ensembles and searches of thresholds would look at, were they made now."""
    found: list[tuple[str, Sequence[Any]]] = []
    for phase in study.phases:
        for item in phase.experiments:
            if item.ensemble is not None:
                pool = candidates(study, board, item.ensemble, item.phase)
                ranked = sorted(pool, key=lambda one: -one.scores(board).mean("hmean"))
                wanted = ranked[: max(2, item.ensemble.max_members)]
                found.append((f"{phase.id}/{item.id}", [one.trial for one in wanted]))
            if item.thresholds is not None:
                of = item.thresholds.of
                source = (of,) if isinstance(of, str) else of
                named = experiment_named(study, of, item.phase) if isinstance(of, str) else None
                most = None if named is not None and named.oof else 1  # of folds, all are looked at
                found.append((f"{phase.id}/{item.id}", top(study, board, source, item.phase)[:most]))
    return found


def _scores(ledger: Ledger, digest: str) -> dict[str, float]:
    """Mean H under each key that a trial was scored under on validation images."""
    found = {}
    for key in ledger.score_names(digest):
        value = ledger.scores(digest, key)
        if key.startswith("val-") and value:
            found[key] = ImageScores.from_json(value).mean("hmean")
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _scored_soup(ledger: Ledger, digest: str) -> bool:
    return any(key.startswith(f"{SOUPS}val-") for key in ledger.score_names(digest))


def _undrawn(ledger: Ledger, digest: str, scores: Mapping[str, float]) -> bool:
    images = min((len(ledger.scores(digest, key) or ()) for key in scores), default=0)
    return len(list((ledger.folder(digest) / "pictures").glob("*.jpg"))) < min(3, images)


def _members(path: Path) -> list[str]:
    try:
        return [str(member["trial"]) for member in read_json(path)["members"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a saved result ({error}); remove the file, it will be made anew") from error


def _why_not(record: TrialRecord, keep: int) -> str:
    return "pruned: never chosen" if record.state == "pruned" else f"not of the best {keep}, no ensemble has it"


# --- what lies there -------------------------------------------------------------------------------------------------


def _maps(ledger: Ledger, kept: Mapping[str, str], names: Mapping[str, str], every: bool) -> list[Item]:
    folder = ledger.workspace / "maps"
    owners: dict[str, str] = {}
    for digest in names:
        for model in (ledger.model(digest, soup=True), ledger.model(digest)):
            if model is not None:
                owners[model[:16]] = digest
    found = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else []:
        owner = owners.get(place.name.split("-")[0])
        if not place.is_dir() or (owner in kept and not every):
            continue
        why = "computed again when asked for" if owner in kept else "its weights are not kept"
        name = names[owner] if owner is not None else place.name
        found.append(
            Item("maps", name, (place,), size_of(place), "of no trial that is known" if owner is None else why)
        )
    return found


def _below(folder: Path, stored: Mapping[Path, int]) -> list[Path]:
    """The files of a folder, here or in the store."""
    here = {path for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else set()
    return sorted(here | {path for path in stored if path.is_relative_to(folder)})


def _size(paths: Sequence[Path], stored: Mapping[Path, int]) -> int:
    """Bytes here, links to one file once; of a file that only the store has, its bytes there."""
    sizes = {_inode(path): path.stat().st_size for path in paths if path.exists()}
    return sum(sizes.values()) + sum(stored.get(path, 0) for path in paths if not path.exists())


def _links(artifacts: Path) -> dict[tuple[int, int], list[Path]]:
    """The weights in MLflow's own store, by inode."""
    found: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for path in artifacts.rglob(WEIGHTS) if artifacts.is_dir() else ():
        found[_inode(path)].append(path)
    return found


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
