"""What `orchestrator.plan.twins` calls one training is one: the same weights and scores, bit for bit."""

from __future__ import annotations

import torch
from bars import TINY, run, scores
from safetensors.torch import load_file

from detector.config import Config
from orchestrator.plan.settings import nested, overlay
from orchestrator.plan.study import Trial
from orchestrator.plan.twins import effective, idle

BASE = {
    "max_epochs": 2,
    "schedule": {"name": "constant", "warmup_epochs": 0.0},
    "loss": {"binary": 0.0, "thresh": 0.0},
    "accumulate": 2,
}
UNREAD = {  # each of them another value, and none of it read
    "schedule.final_ratio": 0.5,
    "schedule.warmup_epochs": 0.4,  # of one step an epoch: none
    "loss.k": 20.0,
    "targets.thresh_min": 0.1,
    "targets.thresh_max": 0.9,
    "patience": 1,
    "patience_from": 5,
    "postprocess.shrink_ratio": 0.7,
    "postprocess.epsilon": 0.1,
    "accumulate": 5,
    "crop_size": 64,
}


def test_settings_without_effect_have_none(pages, tmp_path):
    base = overlay(TINY.model_dump(mode="json"), BASE)
    one, other = (Config.model_validate(overlay(base, nested(changes))) for changes in ({}, UNREAD))
    trials = [Trial(name, name, "p", "e", config) for name, config in (("a", one), ("b", other))]
    assert effective(trials[0], 4) == effective(trials[1], 4)
    assert UNREAD.keys() - idle(other).keys() == {"schedule.warmup_epochs", "accumulate"}
    first, second = run(one, pages, tmp_path / "a"), run(other, pages, tmp_path / "b")
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)
    told = [[{k: v for k, v in row.items() if k != "loss_thresh" and k != "loss_binary"} for row in scores(rows)]
            for rows in (first, second)]  # fmt: skip
    assert told[0] == told[1]


def test_settings_that_are_read_stay_apart():
    base = Trial("a", "a", "p", "e", TINY)
    changed = [
        {"postprocess.unclip": "inverse"},
        {"postprocess.unclip": "inverse", "postprocess.shrink_ratio": 0.5},
        {"postprocess.shape": "polygon", "postprocess.epsilon": 0.01},
        {"schedule.final_ratio": 0.5},
        {"loss.k": 20.0},
        {"max_epochs": 9, "patience": 2},
        {"max_epochs": 9, "patience": 2, "patience_from": 5},
        {"batch_size": 1, "accumulate": 2},
        {"crop_size": 32},
        {"seed": 1},
    ]
    seen = [effective(base, 40)]
    for changes in changed:
        config = Config.model_validate(overlay(TINY.model_dump(mode="json"), nested(changes)))
        found = effective(Trial("b", "b", "p", "e", config), 40)
        assert found not in seen, changes
        seen.append(found)
