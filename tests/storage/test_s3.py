"""A workspace on s3:// against a real server: what is reported is there, another machine goes on, nothing is torn."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from workspaces import STATE_BYTES, WEIGHT_BYTES, finish, study_of, write_plan

from detector.config import Config
from detector.files import write_bytes, write_json
from orchestrator.__main__ import main
from orchestrator.errors import LedgerError
from orchestrator.ledger import Ledger, lease_of
from orchestrator.plan.study import Trial
from orchestrator.records import EpochRow
from orchestrator.storage import s3
from orchestrator.storage.leases import attempts
from orchestrator.storage.mirror import mirror_of
from orchestrator.storage.s3 import ONE_PUT_BYTES, S3Store

SPAWN = multiprocessing.get_context("spawn")
DIGEST = "00ff00ff00ff00ff"
TRIAL = Trial(DIGEST, "p/e-01", "p", "e", Config())


def row(number: int, *, best: bool = True) -> EpochRow:
    return EpochRow(number, {"hmean": number / 10}, 1.0, number, best)


def elsewhere(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> Ledger:
    """The workspace as another machine sees it: its cache is empty."""
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / name))
    return Ledger.open(mirror_of(url))


def train_epoch(ledger: Ledger, number: int) -> None:
    """What `fit` does at an epoch's end, in its order: best weights, the report, the resumable state."""
    folder = ledger.folder(DIGEST)
    write_bytes(folder / "best" / "model.safetensors", b"weights %d" % number)
    write_json(folder / "best" / "checkpoint.json", {"format": 1, "digest": f"{number:032x}"})
    ledger.append_epoch(DIGEST, row(number))
    write_bytes(folder / "last.safetensors", b"state %d" % number)


def test_a_store_creates_once_reads_lists_and_removes(s3_url: str) -> None:
    store = S3Store(s3_url)
    assert store.read("a/1") is None and store.names("a") == []
    assert store.create("a/1", b"x") and not store.create("a/1", b"y")
    assert store.read("a/1") == b"x"
    store.write("a/1", b"z")
    store.write("a/b/2", b"deeper")
    assert store.read("a/1") == b"z" and store.names("a") == ["1"]
    assert [listed.name for listed in store.list("a/")] == ["a/1", "a/b/2"]
    store.remove("a/1")
    store.remove("a/1")
    assert store.names("a") == []


class Forgetful(BaseHTTPRequestHandler):
    """Hands requests on to the server at `to`; of the first PUT the answer is lost."""

    to = ""
    forgot = False

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._hand_on(body, lose=not Forgetful.forgot)

    def do_GET(self) -> None:
        self._hand_on(None, lose=False)

    do_HEAD = do_GET

    def _hand_on(self, body: bytes | None, *, lose: bool) -> None:
        to = http.client.HTTPConnection(self.to.removeprefix("http://"))
        to.request(self.command, self.path, body, dict(self.headers))
        answer = to.getresponse()
        content = answer.read()
        if lose:
            Forgetful.forgot = True
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None: ...


def test_an_object_whose_answer_was_lost_is_one_s_own(
    s3_server: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Forgetful.to = s3_server
    with ThreadingHTTPServer(("127.0.0.1", 0), Forgetful) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        s3._client.cache_clear()
        try:
            store = S3Store(s3_url)
            assert store.create("leases/000001.json", b"mine") and Forgetful.forgot
            assert not store.create("leases/000001.json", b"mine")  # another's, and the same to the byte
            assert store.read("leases/000001.json") == b"mine"
        finally:
            s3._client.cache_clear()
            server.shutdown()


def test_a_large_file_goes_in_parts(s3_url: str, tmp_path: Path) -> None:
    data = os.urandom(ONE_PUT_BYTES + 5_000_000)
    (tmp_path / "large").write_bytes(data)
    store = S3Store(s3_url)
    tag = store.put_file(tmp_path / "large", "large.safetensors")
    (listed,) = store.list("large")
    assert (listed.tag, listed.size) == (tag, len(data))
    store.get_file("large.safetensors", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_what_is_reported_is_in_the_store_and_another_machine_goes_on(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Ledger.open(mirror_of(s3_url))
    with here.drive(), here.claim(DIGEST, cpus=2):
        here.register(TRIAL)
        here.set_state(DIGEST, "running")
        train_epoch(here, 1)
        train_epoch(here, 2)
        # read from there before anything was closed: rows and best weights are kept by the time they are reported
        there = elsewhere(s3_url, monkeypatch, tmp_path, "second")
        assert there.record(DIGEST).epochs == (row(1), row(2))
        assert there.record(DIGEST).state == "running" and there.driving()
        assert not (there.folder(DIGEST) / "best" / "model.safetensors").exists()  # weights come when they are needed
        assert (there.checkpoint(DIGEST) / "model.safetensors").read_bytes() == b"weights 2"
        with pytest.raises(LedgerError, match="one driver a workspace, and pid"), there.drive():
            pass
        with pytest.raises(LedgerError, match="one process trains a trial"), there.claim(DIGEST, wait_s=0.2):
            pass
    there = elsewhere(s3_url, monkeypatch, tmp_path, "third")
    with there.drive(), there.claim(DIGEST, cpus=2):
        assert (there.folder(DIGEST) / "last.safetensors").read_bytes() == b"state 2"
        there.set_state(DIGEST, "running")
        train_epoch(there, 3)
        there.put_scores(DIGEST, "val", {"p.jpg": 1})
        there.set_state(DIGEST, "finished", "budget")
        write_json(there.workspace / "champion.json", {"name": "c"})
        write_bytes(there.workspace / "maps" / "m" / "00000.npz", b"cache")
    last = elsewhere(s3_url, monkeypatch, tmp_path, "fourth")
    record = last.record(DIGEST)
    assert (record.state, record.attempts, [one.number for one in record.epochs]) == ("finished", 2, [1, 2, 3])
    assert last.scores(DIGEST, "val") == {"p.jpg": 1} and (last.workspace / "champion.json").exists()
    assert not (last.workspace / "maps").exists()
    spent = attempts(S3Store(s3_url), lease_of(DIGEST))
    assert record.cpu_s == pytest.approx(2 * sum(attempt.seconds for attempt in spent)) and len(spent) == 2


def _train_for_ever(url: str, trained: Event) -> None:
    ledger = Ledger.open(mirror_of(url))
    with ledger.drive(), ledger.claim(DIGEST):
        ledger.register(TRIAL)
        ledger.set_state(DIGEST, "running")
        train_epoch(ledger, 1)
        while S3Store(url).read(f"trials/{DIGEST}/last.safetensors") is None:
            time.sleep(0.05)
        trained.set()
        time.sleep(600)


def test_killed_and_gone_on_with_from_an_empty_cache_at_once(s3_url: str, tmp_path: Path) -> None:
    trained = SPAWN.Event()
    other = SPAWN.Process(target=_train_for_ever, args=(s3_url, trained))
    other.start()
    assert trained.wait(120)
    os.kill(other.pid or 0, signal.SIGKILL)
    shutil.rmtree(tmp_path / "cache")
    ledger = Ledger.open(mirror_of(s3_url))
    with ledger.drive(), ledger.claim(DIGEST, wait_s=30):
        assert ledger.record(DIGEST).epochs == (row(1),)
        assert (ledger.folder(DIGEST) / "last.safetensors").read_bytes() == b"state 1"
    other.join()


def test_what_was_written_here_and_not_kept_is_kept_later(s3_url: str) -> None:
    ledger = Ledger.open(mirror_of(s3_url))
    with ledger.drive():
        ledger.register(TRIAL)
        write_json(ledger.workspace / "champion.json", {"name": "first"})
    write_json(ledger.workspace / "champion.json", {"name": "second"})  # as by a driver that is killed now
    again = Ledger.open(ledger.workspace)  # the store has the first, unchanged since: it does not come over the second
    assert b"second" in (again.workspace / "champion.json").read_bytes()
    with again.drive():
        pass
    assert b"second" in (S3Store(s3_url).read("champion.json") or b"")


def test_bringing_does_not_disturb_a_training_on_the_same_machine(s3_url: str) -> None:
    ledger = Ledger.open(mirror_of(s3_url))
    with ledger.claim(DIGEST):
        ledger.append_epoch(DIGEST, row(1))
        S3Store(s3_url).write(f"trials/{DIGEST}/epochs.jsonl", b"")  # whoever looks sees another version there
        Ledger.open(ledger.workspace)
        assert ledger.record(DIGEST).epochs == (row(1),)
    Ledger.open(ledger.workspace)
    assert ledger.record(DIGEST).epochs == ()


def test_gc_frees_the_store_and_runs_lists_it(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = write_plan(tmp_path, workspace=s3_url)
    study, ledger, trials = study_of(plan)
    with ledger.drive():
        for level, trial in enumerate(trials.values(), start=3):
            finish(study, ledger, trial, level)
            ledger.keep(ledger.folder(trial.digest))
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "second"))  # a machine that has no weights of its own
    assert main(["gc", str(plan), "--keep", "1", "--yes", "--json"]) == 0
    freed = json.loads(capsys.readouterr().out)
    # seeds 0, 1 and 2 are not of the best 1 of one/a; all 5 have ended
    assert freed["freed"] == freed["bytes"] == 3 * WEIGHT_BYTES + 5 * STATE_BYTES
    left = {listed.name.split("/")[1] for listed in S3Store(s3_url).list("trials/") if "safetensors" in listed.name}
    assert left == {trials["one/a-seed3"].digest, trials["one/b"].digest}
    assert main(["runs", s3_url, "--state", "finished", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 5


@pytest.mark.parametrize("url", ["s3://", "s3://B", "s3://bucket//x", "s3://-b-/x"])
def test_a_url_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(LedgerError, match=r"must be s3://BUCKET or s3://BUCKET/PREFIX"):
        mirror_of(url)


def test_a_store_that_refuses_or_is_gone_is_told_without_secrets(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LedgerError, match=r"no-such-bucket/x: the store refuses \(NoSuchBucket\); make the bucket"):
        Ledger.open(mirror_of("s3://no-such-bucket/x"))
    from orchestrator.storage import s3

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3._client.cache_clear()
    try:
        with pytest.raises(LedgerError, match=r"the store must answer, but Could not connect") as caught:
            Ledger.open(mirror_of(s3_url))
    finally:
        s3._client.cache_clear()
    assert "test-secret" not in str(caught.value) and "test-key" not in str(caught.value)
