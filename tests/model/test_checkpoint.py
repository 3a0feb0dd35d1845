"""Checkpoints: whole, verified, and never gone, whenever the writer is killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from detector import checkpoint
from detector.config import Config
from detector.errors import CheckpointError
from detector.model.detector import build

TINY = Config(
    encoder="test_resnet.r160_in1k",
    encoder_weights="hub",  # which a checkpoint must not ask for: it has its own
    inner_channels=16,
    output_channels=8,
    image_size=64,
)


@pytest.fixture(scope="module")
def model():
    return build(TINY, weights=False)


def test_round_trip(tmp_path, model):
    with torch.no_grad():
        model.encoder.net.conv1[0].weight.normal_()
    digest = checkpoint.save(tmp_path / "best", model, TINY, {"epoch": 3, "metrics": {"hmean": 0.5}})
    loaded, config = checkpoint.load(tmp_path / "best")
    assert config == TINY
    assert not loaded.training
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    meta = checkpoint.load_meta(tmp_path / "best")
    assert meta == {"format": 1, "digest": digest, "epoch": 3, "metrics": {"hmean": 0.5}}
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        "best",
        "checkpoint.json",
        "config.json",
        "model.safetensors",
    ]
    # the same content has the same digest, another seed's has not
    assert checkpoint.save(tmp_path / "again", model, TINY) == digest
    assert checkpoint.save(tmp_path / "again", build(TINY, weights=False), TINY) != digest


def test_own_keys_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match="digest"):
        checkpoint.save(tmp_path / "best", model, TINY, {"digest": "x"})
    assert not (tmp_path / "best").exists()


def write(folder: Path, text: str) -> None:
    with checkpoint.replacing_folder(folder) as draft:
        (draft / checkpoint.META).write_text(text)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(9))
def test_killed_writer_leaves_old_or_new(tmp_path, monkeypatch, step):
    # Every call of the writer that changes the disk is a place to die; after it, and with nothing of the writer's own
    # cleaning up, a reader finds a whole checkpoint, and the next writer puts everything right.
    folder = tmp_path / "best"
    write(folder, "old")
    calls = 0

    def mortal(action):
        def run(*args, **kwargs):
            nonlocal calls
            if calls == step:
                raise Killed
            calls += 1
            return action(*args, **kwargs)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", mortal(Path.rename))
        patch.setattr(Path, "mkdir", mortal(Path.mkdir))
        patch.setattr(checkpoint.os, "fsync", mortal(checkpoint.os.fsync))
        patch.setattr(checkpoint.shutil, "rmtree", mortal(shutil.rmtree))
        with pytest.raises(Killed):
            write(folder, "new")
    assert (checkpoint.locate(folder) / checkpoint.META).read_text() in ("old", "new")
    write(folder, "next")
    assert (checkpoint.locate(folder) / checkpoint.META).read_text() == "next"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_between_the_renames_the_old_one_is_read(tmp_path, model):
    folder = tmp_path / "best"
    digest = checkpoint.save(folder, model, TINY)
    folder.rename(tmp_path / ".best.old")
    assert checkpoint.load(folder)[1] == TINY
    assert checkpoint.load_meta(folder)["digest"] == digest


def test_failing_block_leaves_the_old(tmp_path):
    write(tmp_path / "best", "old")
    with pytest.raises(RuntimeError), checkpoint.replacing_folder(tmp_path / "best"):
        raise RuntimeError
    assert (tmp_path / "best" / checkpoint.META).read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_damage_is_named(tmp_path, model):
    good = tmp_path / "good"
    checkpoint.save(good, model, TINY)

    def damaged(name: str, content: bytes | None) -> Path:
        bad = tmp_path / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        if content is None:
            (bad / name).unlink()
        else:
            (bad / name).write_bytes(content)
        return bad

    weights = (good / checkpoint.WEIGHTS).read_bytes()
    flipped = weights[:-1] + bytes([weights[-1] ^ 1])
    config = json.loads((good / checkpoint.CONFIG).read_text())
    cases = [
        (checkpoint.WEIGHTS, flipped, "digest"),
        (checkpoint.WEIGHTS, weights[: len(weights) // 2], "digest"),
        (checkpoint.WEIGHTS, None, "model.safetensors"),
        (checkpoint.CONFIG, json.dumps(config | {"image_size": 96}).encode(), "digest"),
        (checkpoint.CONFIG, json.dumps(config | {"colour": 1}).encode(), "colour"),
        (checkpoint.CONFIG, b"{", "config.json"),
        (checkpoint.CONFIG, None, "config.json"),
        (checkpoint.META, b'{"format": 2, "digest": "x"}', "`format` must be 1"),
        (checkpoint.META, b"[]", "`format` must be 1"),
        (checkpoint.META, None, "has no checkpoint.json"),
    ]
    for name, content, message in cases:
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(damaged(name, content))
        assert message in str(caught.value)
        assert "bad" in str(caught.value)
    with pytest.raises(CheckpointError, match="no such folder"):
        checkpoint.load(tmp_path / "nowhere")


def test_weights_of_another_network(tmp_path, model):
    checkpoint.save(tmp_path / "best", model, TINY.model_copy(update={"decoder": "unet"}))
    with pytest.raises(CheckpointError, match="must be those of"):
        checkpoint.load(tmp_path / "best")
