"""The `data` section of a plan file: the pages to learn from, to score on and to submit, or made ones; folds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.plan.values import Pattern


class Part(BaseModel):
    """Frozen, and strict about names: a key that nobody reads is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


class Annotated_(Part):
    """Annotated pages."""

    model_config = ConfigDict(title="Annotated")
    images: str = Field(min_length=1, description="folder of the images, relative to the current directory")
    annotations: str = Field(min_length=1, description="JSON file in the competition's format")


class Images(Part):
    """Pages without annotations."""

    images: str = Field(min_length=1, description="folder of the images, relative to the current directory")


class FoldSpec(Part):
    """Training pages in k parts alike in size and words; a trial with a fold leaves that part out."""

    k: int = Field(ge=2, le=100, description="number of folds")
    seed: int = Field(0, ge=0, description="of what is drawn: which of neighbours in size and words goes where")
    group: Pattern = Field(
        None, description="regular expression on file names; pages with equal match (or group 1) share a fold"
    )
    file: str | None = Field(
        None,
        min_length=1,
        description="folds of your own: CSV `image,fold` or JSON {image: fold}",
    )

    @model_validator(mode="after")
    def _either(self) -> FoldSpec:
        idle = sorted(self.model_fields_set & {"seed", "group"})
        if self.file is not None and idle:
            raise ValueError(f"with `file` nothing is drawn, so `{idle[0]}` says nothing; remove one of the two")
        return self


class Synthetic(Part):
    """Pages of rendered text, made once into the workspace."""

    train: int = Field(ge=1, description="pages to train on")
    val: int = Field(ge=1, description="pages to validate on")
    test: int = Field(0, ge=0, description="pages for the submission")
    seed: int = Field(0, ge=0, description="of everything drawn")
    size: int = Field(640, ge=128, le=4096, description="longest side of a page, px")


class DataSpec(Part):
    """Either `train` and `val` (and `test`), or `synthetic`."""

    train: Annotated_ | None = Field(None, description="what is learned from")
    val: Annotated_ | None = Field(None, description="what every model is scored on")
    test: Images | None = Field(None, description="what the submission is for")
    synthetic: Synthetic | None = Field(None, description="made pages in place of files")
    folds: FoldSpec | None = Field(None, description="for `folds: all` and `folds: [0, 1]`")
