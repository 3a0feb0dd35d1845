"""Objects by name, whole or absent: a folder (local or NFS) or a prefix of a bucket. What leases and mirrors stand on.

Names are relative and use `/`. No method leaves half an object behind, whatever kills the process.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from detector.files import write_bytes


class Store(Protocol):
    """What both kinds can do."""

    @property
    def url(self) -> str:
        """The same for all who mean the same place."""

    def create(self, name: str, data: bytes) -> bool:
        """Write an object that is not there yet; False, and nothing written, where it is. Of many callers one wins."""

    def write(self, name: str, data: bytes) -> None:
        """Write an object, replacing the one there."""

    def read(self, name: str) -> bytes | None:
        """An object's bytes; None where there is none."""

    def names(self, folder: str) -> list[str]:
        """The names of the objects directly in a folder, sorted, without the folder."""

    def remove(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""


@dataclass(frozen=True, slots=True)
class FolderStore:
    """A folder that every process sees: local, or NFS (whose exclusive creation is atomic since version 3)."""

    root: Path

    @property
    def url(self) -> str:
        return str(self.root)

    def create(self, name: str, data: bytes) -> bool:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(handle)
            Path(draft).chmod(0o644)
            # A link comes with its content, which a file opened exclusively does not: nobody may read it half written.
            with suppress(FileExistsError):
                path.hardlink_to(draft)
            if Path(draft).stat().st_nlink < 2:  # NFS may answer "exists" for the link that it has just made
                return False
        finally:
            Path(draft).unlink()
        return True

    def write(self, name: str, data: bytes) -> None:
        write_bytes(self.root / name, data)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        try:
            found = [entry.name for entry in os.scandir(self.root / folder) if entry.is_file()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if not name.startswith("."))

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)
