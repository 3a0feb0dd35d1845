"""Soups as members: drawn maps, so that every score is known beforehand, and no Ray (`drawn.py`).

Model A never finds the first of four words, its soup finds all. H of A is 6/7, of the soup 1.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import CONFIG, draw_maps

from detector import checkpoint
from detector.data.formats import read_submission
from detector.errors import InputError
from detector.files import write_json
from detector.inference.described import describe
from detector.inference.predict import Predictor, words_of_page
from detector.model.detector import build as build_model
from detector.types import Page
from orchestrator.evaluation.champion import crown
from orchestrator.evaluation.ensemble import build, fused
from orchestrator.evaluation.local import local_of
from orchestrator.evaluation.maps import ensure_maps
from orchestrator.evaluation.models import named_model
from orchestrator.evaluation.review import review
from orchestrator.evaluation.scores import evaluate
from orchestrator.evaluation.soups import candidates, soups_of
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Experiment, Study, Trial
from orchestrator.report.page import write

A, B = "a" * 16, "b" * 16
TRIED = [{"epoch": 7, "hmean": 0.5, "soup_hmean": 0.5, "kept": True}] * 3


@pytest.fixture
def souped(made: tuple[Study, Ledger], pages: tuple[Page, ...]) -> tuple[Study, Ledger]:
    """The study in which A has a soup, and B one that is its best checkpoint."""
    study, ledger = made
    soup = ledger.folder(A) / "soup"
    checkpoint.save(soup, build_model(CONFIG.model_copy(update={"seed": 9})), CONFIG)
    write_json(ledger.folder(A) / "soup.json", {"format": 1, "epochs": [7, 5], "tried": TRIED, "lost": []})
    (ledger.folder(B) / "soup").symlink_to(ledger.folder(B) / "best")
    stand_in = Trial("f" * 16, "", "", "", CONFIG)  # its maps are those of the soup's weights
    ledger.folder(stand_in.digest).mkdir()
    (ledger.folder(stand_in.digest) / "best").symlink_to(soup)
    draw_maps(ledger, stand_in, pages, ())
    return study, ledger


def ensemble(study: Study, **changes: object) -> Experiment:
    item = study.phases[0].experiments[3]
    assert item.ensemble is not None
    return replace(item, ensemble=replace(item.ensemble, **changes))  # type: ignore[arg-type]


def test_soups_are_scored_beside_the_trials_and_change_no_ranking(souped: tuple[Study, Ledger]) -> None:
    study, ledger = souped
    assert review(study, ledger, frozenset({"p"})).left == ("p/a", "p/b", "p/c")
    board = evaluate(study, ledger)
    assert set(board.soups) == {A} and board.soups[A].mean("hmean") == pytest.approx(1.0)
    assert board.scores[A].mean("hmean") == pytest.approx(6 / 7)
    assert [trial.experiment for trial in board.ranked(board.trials.values())] == ["a", "b", "c"]
    again = evaluate(study, ledger, compute=False)
    assert again.soups[A].counts == board.soups[A].counts
    (ledger.folder(A) / "scores" / next(n for n in _names(ledger) if n.startswith("soup-"))).unlink()
    assert "p/a+soup" in review(study, ledger, frozenset({"p"})).left


def _names(ledger: Ledger) -> list[str]:
    return [path.name for path in (ledger.folder(A) / "scores").iterdir()]


def test_candidates_are_trials_with_soups_beside_or_instead(souped: tuple[Study, Ledger]) -> None:
    study, ledger = souped
    board = evaluate(study, ledger)
    found = {}
    for way in ("none", "beside", "instead"):
        spec = ensemble(study, soups=way).ensemble
        assert spec is not None
        found[way] = [one.name for one in candidates(study, board, spec, "p")]
    assert found == {
        "none": ["p/a", "p/b", "p/c"],
        "beside": ["p/a", "p/a+soup", "p/b", "p/c"],
        "instead": ["p/a+soup", "p/b", "p/c"],
    }


def test_what_is_known_of_a_soup(souped: tuple[Study, Ledger]) -> None:
    study, ledger = souped
    board = evaluate(study, ledger)
    trials = [item.trials[0] for item in study.phases[0].experiments[:3]]
    (soup,) = soups_of(trials, board, ledger)
    assert (soup.trial.digest, soup.epochs, soup.tried) == (A, (7, 5), 3)
    assert soup.gain is not None and soup.gain.mean == pytest.approx(1 / 7) and soup.gain.above_zero
    assert soup.gain.level == pytest.approx(1 - 0.05 / 2)  # two epochs were picked or not
    text = write(review(study, ledger, frozenset({"p"})), ledger)[0].read_text("utf-8")
    assert "## Soups" in text and "| p/a | 7, 5 | 3 |" in text and "surely better" in text


def test_a_soup_alone_is_held_against_its_trial_and_may_become_champion(
    souped: tuple[Study, Ledger],
    pages: tuple[Page, ...],
) -> None:
    study, ledger = souped
    board = evaluate(study, ledger)
    item = ensemble(study, soups="instead", pool=("a",), max_members=1)
    assert build(ensemble(study, soups="none", pool=("a",), max_members=1), study, ledger, board) is None
    result = build(item, study, ledger, board)
    assert result is not None and result.submission is not None
    assert [(member.name, member.trial, member.soup) for member in result.members] == [("p/a+soup", A, True)]
    assert result.gain.mean == pytest.approx(1 / 7) and result.recommended and result.rival == "p/a"
    weights = ledger.model(A, soup=True)
    about = describe(result.folder)
    assert about.members == ((weights, 1.0),) and weights != ledger.model(A)
    # the file is what the soup's own maps say, not those of the best checkpoint
    rows = read_submission(result.submission)
    stores = ensure_maps([ledger.best(A, soup=True)], pages, ledger.workspace)
    for page in pages:
        wanted = words_of_page(fused({"identity": stores}, [1.0])(page.name), result.rule).polygons
        assert len(rows[page.name]) == 4
        np.testing.assert_array_equal(rows[page.name], np.floor(np.array(wanted) + 0.5))
    again = build(item, study, ledger, board, compute=False)
    assert again is not None and again.members == result.members and again.as_json() == result.as_json()
    champion = crown(study, ledger, board, [result])
    assert champion is not None and (champion.kind, champion.name) == ("ensemble", "p/both")
    assert champion.why.startswith("p/a+soup; H, cross-fitted, against the best single model p/a: +0.1429")
    local = local_of(ledger.workspace, about.as_json())
    assert local is not None and local.what == "cross-fitted" and local.hmean == pytest.approx(1.0)


def test_a_soup_beside_other_members_is_one_of_them(souped: tuple[Study, Ledger]) -> None:
    study, ledger = souped
    board = evaluate(study, ledger)
    result = build(ensemble(study, soups="beside", pool=("a", "b")), study, ledger, board)
    assert result is not None and result.anatomy is not None
    # The best two are the soup and A: their mean has the first word at 128, found at thresh .3 and .4.
    assert {member.name for member in result.members} >= {"p/a+soup"} and len(result.members) >= 2
    assert {one.name for one in result.anatomy.members} == {member.name for member in result.members}
    assert result.crossfitted.mean("hmean") == pytest.approx(1.0)
    members = Predictor.load(result.folder, "cpu").members
    assert len(members) == len(result.members)
    # other candidates are another result
    other = ensemble(study, soups="instead", pool=("a", "b"))
    assert build(other, study, ledger, board, compute=False) is None


def test_a_soup_has_a_name(souped: tuple[Study, Ledger], tmp_path: Path) -> None:
    study, ledger = souped
    workspace = ledger.workspace
    assert named_model(workspace, "p/a+soup") == named_model(workspace, f"{A}+soup") == ledger.folder(A) / "soup"
    assert named_model(workspace, "a+soup") == ledger.folder(A) / "soup"
    with pytest.raises(InputError, match=r"c\+soup: must be the soup of one trial, but 0 of 1 have one; only a trial"):
        named_model(workspace, "c+soup")
    with pytest.raises(InputError, match="no finished model is called `x`"):
        named_model(workspace, "x+soup")
    board = evaluate(study, ledger)
    local = local_of(workspace, describe(ledger.folder(A) / "soup").as_json())
    assert local is not None and local.what == "own rule"
    assert local.hmean == pytest.approx(board.soups[A].mean("hmean"))
