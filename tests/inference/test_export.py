"""Exported checkpoints: equal outputs at every size, the same words, and a file that needs nothing beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch import nn

from detector import checkpoint
from detector.config import Config, Postprocess
from detector.data.formats import read_submission
from detector.errors import CheckpointError, InputError
from detector.inference.bundle import save_bundle
from detector.inference.export import METADATA, _pad_by_constants, export
from detector.inference.exported import load_onnx
from detector.inference.predict import Predictor
from detector.model.detector import build
from detector.types import Page
from orchestrator.__main__ import main

# batch, height, width: one cell, one cell wide, one image, several, larger than the example, turned
SIZES = ((1, 32, 32), (1, 160, 32), (3, 64, 64), (2, 96, 224), (1, 256, 192))
TOLERANCE = 1e-4


FPN = pytest.mark.parametrize("exported", ["fpn"], indirect=True)  # one is enough where the graph is not looked at


@pytest.fixture(scope="module")
def exported(request, tmp_path_factory) -> Path:
    """A folder with the checkpoint `best` of random weights, `model.onnx` and `model.pt2`."""
    folder = tmp_path_factory.mktemp(request.param)
    config = Config(
        encoder="test_resnet.r160_in1k",
        encoder_weights="none",
        decoder=request.param,
        inner_channels=16,
        output_channels=8,
        image_size=96,
        postprocess=Postprocess(thresh=0.5, box_thresh=0.1),
    )
    model = build(config)
    nn.init.normal_(model.head.prob.out.weight, std=10.0)  # a map of all probabilities
    nn.init.zeros_(model.head.prob.out.bias)
    with torch.no_grad():
        for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.running_mean.normal_(std=0.1)  # what training leaves there, and an exporter must not lose
            norm.running_var.uniform_(0.5, 2.0)
    checkpoint.save(folder / "best", model, config)
    for suffix in (".onnx", ".pt2"):
        assert main(["export", str(folder / "best"), "-o", str(folder / f"model{suffix}")]) == 0
    return folder


def images(batch: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height * width))


@pytest.mark.parametrize("exported", ["fpn", "unet"], indirect=True)
def test_outputs_are_those_of_the_model(exported):
    model, config = checkpoint.load(exported / "best")
    program = torch.export.load(exported / "model.pt2").module()
    network, loaded = load_onnx(exported / "model.onnx", "cpu")
    assert loaded == config
    for size in SIZES:
        image = images(*size)
        with torch.inference_mode():
            want = model.probabilities(image).numpy()
            assert want.shape == (size[0], *size[1:])
            assert_allclose(program(image).numpy(), want, atol=TOLERANCE)
        assert_allclose(network._session.run(None, {"image": image.numpy()})[0], want, atol=TOLERANCE)
        assert_allclose(network(image[0].numpy()), want[0], atol=TOLERANCE)
    assert want.max() - want.min() > 0.5


@FPN
def test_the_file_says_what_it_is(exported):
    digest = checkpoint.load_meta(exported / "best")["digest"]
    config = json.loads((exported / "best" / "config.json").read_text())
    model = onnx.load(exported / "model.onnx")
    extra = {METADATA: ""}
    torch.export.load(exported / "model.pt2", extra_files=extra)
    for facts in ({prop.key: prop.value for prop in model.metadata_props}, json.loads(extra[METADATA])):
        assert facts["digest"] == digest
        assert json.loads(facts["config"]) == config
        assert json.loads(facts["canvas"])["mean"] == [0.485, 0.456, 0.406]
    assert load_onnx(exported / "model.onnx")[0].digest == digest


@FPN
def test_onnx_predicts_without_torch_and_without_the_checkpoint(exported, tmp_path):
    # 70 x 90 px at image_size 96: a canvas of 96 x 96 with a padded border below
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        small = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize((90, 70)).save(tmp_path / "images" / name)
    (tmp_path / "alone.onnx").write_bytes((exported / "model.onnx").read_bytes())
    code = (
        "import sys; from orchestrator.__main__ import main; "
        "code = main(['predict', 'alone.onnx', 'images', '-o', 'out.csv', '--device', 'cpu']); "
        "sys.exit(code or ('torch' in sys.modules) * 9)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=_environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = read_submission(tmp_path / "out.csv")
    theirs, ours = Predictor.load(tmp_path / "alone.onnx", "cpu"), Predictor.load(exported / "best", "cpu")
    assert theirs.rule == ours.rule
    for name in ("a.png", "b.png"):
        page = Page(name, tmp_path / "images" / name)
        maps = [predictor.maps(page).prob_HW.astype(int) for predictor in (theirs, ours)]
        # Probabilities differ by less than 1e-4, so that after rounding to 1/255 neighbours may be told apart.
        assert abs(maps[0] - maps[1]).max() <= 1
        assert (maps[0] != maps[1]).mean() < 0.01
        if (maps[0] == maps[1]).all():
            words = ours.words(page)
            assert len(words.polygons) > 0
            assert_array_equal(theirs.words(page).scores_N, words.scores_N)
            assert len(found[name]) == len(words.polygons)


@FPN
def test_wrong_files_are_refused(exported, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.onnx").write_bytes((exported / "model.onnx").read_bytes()[:2000])
    model = onnx.load(exported / "model.onnx")
    facts = {prop.key: prop.value for prop in model.metadata_props}
    cases = {
        "foreign": ({}, "not a file of this program's `export`"),
        "newer": (facts | {"format": "2"}, "`format` must be 1"),
        "other": (facts | {"canvas": "{}"}, "`canvas` must be"),
        "config": (facts | {"config": '{"image_size": "wide"}'}, r"config\.image_size"),
    }
    for name, (changed, message) in cases.items():
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, changed)
        onnx.save(model, tmp_path / f"{name}.onnx")
        with pytest.raises(CheckpointError, match=message):
            load_onnx(tmp_path / f"{name}.onnx")
    for name, message in (("broken", "cannot read it"), ("missing", "no such file")):
        with pytest.raises(CheckpointError, match=message):
            load_onnx(tmp_path / f"{name}.onnx")
    with pytest.raises(InputError, match="--device tpu"):
        load_onnx(exported / "model.onnx", "tpu")
    save_bundle(tmp_path / "bundle", [(exported / "best", 1.0)])
    for source, out, message in (("best", "model.txt", ".onnx or .pt2"), ("best", "model.onnx", "exists already")):
        assert main(["export", str(exported / source), "-o", str(exported / out)]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(InputError, match="members/0"):
        export(tmp_path / "bundle", tmp_path / "x.onnx")
    for package, command in (
        ("onnxruntime", ["predict", str(exported / "model.onnx"), str(tmp_path), "-o", str(tmp_path / "x.csv")]),
        ("onnxscript", ["export", str(exported / "best"), "-o", str(tmp_path / "x.onnx")]),
    ):
        Image.new("RGB", (8, 8)).save(tmp_path / "page.png")
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)  # as where the extra is not installed
            assert main(command) == 2
        error = capsys.readouterr().err
        assert package in error and "[export]" in error and "Traceback" not in error
    assert not list(tmp_path.glob("x.*"))


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def test_constant_paddings_are_those_that_timm_computes():
    # Traced as they are, the formulas of the tf_* encoders' paddings would take a quarter of an hour.
    model = build(Config(encoder="tf_efficientnet_lite0", encoder_weights="none", inner_channels=16, output_channels=8))
    model.eval()
    with torch.inference_mode():
        want = [model(images(*size)).prob_BHW.numpy() for size in SIZES[:3]]
        _pad_by_constants(model)
        found = [model(images(*size)).prob_BHW.numpy() for size in SIZES[:3]]
    for ours, theirs in zip(found, want, strict=True):
        assert_array_equal(ours, theirs)
