"""Sets of annotations made for the converters' tests, there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detector.data.convert import Conversion, convert
from detector.data.foreign.trip import Options
from detector.data.formats import write_annotations
from detector.data.words_json import parse_words
from detector.types import Page, Word

QUAD = np.array([[1.0, 2.0], [30.5, 2.0], [30.0, 12.25], [1.0, 12.0]])
FOLDERS = ("icdar", "sroie", "labelme")


def plain(words: dict[str, tuple[Word, ...]]) -> dict[str, list[Any]]:
    """Words as values that compare."""
    return {
        name: [(w.id, w.polygon_V2.tolist(), w.transcription, w.ignore, w.orientation, w.language) for w in page]
        for name, page in words.items()
    }


def annotate(folder: Path, pages: dict[str, list[Word]], *, wh: tuple[int, int] = (40, 20)) -> tuple[Path, Path]:
    """An annotation file and its folder of white images."""
    images = folder / "images"
    images.mkdir(parents=True)
    for name in pages:
        Image.new("RGB", wh, "white").save(images / name)
    path = folder / "truth.json"
    write_annotations(path, [Page(name, images / name, tuple(words)) for name, words in pages.items()])
    return path, images


def trip(path: Path, images: Path | None, form: str, **options: Any) -> tuple[Conversion, Conversion, dict[str, Any]]:
    """There and back: both conversions, and the words that came back."""
    chosen = Options(images=images, **options)
    away, home = path.parent / f"away-{form}", path.parent / f"home-{form}.json"
    there = convert(path, away, "competition", form, chosen)
    back = convert(away, home, form, "competition", Options(images=images, frame=chosen.frame))
    return there, back, plain(parse_words(home).words)
