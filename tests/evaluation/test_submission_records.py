"""What a leaderboard said, kept beside what is known here: the records."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sent import model, sent

from orchestrator.evaluation.local import Local
from orchestrator.evaluation.submitted import add_submission, file_facts, submissions


def test_records_are_appended_by_many_at_once(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); "
        "from orchestrator.evaluation.submitted import *; "
        "facts = FileFacts('s', 'c', 1, 1); at = '2026-11-01T00:00:00+00:00'; "
        "one = Submission(0, at, 'public', 'x', facts, .9, .9, .9, '', '', None, None)\n"
        "for _ in range(10): add_submission(Path(sys.argv[1]), one)"
    )
    root = Path(__file__).resolve().parents[2]
    runs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(root)]) for _ in range(2)]
    assert [run.wait(200) for run in runs] == [0, 0]
    assert [one.number for one in submissions(tmp_path)] == list(range(1, 21))
    whole = sent(1, 0.9, 0.8, model(0.3))
    assert replace(add_submission(tmp_path, whole), number=1) == whole
    both = replace(whole, outoffold=Local("own rule", 0.85, 0.9, 0.8, "train", (), 600))
    assert replace(add_submission(tmp_path, both), number=1) == both
    # a record of an earlier version, which knew of no out-of-fold scores
    path = tmp_path / "submissions" / "000022.json"
    older = json.loads(path.read_text())
    del older["outoffold"]
    path.write_text(json.dumps(older))
    assert replace(submissions(tmp_path)[-1], number=1) == whole


@settings(deadline=None, max_examples=20)
@given(
    st.permutations(["a.png,1 2 3 4 5 6", "b.png,", "c.png,1 1 2 2 3 1|4 4 5 5 6 4"]), st.sampled_from(["\n", "\r\n"])
)
def test_a_file_is_known_whatever_its_lines_order_and_ends(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str
):
    folder = tmp_path_factory.mktemp("facts")
    (folder / "x.csv").write_bytes(end.join(["filename,polygons", *lines, ""]).encode())
    (folder / "y.csv").write_text("filename,polygons\na.png,1 2 3 4 5 6\nb.png,\nc.png,1 1 2 2 3 1|4 4 5 5 6 4\n")
    (folder / "z.csv").write_text("filename,polygons\na.png,1 2 3 4 5 7\nb.png,\nc.png,1 1 2 2 3 1|4 4 5 5 6 4\n")
    mine, same, other = (file_facts(folder / f"{name}.csv") for name in "xyz")
    assert mine.content == same.content != other.content
    assert (mine.images, mine.boxes) == (3, 3)
