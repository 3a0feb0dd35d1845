"""A DBNet text detector: data, model, training, inference and metrics, usable alone.

Names are handed out lazily: scoring a file or reading a config loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.config import Config as Config
    from detector.fit import fit as fit
    from detector.inference.predict import predict as predict
    from detector.metrics.cleval import cleval as cleval
    from detector.training.runtime import Runtime as Runtime

_HOMES = {
    "Config": "detector.config",
    "fit": "detector.fit",
    "predict": "detector.inference.predict",
    "cleval": "detector.metrics.cleval",
    "Runtime": "detector.training.runtime",
}
__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        # Importing detector.fit binds the *module* to the name `fit` here; the function must take its place.
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
