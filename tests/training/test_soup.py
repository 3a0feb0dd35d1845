"""Kept epochs and their soup: against plain twins, and through real trainings that are killed on the way."""

from __future__ import annotations

import json
import shutil
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
import torch
from bars import TINY, run, scores, two_ranks
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import load_file
from torch.nn.modules.batchnorm import _BatchNorm

from detector import checkpoint
from detector.config import Config, Optimizer, Postprocess
from detector.model.detector import build
from detector.training.kept import KEPT, Kept, with_epoch
from detector.training.soup import averaged, greedy, measure_statistics, mix, statistics_batches
from detector.training.validation import Validator
from detector.training.world import World

# A learning rate so high that the scores of its epochs go up and down, and averaging them helps.
ROUGH = {"optimizer": Optimizer(lr=2e-2), "postprocess": Postprocess(thresh=0.2, box_thresh=0.2), "ema": 0.5}
PLAIN = TINY.model_copy(update={**ROUGH, "batch_size": 1, "max_epochs": 6})
SOUPY = PLAIN.model_copy(update={"keep_epochs": 3})
WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 7), st.integers(1, 20)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_nan=False, allow_subnormal=False),
)


@given(WEIGHTS)
def test_the_average_is_that_of_a_plain_twin(weights_KN):
    states = [{"w": torch.from_numpy(row), "n": torch.tensor(number)} for number, row in enumerate(weights_KN)]
    found = averaged(states)
    # not sum(), which compensates its rounding
    plain = [np.float32(reduce(add, map(float, column)) / len(column)) for column in weights_KN.T]
    assert_array_equal(found["w"].numpy(), np.array(plain, dtype=np.float32))
    assert found["w"].dtype == torch.float32 and found["n"] == 0


@given(WEIGHTS, st.integers(1, 9))
def test_the_average_of_equal_weights_is_these_weights(weights_KN, times):
    row = torch.from_numpy(weights_KN[0].copy())
    found = averaged([{"w": row}] * times)["w"]
    assert_array_equal(found.numpy().view(np.uint32), row.numpy().view(np.uint32))


def test_a_soup_of_equal_checkpoints_is_that_checkpoint(pages):
    model, pot = build(TINY), build(TINY.model_copy(update={"seed": 1}))
    with torch.no_grad():
        for norm in (module for module in model.modules() if isinstance(module, _BatchNorm)):
            norm.running_mean.normal_()
    state = model.state_dict()
    mix(pot, [state, state, state], iter(()))
    assert all(torch.equal(tensor, state[name]) for name, tensor in pot.state_dict().items())


def test_statistics_are_those_of_a_plain_pass(pages):
    # Batches of 2 of 6 pages: every norm's mean and unbiased variance of each batch, averaged over the 3 batches.
    model = build(TINY).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    seen: dict[str, list[np.ndarray]] = {name: [] for name in norms}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].numpy().copy()))
    batches = list(statistics_batches(pages[:6], TINY))
    assert [len(batch) for batch in batches] == [2, 2, 2]
    measure_statistics(model, batches)
    assert len(norms) > 5 and all(len(inputs) == 3 for inputs in seen.values())
    for name, norm in norms.items():
        mean_C = np.mean([x_BCHW.mean((0, 2, 3), dtype=np.float64) for x_BCHW in seen[name]], axis=0)
        var_C = np.mean([x_BCHW.var((0, 2, 3), dtype=np.float64, ddof=1) for x_BCHW in seen[name]], axis=0)
        assert_allclose(norm.running_mean.numpy(), mean_C, rtol=1e-4, atol=1e-5)
        assert_allclose(norm.running_var.numpy(), var_C, rtol=1e-4, atol=1e-6)
        assert norm.momentum == 0.1 and not norm.training
    names = {name for name, _ in model.named_parameters()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items() if name in names)


def test_statistics_pages_are_whole_batches_without_distortions(pages):
    wild = TINY.model_copy(update={"augment": TINY.augment.model_copy(update={"rotate_deg": 90.0, "noise": 1.0})})
    first, again = (list(statistics_batches(pages, config, most=5)) for config in (TINY, wild))
    assert [len(batch) for batch in first] == [2, 2]  # 7 pages, at most 5, in batches of 2
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    few = list(statistics_batches(pages[:3], TINY.model_copy(update={"batch_size": 8})))
    assert [len(batch) for batch in few] == [3]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.lists(st.floats(0, 1), min_size=256, max_size=256))
def test_a_soup_never_scores_below_the_best_epoch(own, table):
    offered = [Kept(epoch, hmean, epoch) for epoch, hmean in enumerate(sorted(own, reverse=True))]

    def score(inside):  # any score at all for each set of epochs
        return table[sum(2**one.epoch for one in inside) % 256]

    rows = greedy(offered, score)
    assert [row.epoch for row in rows] == list(range(len(own))) and rows[0].kept
    soup, inside = rows[0].hmean, [offered[0]]
    for one, row in zip(offered[1:], rows[1:], strict=True):
        assert row.soup_hmean == score([*inside, one])
        assert row.kept == (row.soup_hmean >= soup)
        if row.kept:
            soup, inside = row.soup_hmean, [*inside, one]
    assert soup >= max(own)


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=12), st.integers(0, 4), st.data())
def test_the_best_epochs_are_kept_though_a_training_is_killed(hmeans, most, data):
    saved: tuple[Kept, ...] = ()
    disk: dict[int, int] = {}  # slot -> the epoch whose weights lie there
    epoch = 1
    while epoch <= len(hmeans):
        after = with_epoch(saved, epoch, hmeans[epoch - 1], most)
        for one in after:
            if one.epoch == epoch:
                assert one.slot not in {old.slot for old in saved} and one.slot <= most
                disk[one.slot] = epoch
        assert all(disk[one.slot] == one.epoch for one in saved)  # whatever the last state names is there
        if data.draw(st.booleans(), label="killed before the state is saved"):
            continue
        saved, epoch = after, epoch + 1
    best = sorted(range(1, len(hmeans) + 1), key=lambda number: (-hmeans[number - 1], number))[:most]
    assert [one.epoch for one in saved] == best


def record(folder: Path) -> dict:
    return json.loads((folder / "soup.json").read_text())


def test_a_training_ends_with_a_soup_and_is_otherwise_what_it_was(pages, tmp_path):
    plain = run(PLAIN, pages, tmp_path / "plain")
    epochs = run(SOUPY, pages, tmp_path / "soupy")
    assert scores(epochs) == scores(plain)
    for name in ("last.safetensors", "best/model.safetensors"):
        a, b = (load_file(tmp_path / folder / name) for folder in ("plain", "soupy"))
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert not (tmp_path / "plain" / "soup.json").exists() and not (tmp_path / "soupy" / KEPT).exists()
    made = record(tmp_path / "soupy")
    ranked = sorted(epochs, key=lambda epoch: (-epoch.metrics["hmean"], epoch.number))[:3]
    assert [(row["epoch"], row["hmean"]) for row in made["tried"]] == [(e.number, e.metrics["hmean"]) for e in ranked]
    assert made["hmean"] > made["best_hmean"] == ranked[0].metrics["hmean"] and made["lost"] == []
    assert made["epochs"] == [row["epoch"] for row in made["tried"] if row["kept"]] and len(made["epochs"]) > 1
    model, config = checkpoint.load(tmp_path / "soupy" / "soup")
    assert config == SOUPY
    assert Validator(pages[4:], config, World(0, 1)).metrics(model)["hmean"] == made["hmean"]
    assert checkpoint.load_meta(tmp_path / "soupy" / "soup")["epochs"] == made["epochs"]


def test_a_killed_training_keeps_the_same_epochs_and_makes_the_same_soup(pages, tmp_path):
    run(SOUPY, pages, tmp_path / "whole")
    for number in (2, 4, 6):
        run(SOUPY, pages, tmp_path / "part", stop_after=number)
    held = tmp_path / "held"
    shutil.copytree(tmp_path / "part", held)  # killed as the last epoch is reported: epochs are kept, no soup yet
    assert len(list((held / KEPT).iterdir())) == 4 and not (held / "soup.json").exists()
    run(SOUPY, pages, tmp_path / "part")
    assert record(tmp_path / "part") == record(tmp_path / "whole")
    wanted = load_file(tmp_path / "whole" / "soup" / "model.safetensors")
    # Killed once more, after the soup's folder and before its record: all of it is made again.
    (tmp_path / "part" / "soup.json").unlink()
    shutil.copytree(held / KEPT, tmp_path / "part" / KEPT)
    shutil.copyfile(tmp_path / "whole" / "last.safetensors", tmp_path / "part" / "last.safetensors")
    assert run(SOUPY, pages, tmp_path / "part") == [] and not (tmp_path / "part" / KEPT).exists()
    found = load_file(tmp_path / "part" / "soup" / "model.safetensors")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    made = (tmp_path / "part" / "soup.json").stat().st_mtime_ns
    assert run(SOUPY, pages, tmp_path / "part") == []  # nothing is left to do
    assert (tmp_path / "part" / "soup.json").stat().st_mtime_ns == made


def test_epochs_that_were_lost_are_told_and_left_out(pages, tmp_path):
    run(SOUPY, pages, tmp_path / "whole")
    whole = [row["epoch"] for row in record(tmp_path / "whole")["tried"]]
    lost = next(epoch for epoch in whole if epoch != 6)  # the last epoch is trained again below
    run(SOUPY, pages, tmp_path / "part", stop_after=6)
    (place,) = (p for p in (tmp_path / "part" / KEPT).iterdir() if checkpoint.load_meta(p)["epoch"] == lost)
    shutil.rmtree(place)
    run(SOUPY, pages, tmp_path / "part")
    made = record(tmp_path / "part")
    assert made["lost"] == [lost] and [row["epoch"] for row in made["tried"]] == [e for e in whole if e != lost]


def test_two_ranks_make_one_soup(pages, tmp_path):
    folder, split = tmp_path / "trial", {"train": pages[:4], "val": pages[4:]}
    two_ranks(tmp_path, config=TINY.model_copy(update={"keep_epochs": 2, "max_epochs": 2}), **split, folder=folder)
    made = record(folder)
    assert made["epochs"] == [1, 2] and not (folder / KEPT).exists()  # both score 0: nothing falls
    torch.set_num_threads(1)
    model, config = checkpoint.load(folder / "soup")
    assert Validator(pages[4:], config, World(0, 1)).metrics(model)["hmean"] == made["hmean"]


def test_one_epoch_makes_no_soup():
    with pytest.raises(ValueError, match="must be 0 or at least 2, got 1: one epoch makes no soup"):
        Config(keep_epochs=1)
