"""What a model is, read from its files alone: no network is loaded, neither torch nor ray nor mlflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from detector import checkpoint
from detector.config import Postprocess
from detector.data.word_counts import WordCounts, pooled
from detector.errors import CheckpointError
from detector.inference.bundle import file_digest, is_bundle, read_bundle
from detector.inference.views import IDENTITY


@dataclass(frozen=True, slots=True)
class Described:
    """A checkpoint, a bundle or an exported file.

    Attributes:
        digest: of all that decides what it finds.
        members: digests of the checkpoints and their weights; a checkpoint is its own only member.
        views, fusion, rule: as `detector.inference.predict.Predictor` has them.
        training: words a page of what the members learned from, where they say so.
    """

    kind: Literal["checkpoint", "bundle", "exported"]
    digest: str
    members: tuple[tuple[str, float], ...]
    views: tuple[str, ...]
    fusion: str
    rule: Postprocess
    training: WordCounts | None

    def as_json(self) -> dict[str, Any]:
        """Plain values: what a record of a prediction keeps of its model."""
        return {
            "kind": self.kind,
            "digest": self.digest,
            "members": [{"digest": digest, "weight": weight} for digest, weight in self.members],
            "views": list(self.views),
            "fusion": self.fusion,
            "postprocess": self.rule.model_dump(mode="json"),
        }


def describe(path: Path) -> Described:
    """The facts of a model at `path`.

    Raises:
        CheckpointError: it is none, or damaged.
        InputError: an exported file, and onnxruntime is not installed.
    """
    path = Path(path)
    if is_bundle(path):
        bundle = read_bundle(path)
        metas = [checkpoint.load_meta(folder) for folder, _ in bundle.members]
        members = tuple((str(meta["digest"]), weight) for meta, (_, weight) in zip(metas, bundle.members, strict=True))
        training = pooled(WordCounts.from_json(meta.get("train")) for meta in metas)
        return Described("bundle", bundle.digest, members, bundle.views, bundle.fusion, bundle.rule, training)
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        from detector.inference.exported import load_onnx

        network, config = load_onnx(path, "cpu")
        members = ((network.digest, 1.0),)
        return Described("exported", file_digest(path), members, (IDENTITY,), "mean", config.postprocess, None)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint, bundle or .onnx file; check the path")
    meta, config = checkpoint.load_meta(path), checkpoint.load_config(path)
    digest, training = str(meta["digest"]), WordCounts.from_json(meta.get("train"))
    return Described("checkpoint", digest, ((digest, 1.0),), (IDENTITY,), "mean", config.postprocess, training)
