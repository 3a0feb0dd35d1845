"""Submissions as they would be kept, made up."""

from __future__ import annotations

from detector.config import Postprocess
from orchestrator.evaluation.local import Local
from orchestrator.evaluation.submitted import FileFacts, Made, Submission


def model(thresh: float, *members: str) -> dict:
    rows = [{"digest": name, "weight": 1.0} for name in members or ("m",)]
    rule = Postprocess(thresh=thresh).model_dump(mode="json")
    digest = f"{'-'.join(members)}@{thresh}"
    head = {"kind": "bundle", "digest": digest, "views": ["identity"], "fusion": "mean"}
    return head | {"members": rows, "postprocess": rule}


def sent(number: int, hmean: float, local: float | None, made: dict | None = None, board: str = "public") -> Submission:
    facts = FileFacts(f"sha{number}", f"content{number}", 400, 40_000)
    here = None if local is None else Local("cross-fitted", local, local, local, "val", (local - 0.01, local + 0.01), 2)
    by = None if made is None else Made(facts, made, "phase/e", "x.csv", "")
    at = f"2026-11-{number:02d}T12:00:00+00:00"
    return Submission(number, at, board, "x.csv", facts, hmean, hmean, hmean, "", "me", by, here)
