"""The scatter of scores over images: exact on drawn tables, read from a ledger, and told by `check`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from detector.metrics.cleval import Counts
from orchestrator.__main__ import main
from orchestrator.evaluation.scatter import BEST, RHO, SCORES_FORMAT, SD, of_stats, scatter
from orchestrator.ledger import Ledger
from orchestrator.plan.expand import expand
from orchestrator.plan.loading import load


def test_scatter_and_correlation_are_those_of_the_table() -> None:
    # Differences +-.1 with variance .01 x 8 / 7, each model (.04 + .0025) x 8 / 7: rho = 1 - var(d) / (2 var) = .882.
    base = np.array([0.3, 0.7] * 4)
    shift = np.array([0.05, 0.05, -0.05, -0.05] * 2)
    one, other = base + shift, base - shift
    found = of_stats([one, other], [one, other])
    assert found.sd == pytest.approx((0.0425 * 8 / 7) ** 0.5)
    assert found.rho == pytest.approx(1 - 0.01 / (2 * 0.0425)) == pytest.approx(np.corrcoef(one, other)[0, 1])
    # 2.802 x sd(difference) / sqrt(8), sd(difference) = .1 x sqrt(8 / 7)
    assert found.smallest(8).value == pytest.approx(2.8016 * 0.1 * (8 / 7) ** 0.5 / 8**0.5, rel=1e-3)
    assert found.smallest(8).why == "scatter 0.2204 an image, correlation 0.88, measured on 2 trainings"


def test_too_little_is_known_or_nothing_scatters() -> None:
    values = np.linspace(0, 1, 8)
    for tables in ([values], [values, values], [np.full(8, 0.5)] * 3, [values[:7], 1 - values[:7]]):
        found = of_stats(tables, tables)
        assert (found.sd, found.rho, found.trainings) == (SD, RHO, 0)


def test_the_best_speak_for_the_rest() -> None:
    random = np.random.default_rng(0)
    good = [0.9 + 0.01 * random.standard_normal(50) for _ in range(BEST)]
    wild = [0.2 + 0.2 * random.standard_normal(50) for _ in range(5)]
    assert of_stats([*wild, *good], [*wild, *good]) == of_stats(good, good)


def test_check_holds_expectations_against_what_the_ledger_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        f"roadmap: r\nworkspace: {tmp_path / 'w'}\ndata: {{synthetic: {{train: 2, val: 8, size: 160}}}}\n"
        "phases:\n  - id: one\n    experiments:\n      - {id: baseline}\n"
        "      - {id: b, set: {seed: 1}, expect: {hmean: +0.02, recall: +0.5}}\n"
    )

    def warnings() -> list[str]:
        assert main(["check", str(path), "--json"]) == 0
        return list(json.loads(capsys.readouterr().out)["warnings"])

    study = expand(load(path))
    # Assumed: 2.802 x .03 x sqrt(.6 / 8) = .0230.
    assert [w for w in warnings() if "|effect| >= 0.0230` should hold on 8 validation images" in w and "assumed" in w]
    ledger, key = Ledger.open(study.workspace), f"val-0123456789abcdef-competition-{SCORES_FORMAT}"
    for item, flip in zip(study.phases[0].experiments, (1, -1), strict=True):
        trial = item.trials[0]
        ledger.register(trial)
        ledger.set_state(trial.digest, "finished", "budget")
        hits = [800 + flip * (3 if page % 2 else -3) + 40 * (page // 4) for page in range(8)]
        table = {
            f"{page}": asdict(Counts(chars_gt=1000, chars_det=1000, chars_hit=hit)) for page, hit in enumerate(hits)
        }
        ledger.put_scores(trial.digest, key, table)
    # H differs by +-.006: sd .006 x sqrt(8 / 7) = .00641; 2.802 x .00641 / sqrt(8) = .0064 < .02: nothing to say.
    folders = [ledger.folder(item.trials[0].digest) for item in study.phases[0].experiments]
    found = scatter(folders, 8, f"-competition-{SCORES_FORMAT}")["hmean"]
    assert found.smallest(8).value == pytest.approx(0.00635, abs=1e-4) and found.trainings == 2
    assert warnings() == []
    path.write_text(path.read_text().replace("+0.02", "+0.006"))
    (warning,) = warnings()
    assert "|effect| >= 0.0064` should hold on 8 validation images (found 80 % of the time; scatter 0.02" in warning
    assert "measured on 2 trainings), got 0.0060; add validation pages or seeds" in warning
