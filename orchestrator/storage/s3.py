"""A prefix of a bucket, on S3 or anything that speaks its protocol (AWS_ENDPOINT_URL_S3 names another server).

boto3 takes credentials from the environment, its own files or the machine; nothing of them is kept or printed here.
boto3 itself rather than fsspec: leases need conditional puts (`If-None-Match`), which fsspec's common face has not.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import LedgerError

SCHEME: Final = "s3://"
MARK: Final = "created-by"  # of an object's metadata, unique to one `create`
ONE_PUT_BYTES: Final = 8 << 20  # larger ones go in parts
TAKEN: Final = ("PreconditionFailed", "ConditionalRequestConflict")
ABSENT: Final = ("NoSuchKey", "404")


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing has it; `tag` changes with its content."""

    name: str
    tag: str
    size: int


@dataclass(frozen=True, slots=True)
class S3Store:
    """See `orchestrator.storage.stores.Store`; besides, whole files and listings."""

    url: str

    @property
    def _place(self) -> tuple[str, str]:
        bucket, _, prefix = self.url.removeprefix(SCHEME).partition("/")
        return bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def _at(self, name: str) -> dict[str, str]:
        bucket, prefix = self._place
        return {"Bucket": bucket, "Key": prefix + name}

    def create(self, name: str, data: bytes) -> bool:
        mark = uuid.uuid4().hex
        with _asking(self.url) as asked:
            _client(os.getpid()).put_object(**self._at(name), Body=data, IfNoneMatch="*", Metadata={MARK: mark})
        # boto3 sends a request again whose answer was lost, and that one may find what the first has written.
        return asked.code not in TAKEN or self._mark(name) == mark

    def _mark(self, name: str) -> str:
        """Whose `create` an object is from; empty where it is from none, or gone."""
        with _asking(self.url):
            return str(_client(os.getpid()).head_object(**self._at(name))["Metadata"].get(MARK, ""))
        return ""

    def write(self, name: str, data: bytes) -> None:
        with _asking(self.url):
            _client(os.getpid()).put_object(**self._at(name), Body=data)

    def read(self, name: str) -> bytes | None:
        with _asking(self.url):
            return bytes(_client(os.getpid()).get_object(**self._at(name))["Body"].read())
        return None

    def names(self, folder: str) -> list[str]:
        head = f"{folder}/"
        found = (listed.name.removeprefix(head) for listed in self.list(head))
        return sorted(name for name in found if "/" not in name)

    def remove(self, name: str) -> None:
        with _asking(self.url):
            _client(os.getpid()).delete_object(**self._at(name))

    def list(self, head: str = "") -> list[Listed]:
        """All objects whose names begin so."""
        bucket, prefix = self._place
        found: list[Listed] = []
        with _asking(self.url):
            pages = _client(os.getpid()).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + head)
            for page in pages:
                found += [
                    Listed(one["Key"].removeprefix(prefix), one["ETag"], one["Size"])
                    for one in page.get("Contents", ())
                ]
        return found

    def put_file(self, path: Path, name: str) -> str:
        """Upload a file, whole; its tag. The file must not change meanwhile."""
        client = _client(os.getpid())
        with _asking(self.url):
            if path.stat().st_size <= ONE_PUT_BYTES:
                return str(client.put_object(**self._at(name), Body=path.read_bytes())["ETag"])
            client.upload_file(str(path), *self._at(name).values())
            return str(client.head_object(**self._at(name))["ETag"])
        raise LedgerError(f"{self.url}/{name}: is gone although it was just written; is something else clearing it?")

    def get_file(self, name: str, path: Path) -> None:
        """Download an object to `path`."""
        with _asking(self.url):
            _client(os.getpid()).download_file(*self._at(name).values(), str(path))


class _Asked:
    """What the server refused in a way that is an answer: taken, or absent."""

    code = ""


@contextmanager
def _asking(url: str) -> Iterator[_Asked]:
    from botocore.exceptions import BotoCoreError, ClientError

    asked = _Asked()
    try:
        yield asked
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in (*TAKEN, *ABSENT):
            asked.code = code
            return
        raise LedgerError(f"{url}: the store refuses ({code}); {_remedy(code)}") from error
    except BotoCoreError as error:
        reason = " ".join(str(error).split())
        raise LedgerError(
            f"{url}: the store must answer, but {reason}; check the network, AWS_ENDPOINT_URL_S3 and the credentials "
            "in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION or a profile)"
        ) from error


def _remedy(code: str) -> str:
    if code == "NoSuchBucket":
        return "make the bucket, or mend its name"
    if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return "check the credentials in the environment: they must list, read, write and delete there"
    return "see the store's own log"


@cache
def _client(pid: int) -> Any:
    """A client of this process: connections are not shared with a fork's parent."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise LedgerError("a workspace on s3:// needs boto3; install it with the extra: pip install '.[s3]'") from error
    retries = {"max_attempts": 6, "mode": "standard"}
    return boto3.client("s3", config=Config(retries=retries, connect_timeout=10, read_timeout=60))
