"""torch.compile where there is no compiler: one clear message, before anything is trained."""

from __future__ import annotations

import pytest
from torch import nn

from detector.errors import InputError
from detector.training.compiling import compile_forward


@pytest.mark.parametrize(("named", "words"), [("", ["g++", "clang++", "PATH"]), ("no-such-cc", ["no-such-cc"])])
def test_no_compiler_is_said_at_once(tmp_path, monkeypatch, named, words):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", named)
    with pytest.raises(InputError) as caught:
        compile_forward(nn.Conv2d(1, 1, 1))
    for word in [*words, "compile", "install"]:
        assert word in str(caught.value)


def test_names_of_weights_stay(tmp_path, monkeypatch):
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    compile_forward(model)  # compiled at its first call, which this is without
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
