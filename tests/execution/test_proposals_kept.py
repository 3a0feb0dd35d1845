"""What the ledger keeps of a sweep's proposals, so that a run cut anywhere goes on as if undisturbed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import SPACE, drive, end_of, rows_of, seven
from studies import make_sweep, make_swept_study

from orchestrator.errors import LedgerError
from orchestrator.execution.proposing import Proposing, next_point, seen_by
from orchestrator.ledger import Ledger
from orchestrator.plan.points import Drawn, draw
from orchestrator.plan.proposals import Outcome, Refused, read_left_out, read_proposals, with_proposals
from orchestrator.plan.space import axes_of
from orchestrator.plan.study import Experiment


def test_a_run_cut_anywhere_goes_on_as_if_undisturbed(tmp_path: Path) -> None:
    alone, cuts = tmp_path / "alone", list[Path]()

    def keep() -> None:
        cuts.append(tmp_path / f"cut{len(cuts)}")
        shutil.copytree(alone, cuts[-1])

    drive(alone, keep, failing=4)
    expected = end_of(alone)
    (kept,) = (value for name, value in expected.items() if name.endswith(".json"))
    assert [row["by"] for row in kept["proposals"]] == ["tpe"] * 4
    states = [value[0] for name, value in expected.items() if not name.endswith(".json")]
    assert set(states) == {"failed", "finished", "pruned"} and len(states) == 7
    assert len(cuts) > 25
    for cut in cuts:
        drive(cut, failing=4)
        assert end_of(cut) == expected, cut.name


def test_each_proposal_follows_from_what_the_ledger_says_it_saw(tmp_path: Path) -> None:
    drive(tmp_path / "w", failing=4)
    rule = seven().proposals
    assert rule is not None
    rows = rows_of(tmp_path / "w", rule)
    points = [*draw(axes_of(SPACE), 3, 0), *(Drawn(row.point, row.picks) for row in rows)]
    for number, row in enumerate(rows):
        seen = seen_by(rows, number, rule.starts)
        assert list(seen) == list(range(row.index))
        history = [(points[index], outcome) for index, outcome in seen.items()]
        found = next_point(rule, history)
        assert found is not None and (found.drawn, found.by) == (points[row.index], row.by)
    assert seen_by(rows, 3, rule.starts)[4] == Outcome("failed")
    # news are told once: the failed trial in the row after it alone
    assert [4 in row.news for row in rows] == [False, False, True, False]


def test_more_trials_keep_those_that_were_proposed_and_fewer_take_the_first(ledger: Ledger) -> None:
    def known(trials: int) -> list[str]:
        study = with_proposals(make_swept_study(ledger, seven(trials)), ledger.proposals)
        (experiment,) = study.phases[0].experiments
        assert len(experiment.unproposed) == trials - len(experiment.trials)
        return [trial.digest for trial in experiment.trials]

    drive(ledger.workspace)
    made = known(7)
    assert len(made) == 7 and known(30) == made and known(5) == made[:5]


def test_a_file_that_holds_something_else_is_told(ledger: Ledger) -> None:
    study = make_swept_study(ledger, make_sweep(SPACE, trials=10, starts=5))
    (experiment,) = study.phases[0].experiments
    assert experiment.proposals is not None
    sweep = experiment.proposals.sweep
    Proposing(experiment, study, ledger).make()
    kept = ledger.proposals(sweep)
    wrong: list[Any] = [
        [],
        {"format": 3, "proposals": []},
        kept | {"proposals": [kept["proposals"][0] | {"index": 7}]},
    ]
    for value in wrong:
        ledger.put_proposals(sweep, value)
        with pytest.raises(LedgerError, match=f"sweeps/{sweep}.json.*remove the file to have"):
            with_proposals(study, ledger.proposals)


# --- what did not become a trial -------------------------------------------------------------------------------------

# Crops of 1280 px do not fit pages of 64 (`crop_size <= 4 x image_size`), and the space is small: so both points that
# are known and points whose settings do not fit come up.
NARROW: dict[str, Any] = {"image_size": [64, 320, 640], "crop_size": [0, 1280], "batch_size": [2, 4]}


def narrow() -> Experiment:
    """All ten points that fit, two of them at random; the seed is one whose random points all fit."""
    for seed in range(1000):
        points = [drawn.point for drawn in draw(axes_of(NARROW), 9, seed)]
        if not any(point["image_size"] == 64 and point["crop_size"] for point in points):
            return make_sweep(NARROW, trials=9, starts=2, epochs=3, seed=seed)
    raise AssertionError


def test_refused_points_are_kept_with_their_reasons_and_asked_for_again_come_again(tmp_path: Path) -> None:
    alone, cuts = tmp_path / "alone", list[Path]()

    def keep() -> None:
        cuts.append(tmp_path / f"cut{len(cuts)}")
        shutil.copytree(alone, cuts[-1])

    drive(alone, keep, sweep=narrow())
    rule = narrow().proposals
    assert rule is not None
    rows = rows_of(alone, rule)
    met = [one for row in rows for one in row.refused]
    misfit = "`crop_size <= 4 x image_size` must hold, got 1280 and 64"
    assert {one.why for one in met} == {"known", misfit}
    assert all((one.why == misfit) == (one.point["image_size"] == 64 and one.point["crop_size"] > 0) for one in met)
    # By the ledger alone, its refused points included, the same is proposed and the same refused.
    points = [*draw(axes_of(rule.space), rule.starts, rule.seed), *(Drawn(row.point, row.picks) for row in rows)]
    for number, row in enumerate(rows):
        told = {Drawn(one.point, one.point).name: one.why for one in row.refused if one.why != "known"}
        history = [(points[index], outcome) for index, outcome in seen_by(rows, number, rule.starts).items()]
        found = next_point(rule, history, lambda drawn, told=told: told.get(drawn.name, ""))  # type: ignore[misc]
        assert found is not None
        assert (found.drawn, found.by, found.refused) == (points[row.index], row.by, row.refused)
    # ... and so after a death anywhere.
    expected = end_of(alone)
    for cut in cuts[:: max(1, len(cuts) // 12)]:
        drive(cut, sweep=narrow())
        assert end_of(cut) == expected, cut.name


def test_what_an_earlier_version_kept_is_read(ledger: Ledger) -> None:
    study = make_swept_study(ledger, make_sweep(SPACE, trials=10, starts=5))
    (experiment,) = study.phases[0].experiments
    assert experiment.proposals is not None
    Proposing(experiment, study, ledger).make()
    kept = ledger.proposals(experiment.proposals.sweep)
    (row,) = read_proposals(kept, experiment.proposals)
    kept["proposals"][0]["refused"] = [{"point": {"batch_size": 2}, "why": "same training"}]
    assert read_proposals(kept, experiment.proposals)[0].refused == (Refused({"batch_size": 2}, "same training"),)
    # it knew neither of refused points nor of limits
    del kept["proposals"][0]["refused"], kept["left_out"]
    assert read_proposals(kept | {"format": 1}, experiment.proposals) == (replace(row, refused=()),)
    assert read_left_out(kept) == ()
