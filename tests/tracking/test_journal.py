"""The journal: what is written stays, once, whatever kills the writer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import LedgerError
from orchestrator.plan.study import Study
from orchestrator.records import EpochRow, TrialRecord
from orchestrator.tracking.events import Event, plain, read_events
from orchestrator.tracking.facts import environment, scrub
from orchestrator.tracking.journal import Journal, Recorder

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def kinds(workspace: Path) -> list[str]:
    return [event.kind for event, _ in read_events(workspace / "journal.jsonl")]


@given(st.text(), st.dictionaries(st.text().filter(lambda k: k not in {"seq", "time_ms", "kind", "key"}), JSON))
def test_a_line_holds_its_event_whatever_the_text(tmp_path_factory: pytest.TempPathFactory, key: str, payload: dict):
    path = tmp_path_factory.getbasetemp() / "line.jsonl"
    event = Event(1, 5, "kind", key.encode("utf-8", "replace").decode(), json.loads(json.dumps(payload)))
    path.write_bytes(event.line())
    assert [found for found, _ in read_events(path)] == [event]
    assert event.line().count(b"\n") == 1


def test_events_are_written_once_and_survive_reopening(tmp_path: Path):
    with Journal(tmp_path) as journal:
        assert journal.append("epoch", "a/1", {"metrics": {"hmean": 0.5}})
        assert not journal.append("epoch", "a/1", {"metrics": {"hmean": 0.6}})
    with Journal(tmp_path) as journal:
        assert not journal.append("epoch", "a/1", {})
        assert journal.append("epoch", "a/2", {})
    events = [event for event, _ in read_events(tmp_path / "journal.jsonl")]
    assert [(event.seq, event.kind, event.key) for event in events] == [
        (1, "journal", "id"),
        (2, "epoch", "a/1"),
        (3, "epoch", "a/2"),
    ]
    assert events[1].payload == {"metrics": {"hmean": 0.5}}


def test_content_is_written_again_only_where_it_changed(tmp_path: Path):
    with Journal(tmp_path) as journal:
        written = [journal.append_changed("phase", "p1", {"what": what}) for what in ("a", "a", "b", "a")]
        assert written == [True, False, True, True]
        assert journal.append_changed("phase", "p2", {"what": "a"})
    with Journal(tmp_path) as journal:
        assert not journal.append_changed("phase", "p1", {"what": "a"})


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(min_value=1, max_value=60))
def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int):
    folder = tmp_path_factory.mktemp("torn")
    with Journal(folder) as journal:
        journal.append("epoch", "1", {"text": "영수증"})
        whole = journal.path.stat().st_size
        journal.append("epoch", "2", {"text": "영수증" * 5})
    data = journal.path.read_bytes()
    journal.path.write_bytes(data[: max(whole, len(data) - cut)])
    assert kinds(folder) == ["journal", "epoch"]
    with Journal(folder) as journal:
        assert journal.append("epoch", "2", {})
    assert [event.seq for event, _ in read_events(journal.path)] == [1, 2, 3]


def test_a_block_of_zeros_at_the_end_is_torn_and_one_inside_is_damage(tmp_path: Path):
    with Journal(tmp_path) as journal:
        journal.append("epoch", "1", {})
    data = journal.path.read_bytes()
    journal.path.write_bytes(data + b"\0" * 20)
    with Journal(tmp_path) as journal:
        journal.append("epoch", "2", {})
    data = journal.path.read_bytes()
    lines = data.splitlines(keepends=True)
    journal.path.write_bytes(lines[0] + b"{}\n" + lines[2])
    with pytest.raises(LedgerError, match=rf"journal\.jsonl: byte {len(lines[0])}: .*restore"):
        Journal(tmp_path)


def test_there_is_one_writer(tmp_path: Path):
    with Journal(tmp_path), pytest.raises(LedgerError, match="one driver at a time"):
        Journal(tmp_path)
    Journal(tmp_path).close()


def test_an_offset_reads_what_came_after_it(tmp_path: Path):
    with Journal(tmp_path) as journal:
        [(_, offset)] = read_events(journal.path)
        journal.append("epoch", "1", {})
        assert [event.key for event, _ in read_events(journal.path, offset)] == ["1"]


def test_values_become_plain_json():
    value = {"path": Path("a/b"), 3: np.float32(0.5), "nan": math.nan, "array": np.arange(2), "set": {"b", "a"}}
    assert plain(value) == {"path": "a/b", "3": 0.5, "nan": None, "array": [0, 1], "set": ["a", "b"]}
    with pytest.raises(TypeError, match="plain values, got object"):
        plain(object())


def test_a_payload_may_not_use_the_names_of_the_event(tmp_path: Path):
    with Journal(tmp_path) as journal, pytest.raises(ValueError, match="rename"):
        journal.append("epoch", "1", {"seq": 4})


def test_telling_everything_twice_adds_only_the_new_attempt(study: Study, play: Callable[[Study], None]):
    play(study)
    before = kinds(study.workspace)
    play(study)
    after = kinds(study.workspace)
    assert after[: len(before)] == before
    # A second driver begins (attempt) and ends (finished): nothing else is new.
    assert after[len(before) :] == ["attempt", "finished"]
    assert before.count("epoch") == 3 + 3 + 1


def test_the_gap_of_a_killed_driver_is_closed_when_the_ledger_is_told_again(study: Study):
    trial = study.phases[0].experiments[0].trials[0]
    epochs = tuple(EpochRow(n, {"hmean": 0.9, "epoch_seconds": float(n)}, 1.0, n) for n in (1, 2))
    record = TrialRecord(trial.digest, "finished", epochs, epochs[0].metrics, 1, 2.0, "budget")
    with Journal(study.workspace) as journal:
        recorder = Recorder(journal, study)
        recorder.trial_started(trial)
        recorder.epoch(trial, epochs[0])
    with Journal(study.workspace) as journal:
        recorder = Recorder(journal, study)
        for row in record.epochs:  # the first again, as measured by a slower clock
            recorder.epoch(trial, replace(row, seconds=9.0, metrics={"hmean": 0.9, "epoch_seconds": 9.0}))
        recorder.trial_ended(trial, record)
        recorder.trial_ended(trial, record)
    assert kinds(study.workspace) == ["journal", "trial_started", "epoch", "epoch", "trial_ended"]


def test_secrets_of_the_environment_stay_out(
    study: Study, play: Callable[[Study], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_API_TOKEN", "resolved-into-the-plan")
    monkeypatch.setenv("HARMLESS", "not recorded either")
    play(replace(study, source="key: resolved-into-the-plan"))
    text = (study.workspace / "journal.jsonl").read_text(encoding="utf-8")
    for secret in ("resolved-into-the-plan", "hunter2", "not recorded either", "HARMLESS"):
        assert secret not in text
    assert "key: <MY_API_TOKEN>" in text
    assert "postgresql://<login>@db/x" in text


def test_scrubbing_leaves_other_text_alone():
    environ = {"A_TOKEN": "1", "DB_PASSWORD": "correct horse"}
    assert scrub({"n": 1, "t": ["1 correct horse", "https://host/a@b"]}, environ) == {
        "n": 1,
        "t": ["1 <DB_PASSWORD>", "https://host/a@b"],
    }


def test_the_environment_names_what_reproducing_needs():
    facts = environment()
    assert set(facts) == {
        *("python", "implementation", "platform", "machine", "cpu", "cpus", "memory_gib", "gpus", "packages")
    }
    assert facts["packages"]["torch"].startswith("2.")
