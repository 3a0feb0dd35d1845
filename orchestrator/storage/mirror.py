"""A workspace on s3:// as a local folder that is the same, file by file, as far as it must survive.

    <cache>/<roadmap>-<digest of the URL>/      the folder in which everything works as in any other workspace
        .store/url                              whose mirror it is
        .store/tags/<name>                      what was last brought or kept of each file: [tag, bytes, mtime in ns]

`keep` copies what changed here to the store, `bring` what changed there to this folder; what changed in both is taken
from the store: there is one writer at a time, who holds the lease, and a change here that was never kept is of a time
before. Caches stay here: maps, pages, MLflow's own store, Ray's files. Weights come when they are asked for.
<cache> is $ORCHESTRATOR_CACHE, else ~/.cache/text-detection-orchestrator.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Final

from detector.files import replacing, write_text
from orchestrator.errors import LedgerError
from orchestrator.storage.s3 import SCHEME, Listed, S3Store

VARIABLE: Final = "ORCHESTRATOR_CACHE"
OWN: Final = ".store"
LOCAL: Final = frozenset({"maps", "ray", "data", "mlflow", "driver", OWN})  # kept and brought only when named
EVERY_S: Final = 1.0
HEAVY: Final = ".safetensors"
LEASES: Final = "leases"  # written to the store by their holders alone
# Of a trial, kept by the process that trains it; if others did so, too, an older one could come last.
TRAINED: Final = frozenset({"epochs.jsonl", "last.safetensors", "best", "kept", "soup", "state.json"})
_sending = threading.Lock()  # two threads that send one file, a slow one and a later one, must not end in that order


def is_url(workspace: str) -> bool:
    """Whether a workspace is meant to be on an object store."""
    return workspace.startswith(SCHEME)


def mirror_of(url: str) -> Path:
    """The local folder of a workspace on s3://; made if absent, with its mark.

    Raises:
        LedgerError: the URL names no bucket.
    """
    url = url.rstrip("/")
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/]+)*", url):
        raise LedgerError(f"{url}: must be s3://BUCKET or s3://BUCKET/PREFIX, without empty parts")
    home = os.environ.get(VARIABLE)
    cache = Path(home) if home else Path.home() / ".cache" / "text-detection-orchestrator"
    name = re.sub(r"[^A-Za-z0-9._-]", "_", url.rpartition("/")[2])
    folder = cache.absolute() / f"{name}-{blake2b(url.encode(), digest_size=6).hexdigest()}"
    mark = folder / OWN / "url"
    if not mark.exists():
        write_text(mark, url + "\n")
    return folder


def whole(workspace: Path, folder: Path) -> Path:
    """A folder of a workspace, its weights included: those of a mirror are brought."""
    if (mirror := Mirror.of(workspace)) is not None:
        mirror.bring(f"{folder.relative_to(workspace).as_posix()}/", weights=True)
    return folder


@contextmanager
def following(keep: Callable[[], None], every_s: float = EVERY_S) -> Iterator[None]:
    """Keep what changes while the block runs, every `every_s`, and once more at its end.

    Raises:
        LedgerError: the last time failed; what failed before was tried again.
    """
    over = threading.Event()

    def follow() -> None:
        while not over.wait(every_s):
            with suppress(OSError, LedgerError):  # a network that is down for a while
                keep()

    thread = threading.Thread(target=follow, name="keep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        keep()


@dataclass(frozen=True, slots=True)
class Mirror:
    """A folder and what it mirrors."""

    folder: Path
    store: S3Store

    @classmethod
    def of(cls, workspace: Path, url: str = "") -> Mirror | None:
        """The mirror that `workspace` is; None for a folder that is none.

        Args:
            url: where it is known although the folder is not there yet (another machine).
        """
        if not url:
            with suppress(OSError):
                url = (workspace / OWN / "url").read_text().strip()
        return cls(workspace, S3Store(url)) if url else None

    def bring(self, head: str = "", *, weights: bool = False) -> None:
        """Bring what changed in the store, of names that begin with `head`; not what is being trained here."""
        named = head.split("/")[0] in LOCAL
        wanted = [
            listed
            for listed in self.store.list(head)
            if (named or listed.name.split("/")[0] not in LOCAL) and (weights or not listed.name.endswith(HEAVY))
        ]
        for digest, group in groupby(wanted, key=_trained):  # a listing is sorted: each trial comes once
            with self._lock(digest, fcntl.LOCK_SH | fcntl.LOCK_NB) if digest else nullcontext(True) as free:
                for listed in group if free else ():
                    self._bring(listed)

    @contextmanager
    def training(self, digest: str) -> Iterator[None]:
        """Bring a trial, its weights included, and keep its resumable state while the block runs.

        Nobody on this machine brings anything over what this process writes meanwhile.
        """
        self.bring(f"trials/{digest}/", weights=True)
        with self._lock(digest, fcntl.LOCK_EX):
            state = self.folder / "trials" / digest / "last.safetensors"
            with following(lambda: self.keep(state)):
                yield
        self.bring(f"trials/{digest}/{LEASES}/")

    @contextmanager
    def _lock(self, digest: str, kind: int) -> Iterator[bool]:
        """A lock of this machine's processes on the files of a trial that its training writes; whether it was free."""
        path = self.folder / OWN / "locks" / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            try:
                fcntl.flock(stream.fileno(), kind)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _bring(self, listed: Listed) -> None:
        place = self.folder / listed.name
        if self._tag(listed.name)[0] == listed.tag and place.exists():
            return
        with replacing(place) as draft:
            self.store.get_file(listed.name, draft)
        found = place.stat()
        self._write_tag(listed.name, listed.tag, found.st_size, found.st_mtime_ns)

    def keep(self, *paths: Path) -> None:
        """Copy what changed of files and folders to the store; returns once it is there.

        Without paths all of them, but for caches and what a trial's process keeps itself.
        """
        for path in paths or (self.folder,):
            for file in self._files(path, caches=bool(paths)):
                name = file.relative_to(self.folder).as_posix()
                parts = name.split("/")
                if not paths and parts[0] == "trials" and TRAINED & set(parts[2:3]):
                    continue
                with suppress(FileNotFoundError):  # replaced or removed meanwhile: its writer keeps it himself
                    self._keep(file, name)

    def remove(self, path: Path) -> None:
        """Remove a file from the store, if it is one that is kept there."""
        name = path.relative_to(self.folder).as_posix()
        if self._is_kept(name):
            self.store.remove(name)

    def sizes(self, head: str) -> dict[Path, int]:
        """What the store has of names that begin with `head`, in bytes."""
        return {self.folder / listed.name: listed.size for listed in self.store.list(head)}

    def _keep(self, file: Path, name: str) -> None:
        with _sending:
            found = file.stat()
            if self._tag(name)[1:] == (found.st_size, found.st_mtime_ns):
                return
            place = self.folder / OWN / "sent"
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place) as folder:
                snapshot = Path(folder) / "file"
                snapshot.hardlink_to(file)  # files are replaced, not written to: this one stays as it is meanwhile
                found = snapshot.stat()
                tag = self.store.put_file(snapshot, name)
            self._write_tag(name, tag, found.st_size, found.st_mtime_ns)

    def _files(self, path: Path, *, caches: bool) -> Iterator[Path]:
        if path.is_file():
            if self._is_kept(path.relative_to(self.folder).as_posix(), caches=caches):
                yield path
            return
        for root, folders, names in os.walk(path):
            at = Path(root).relative_to(self.folder)
            folders[:] = sorted(name for name in folders if self._is_kept((at / name).as_posix(), caches=caches))
            for name in sorted(names):
                if self._is_kept((at / name).as_posix(), caches=caches):
                    yield Path(root) / name

    def _is_kept(self, name: str, *, caches: bool = False) -> bool:
        parts = name.split("/")
        if (parts[0] in LOCAL and not caches) or any(part.startswith(".") for part in parts):
            return False
        return not (parts[0] == "trials" and LEASES in parts[2:3])

    def _write_tag(self, name: str, *value: str | int) -> None:
        write_text(self.folder / OWN / "tags" / name, json.dumps(value))

    def _tag(self, name: str) -> tuple[str, int, int]:
        try:
            tag, size, mtime_ns = json.loads((self.folder / OWN / "tags" / name).read_text())
        except (OSError, ValueError):
            return "", -1, -1
        return str(tag), int(size), int(mtime_ns)


def _trained(listed: Listed) -> str:
    """The digest of a trial for a file that its training writes; empty for others."""
    top, *rest = listed.name.split("/")
    return rest[0] if top == "trials" and TRAINED & set(rest[1:2]) else ""
