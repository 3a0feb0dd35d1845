"""A real S3 server (moto's) on the loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

BUCKET = "roadmaps"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; the environment names it and holds credentials that it believes, a bucket is made."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("moto")
    folder = tmp_path_factory.mktemp("moto")
    code = (
        "import sys; from moto.server import DomainDispatcherApplication, create_backend_app; "
        "from werkzeug.serving import make_server; "
        "server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True); "
        "print(server.server_port, flush=True); server.serve_forever()"
    )
    with (folder / "log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            address = f"http://127.0.0.1:{int(server.stdout.readline())}"
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            patch.setenv("AWS_ENDPOINT_URL_S3", address)
            patch.setenv("AWS_ACCESS_KEY_ID", "test-key")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-0123456789")
            patch.setenv("AWS_REGION", "us-east-1")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield address
        finally:
            server.kill()
            server.wait()


@pytest.fixture
def s3_url(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of its own, and an empty cache."""
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "cache"))
    return f"s3://{BUCKET}/{tmp_path.name}-{time.time_ns()}/r"


def reset(s3_server: str) -> None:
    """Forget all that the server has."""
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/moto-api/reset", method="POST"))
