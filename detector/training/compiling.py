"""torch.compile, with an answer for machines that cannot."""

from __future__ import annotations

import os
import shutil

from torch import nn

from detector.errors import InputError

COMPILERS = ("g++", "clang++", "c++")  # that inductor looks for, beside $CXX


def compile_forward(model: nn.Module) -> None:
    """Compile the model's forward pass (and its backward), in place, at its first call; names of weights stay.

    Raises:
        InputError: no C++ compiler, which torch.compile needs on CPUs and GPUs alike.
    """
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else list(COMPILERS)
    if not any(shutil.which(name) for name in wanted):
        raise InputError(
            f"compile: torch.compile needs a C++ compiler, and none of {', '.join(wanted)} is on the PATH; "
            "install one (Debian: apt-get install g++), name it in CXX, or leave `compile` off"
        )
    model.compile()
