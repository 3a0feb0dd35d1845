"""Files that a workspace's models made, and what a leaderboard said of files.

    <workspace>/predictions/<content>.json      a submission file that a model made: its hash, the model, its settings
    <workspace>/submissions/000001.json ...     one score of one file on one board, in order; never changed

A file is known by its bytes, and by its content where only the order of its lines or their ends differ. What a score is
held against are the model's scores here (`evaluation.local`), as they were known when it was added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from detector.data.formats_csv import read_rows
from detector.errors import CheckpointError, DataError
from detector.files import read_json, write_json
from detector.inference.described import Described, describe
from orchestrator.errors import LedgerError
from orchestrator.evaluation.local import Local
from orchestrator.storage.places import Place
from orchestrator.storage.stores import FolderStore

if TYPE_CHECKING:
    from orchestrator.tracking.journal import Journal

FORMAT: Final = 1
PREDICTIONS, SUBMISSIONS = "predictions", "submissions"
LOCAL: Final = ("local", "outoffold")  # scores here
Where = Literal["public", "private"]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A submission file.

    Attributes:
        sha256: of its bytes.
        content: the same for files that say the same of the same images.
    """

    sha256: str
    content: str
    images: int
    boxes: int


@dataclass(frozen=True, slots=True)
class Made:
    """A file that a model of the workspace made.

    Attributes:
        model: what `Described.as_json` says of it.
        origin: as a person named it: `champion`, `phase/experiment`, a path.
        made_at: ISO 8601.
    """

    file: FileFacts
    model: Mapping[str, Any]
    origin: str
    path: str
    made_at: str


@dataclass(frozen=True, slots=True)
class Submission:
    """One score of one file on one board.

    Attributes:
        number: from 1, in the order in which they were added.
        at: ISO 8601 with its offset: when it was submitted.
        hmean, precision, recall: the board's.
        made: the model behind it, where this workspace made the file.
        local: that model's score on the common validation images.
        outoffold: its score on the training images, where it has one; records of earlier versions do not say.
    """

    number: int
    at: str
    board: Where
    path: str
    file: FileFacts
    hmean: float
    precision: float
    recall: float
    note: str
    by: str
    made: Made | None
    local: Local | None
    outoffold: Local | None = None

    @property
    def difference(self) -> float | None:
        """Leaderboard less local."""
        return None if self.local is None else self.hmean - self.local.hmean

    @property
    def difference_outoffold(self) -> float | None:
        """Leaderboard less out-of-fold."""
        return None if self.outoffold is None else self.hmean - self.outoffold.hmean

    def as_json(self) -> dict[str, Any]:
        """Plain values for machines and MLflow, without the scores of each image."""
        scores = {name: None if (found := getattr(self, name)) is None else found.summary() for name in LOCAL}
        differences = {"difference": self.difference, "difference_outoffold": self.difference_outoffold}
        return asdict(replace(self, local=None, outoffold=None)) | scores | differences


def file_facts(path: Path) -> FileFacts:
    """The facts of a submission file; DataError where it breaks the format."""
    rows = [(row.name, [polygon.tolist() for polygon in row.polygons]) for row in read_rows(path)]
    content = hashlib.blake2b(json.dumps(sorted(rows)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileFacts(sha256, content, len(rows), sum(len(polygons) for _, polygons in rows))


# --- files that models made ------------------------------------------------------------------------------------------


def note_made(workspace: Path, path: Path, about: Described, origin: str, now: str) -> Made:
    """Keep which model made a submission file."""
    made = Made(file_facts(path), about.as_json(), origin, str(path), now)
    record = workspace / PREDICTIONS / f"{made.file.content}.json"
    write_json(record, {"format": FORMAT, **asdict(made)})
    Place.of(workspace).keep(record)
    return made


def find_made(workspace: Path, facts: FileFacts) -> Made | None:
    """Which model of the workspace made a file; None where none is known to have."""
    path = workspace / PREDICTIONS / f"{facts.content}.json"
    if path.is_file():
        return _made(read_json(path), path)
    for file in sorted(workspace.glob("ensembles/*/submission.csv")):
        if file.stat().st_size and hashlib.sha256(file.read_bytes()).hexdigest() == facts.sha256:
            about = describe(file.parent)
            return Made(facts, about.as_json(), file.parent.name, str(file.relative_to(workspace)), "")
    return None


def workspace_around(model: Path) -> Path | None:
    """The workspace in which a model lies, if it lies in one."""
    return next((folder for folder in model.absolute().parents if (folder / "ledger.json").is_file()), None)


# --- what leaderboards said ------------------------------------------------------------------------------------------


def submissions(workspace: Path) -> tuple[Submission, ...]:
    """All of a workspace, in their order.

    Raises:
        LedgerError: a file among them is damaged.
    """
    store = FolderStore(workspace)
    names = [name for name in store.names(SUBMISSIONS) if name.endswith(".json")]
    return tuple(_read(workspace / SUBMISSIONS / name) for name in names)


def add_submission(workspace: Path, value: Submission) -> Submission:
    """Append a submission; its number is given here. Of several processes, on any machines, each gets its own."""
    place = Place.of(workspace)
    while True:
        place.bring_folder(SUBMISSIONS)
        number = max((found.number for found in submissions(workspace)), default=0) + 1
        record = {"format": FORMAT, **asdict(value), "number": number}
        data = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        if place.store.create(f"{SUBMISSIONS}/{number:06d}.json", data):
            place.bring_folder(SUBMISSIONS)
            return _read(workspace / SUBMISSIONS / f"{number:06d}.json")


def tell_submissions(journal: Journal, workspace: Path) -> None:
    """Let the journal have every submission that it does not know yet; MLflow shows each as a run."""
    for one in submissions(workspace):
        journal.append("submission", f"{one.number:06d}", one.as_json())


def _read(path: Path) -> Submission:
    try:
        value = dict(read_json(path))
        if value.pop("format") != FORMAT:
            raise ValueError("another version wrote it")
        value["file"] = FileFacts(**value["file"])
        value["made"] = None if value["made"] is None else _made({"format": FORMAT, **value["made"]}, path)
        for name in LOCAL:
            found = value.get(name)
            value[name] = None if found is None else Local(**{**found, "hmean_N": tuple(found["hmean_N"])})
        return Submission(**value)
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"{path}: not a submission ({error}); move it away, and add it again") from error


def _made(value: Mapping[str, Any], path: Path) -> Made:
    try:
        rest = {key: item for key, item in value.items() if key not in ("format", "file")}
        return Made(FileFacts(**value["file"]), **rest)
    except (KeyError, TypeError) as error:
        raise LedgerError(f"{path}: not a record of a prediction ({error}); remove it") from error


def known_workspaces(roots: Sequence[Path]) -> list[Path]:
    """The workspaces among folders and directly in them."""
    found = [
        folder for root in roots for folder in (root, *sorted(root.glob("*"))) if (folder / "ledger.json").is_file()
    ]
    return list(dict.fromkeys(folder.absolute() for folder in found))


def maker(workspaces: Sequence[Path], path: Path) -> tuple[Path, Made] | None:
    """The workspace whose model made a file, and what it knows of it."""
    facts = file_facts(path)
    for workspace in workspaces:
        try:
            made = find_made(workspace, facts)
        except CheckpointError:  # a bundle of another version: its file cannot be told from others' by its model
            continue
        if made is not None:
            return workspace, made
    return None
