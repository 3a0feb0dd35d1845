"""A bundle as an MLflow model: the folder itself is one, written and loaded here without MLflow.

    bundle/MLmodel              names this module as the loader of its `python_function`
    bundle/code/detector/       the code that computed, so that a machine without this software finds the same words
    bundle/requirements.txt     the packages that it computed with; python_env.yaml says which Python

`mlflow.pyfunc.load_model(FOLDER or runs:/ID/model).predict(IMAGES)` takes image files, as a list or as the column
`image` of a table, and gives for each {"image": its name, "polygons": [[[x, y], ...], ...], "scores": [...]}, in the
image frame, best word first: what `predict` writes, before it rounds.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from detector.files import write_json, write_text
from detector.types import Page

PACKAGES: Final = (
    *("numba", "numpy", "opencv-python-headless", "pillow", "pyclipper", "pydantic", "safetensors"),
    *("scipy", "shapely", "timm", "torch", "torchvision"),
)


def write_model(folder: Path) -> None:
    """Put beside a bundle what makes its folder an MLflow model."""
    package = Path(__file__).resolve().parents[1]
    shutil.copytree(package, folder / "code" / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.nb*"))
    python = platform.python_version()
    flavor = {
        "loader_module": __name__,
        "code": "code",
        "python_version": python,
        "env": {"virtualenv": "python_env.yaml"},
    }
    value: dict[str, Any] = {"flavors": {"python_function": flavor}}
    if (mlflow := _version("mlflow")) is not None:
        value["mlflow_version"] = mlflow
    write_json(folder / "MLmodel", value)  # JSON is YAML
    lines = [f"{name}=={found}" for name in PACKAGES if (found := _version(name)) is not None]
    write_text(folder / "requirements.txt", "\n".join(lines) + "\n")
    needs = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    write_json(folder / "python_env.yaml", needs)


def _load_pyfunc(path: str) -> Served:
    """What MLflow calls; the name is its own."""
    return Served(Path(path))


class Served:
    """A bundle, checked and loaded, ready for images."""

    def __init__(self, folder: Path) -> None:
        from detector.inference.predict import Predictor

        self._predictor = Predictor.load(folder)

    def predict(self, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """The words of image files; `params` is MLflow's, and nothing is taken from it."""
        found = []
        for path in _paths(model_input):
            words = self._predictor.words(Page(path.name, path))
            polygons = [polygon.tolist() for polygon in words.polygons]
            found.append({"image": path.name, "polygons": polygons, "scores": words.scores_N.tolist()})
        return found


def _paths(given: Any) -> list[Path]:
    """Image files of a table's column `image`, of a list, or one alone."""
    if isinstance(given, str | Path):
        return [Path(given)]
    items: Iterable[Any] = given["image"] if hasattr(given, "columns") or isinstance(given, dict) else given
    return [Path(str(item)) for item in items]


def _version(name: str) -> str | None:
    """Of an installed package, without what says how it was built (`2.15.0+cpu`)."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None
