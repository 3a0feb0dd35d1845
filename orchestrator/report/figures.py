"""Figures of a report as SVG: learning curves, what each `thresh` scores, and histograms of data.

Text becomes outlines, so a figure looks alike everywhere and no name of a plan ends as markup; names are drawn as they
are, without matplotlib's mathematics.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED: Final = 10  # curves with a colour and a name; those of the other trials are grey
_STYLE: Final[Mapping[Any, Any]] = {
    "text.parse_math": False,
    "svg.hashsalt": "report",
    "svg.fonttype": "path",
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


def learning_curves(curves: Sequence[tuple[str, Sequence[tuple[int, float]]]], most: int = MOST_NAMED) -> bytes:
    """Validation H by epoch, one line a trial, best trials first; the first `most` are named.

    Args:
        curves: name and (epoch, H) points of each trial.
    """
    with _figure() as (figure, axes):
        for _, points in reversed(curves[most:]):
            axes.plot(*_columns(points), color="0.8", linewidth=1)
        for name, points in curves[:most]:
            axes.plot(*_columns(points), marker=".", linewidth=1.4, label=name)
        tops = [value for _, points in curves for _, value in points]
        if tops:
            best = max(tops)
            # The first epochs of a training lie far below; what one wants to see is near the top.
            axes.set_ylim(max(0.0, min(tops), best - 0.3), min(1.0, best + 0.01) + 0.002)
        axes.set_xlabel("epoch")
        axes.set_ylabel("H on validation")
        axes.locator_params(axis="x", integer=True)
        _legend(axes)
        return _svg(figure)


def threshold_curves(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> bytes:
    """The best H of each `thresh`, one line a result."""
    with _figure() as (figure, axes):
        for name, points in curves:
            axes.plot(*_columns(points), marker=".", linewidth=1.4, label=name)
        axes.set_xlabel("thresh")
        axes.set_ylabel("best H at this thresh")
        _legend(axes)
        return _svg(figure)


def knob_curves(knobs: Sequence[tuple[str, Sequence[tuple[float, float]], Sequence[tuple[float, float]]]]) -> bytes:
    """What each knob does, one panel each, all over one range of H.

    Args:
        knobs: name, (value, best H with it) and (value, H with all else as chosen).
    """
    with _sheet((8.0, 2.6)) as figure:
        grid = figure.subplots(1, len(knobs), squeeze=False, sharey=True).ravel()
        for axes, (name, best, chosen) in zip(grid, knobs, strict=True):
            axes.plot(*_columns(best), marker=".", linewidth=1.4, label="best with it")
            axes.plot(*_columns(chosen), marker=".", linewidth=1.0, linestyle="--", label="all else as chosen")
            axes.set_xlabel(name)
        tops = [value for _, best, _ in knobs for _, value in best]
        grid[0].set_ylim(max(0.0, min(tops) - 0.01, max(tops) - 0.1), min(1.0, max(tops) + 0.002) + 0.001)
        grid[0].set_ylabel("H")
        figure.legend(
            *grid[0].get_legend_handles_labels(), loc="outside upper left", frameon=False, fontsize=8, ncols=2
        )
        return _svg(figure)


def histograms(panels: Sequence[tuple[str, Sequence[tuple[str, NDArray[np.float64]]]]], bins: int = 40) -> bytes:
    """Histograms two a row, one line a set, as shares of each set: sets of different size compare.

    Args:
        panels: label with its unit, and (name, values) of each set; the last bin of a panel holds all above its .995
            quantile, so that one outlier does not flatten the rest.
    """
    with _sheet((8.0, 2.6 * -(-len(panels) // 2))) as figure:
        grid = figure.subplots(-(-len(panels) // 2), 2, squeeze=False).ravel()
        for axes, (label, sets) in zip(grid, panels, strict=False):
            values = np.concatenate([np.empty(0), *(values for _, values in sets)])
            low, high = (np.floor(values.min()), np.quantile(values, 0.995)) if values.size else (0.0, 1.0)
            # Whole steps: a bin of 1.3 would hold one count here and two there, teeth that are not in the data.
            step = max(1, round((high - low) / bins))
            edges = low + step * np.arange(max(4, (high - low) // step + 1) + 1)
            for name, kept in sets:
                share = np.histogram(np.minimum(kept, edges[-1]), edges)[0] / max(1, kept.size)
                axes.stairs(share, edges, label=f"{name} ({kept.size:,})", linewidth=1.3)
            axes.set_xlabel(label)
            axes.set_ylabel("share")
        for axes in grid[len(panels) :]:
            axes.remove()
        if panels and panels[0][1]:
            figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", frameon=False, fontsize=8)
        return _svg(figure)


@contextmanager
def _figure() -> Iterator[tuple[Figure, Axes]]:
    with _sheet((8.0, 4.0)) as figure:
        yield figure, figure.add_subplot()


@contextmanager
def _sheet(inches_wh: tuple[float, float]) -> Iterator[Figure]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**_STYLE, "font.family": [_family(), "DejaVu Sans"]}):
        yield Figure(figsize=inches_wh, layout="constrained")


@lru_cache
def _family() -> str:
    """Register NanumGothic (Hangul) and name it; its package is located, not imported: importing it sets pyplot up."""
    from matplotlib import font_manager

    spec = find_spec("koreanize_matplotlib")
    if spec is None or spec.origin is None:
        return "DejaVu Sans"
    path = Path(spec.origin).parent / "fonts" / "NanumGothic.ttf"
    font_manager.fontManager.addfont(str(path))
    return font_manager.FontProperties(fname=str(path)).get_name()


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _svg(figure: Figure) -> bytes:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()
