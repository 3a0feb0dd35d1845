"""A workspace as each process reaches it, and values that travel between machines with paths of it inside.

A folder that all machines see (local, NFS) is the same path everywhere. The mirror of a store is another folder on each
machine, named by that machine's own environment: there a path travels as a name, and what it stands for through the
store.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Generic, Self, TypeVar

from orchestrator.storage.mirror import Mirror, mirror_of
from orchestrator.storage.s3 import S3Store
from orchestrator.storage.stores import FolderStore, Store

T = TypeVar("T")
P = TypeVar("P", bound="Place")


@dataclass(frozen=True, slots=True)
class Place:
    """A workspace. A plain value: in a process of another machine it is that machine's own mirror.

    Attributes:
        workspace: its folder here, absolute.
        url: of the store that the folder mirrors; empty where it mirrors none.
    """

    workspace: Path
    url: str = ""

    @classmethod
    def of(cls, workspace: Path) -> Self:
        """The workspace in a folder, which need not exist yet."""
        mirror = Mirror.of(Path(workspace))
        return cls(Path(workspace).absolute(), mirror.store.url if mirror else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (type(self), self.workspace, self.url)

    @property
    def mirror(self) -> Mirror | None:
        """The mirror that the folder is; None for a folder that is none."""
        return Mirror.of(self.workspace, self.url) if self.url else None

    @property
    def store(self) -> Store:
        """Where all machines meet: what is created there (leases, numbers) is created once."""
        return S3Store(self.url) if self.url else FolderStore(self.workspace)

    def keep(self, *paths: Path) -> None:
        """Copy what changed here to the store of a mirrored workspace; all of it without paths. Else nothing to do."""
        if self.mirror is not None:
            self.mirror.keep(*paths)

    def bring_folder(self, name: str, *, weights: bool = False) -> None:
        """Bring what changed in a folder of a mirrored workspace, but for weights unless told. Else nothing to do."""
        if self.mirror is not None:
            self.mirror.bring(f"{name}/", weights=weights)

    def stored(self, head: str = "trials/") -> Mapping[Path, int]:
        """The files of trials in the store of a mirrored workspace, with their bytes; of others there is no store."""
        return self.mirror.sizes(head) if self.mirror else {}

    def remove(self, path: Path) -> None:
        """Remove a file, from the store of a mirrored workspace, too."""
        if self.mirror is not None:
            self.mirror.remove(path)
        path.unlink(missing_ok=True)


def _arrive(kind: type[P], workspace: Path, url: str) -> P:
    return kind(mirror_of(url) if url else workspace, url)


@dataclass(frozen=True, slots=True)
class Sent(Generic[T]):
    """A value on its way to processes of other machines; made by `send`."""

    place: Place
    reads: tuple[str, ...]
    inside: Any

    def open(self) -> T:
        """The value, with paths of this machine; what it reads is here then.

        Raises:
            LedgerError: the store does not answer.
        """
        mirror = self.place.mirror
        if mirror is None:
            found: T = self.inside
            return found
        for name in self.reads:
            mirror.bring(name, weights=True)
        opened: T = _Unpickler(io.BytesIO(self.inside), self.place.workspace).load()
        return opened


def send(value: T, place: Place, reads: Iterable[Path] = ()) -> Sent[T]:
    """Make a value ready to be sent.

    Args:
        reads: files and folders that whoever opens it will read; of a mirror, those inside are put into its store now.
            (Those outside must lie on all machines.)
    """
    mirror = place.mirror
    if mirror is None:
        return Sent(place, (), value)
    inside = [path for path in dict.fromkeys(reads) if path.is_relative_to(place.workspace)]
    mirror.keep(*inside) if inside else None
    names = [f"{path.relative_to(place.workspace).as_posix()}{'/' * path.is_dir()}" for path in inside]
    buffer = io.BytesIO()
    _Pickler(buffer, place.workspace).dump(value)
    return Sent(place, tuple(names), buffer.getvalue())


class _Pickler(pickle.Pickler):
    """Writes paths of a workspace as their names."""

    def __init__(self, stream: io.BytesIO, workspace: Path) -> None:
        super().__init__(stream, protocol=5)
        self._workspace = workspace

    def persistent_id(self, value: Any) -> str | None:
        if isinstance(value, PurePath) and value.is_relative_to(self._workspace):
            return value.relative_to(self._workspace).as_posix()
        return None


class _Unpickler(pickle.Unpickler):  # what it reads came from this very run's driver, by Ray, which pickles all
    """Reads names as paths of this machine's mirror."""

    def __init__(self, stream: io.BytesIO, workspace: Path) -> None:
        super().__init__(stream)
        self._workspace = workspace

    def persistent_load(self, name: str) -> Path:
        return self._workspace / name
