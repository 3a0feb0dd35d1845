"""Every knob of the detector on one page: meaning, unit, and the value of the paper where it has one.

`Config` holds what changes a result and nothing else; it is what a checkpoint carries and what a digest covers. Where
and how fast a training runs (device, loader threads, folders) is `detector.training.runtime.Runtime`.

"The paper" is Liao et al. 2020, "Real-time Scene Text Detection with Differentiable Binarization", arXiv 1911.08947.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Settings(BaseModel):
    """Frozen, strict about names: a key that nobody reads is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Optimizer(Settings):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

    lr: Positive = Field(1e-3, description="peak learning rate, reached after the warm-up")
    weight_decay: float = Field(1e-2, ge=0.0, description="decoupled decay of weights of two or more dimensions")
    betas: tuple[Probability, Probability] = Field((0.9, 0.999), description="decay of the two moments")
    clip_norm: float = Field(5.0, ge=0.0, description="largest norm of the gradient; 0 clips nothing")


class Schedule(Settings):
    """Learning rate over the trial's own budget, `max_epochs`, step by step."""

    name: Literal["cosine", "constant"] = Field("cosine", description="shape after the warm-up")
    warmup_epochs: float = Field(1.0, ge=0.0, description="linear warm-up; at most half of max_epochs is used")
    final_ratio: Probability = Field(0.01, description="last learning rate / peak, for cosine")


class Augment(Settings):
    """Training-time distortions; every vertex is kept and borders are constant."""

    rotate_deg: float = Field(3.0, ge=0.0, le=180.0, description="rotation drawn from +- this many degrees")
    scale: tuple[Positive, Positive] = Field((0.8, 1.25), description="zoom factor, drawn log-uniformly")
    shear_deg: float = Field(0.0, ge=0.0, lt=45.0, description="shear drawn from +- this many degrees")
    perspective: float = Field(0.0, ge=0.0, le=0.3, description="corner shift as a fraction of the page's side")
    hflip: Probability = Field(0.0, description="probability of a mirror image; text never looks so, hence 0")
    quarter_turns: Probability = Field(0.0, description="probability of a turn by 90, 180 or 270 degrees")
    brightness: float = Field(0.2, ge=0.0, le=1.0, description="brightness and contrast drawn from +- this fraction")
    blur: Probability = Field(0.1, description="probability of a Gaussian or motion blur")
    noise: Probability = Field(0.1, description="probability of sensor noise or JPEG artefacts")

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"`low <= high` must hold for scale, got {list(self.scale)}; swap them")
        return self


class Targets(Settings):
    """Training maps (section 3.4 of the paper)."""

    shrink_ratio: float = Field(0.4, gt=0.0, lt=1.0, description="r of eq. (8): offset D = area (1 - r^2) / perimeter")
    thresh_min: Probability = Field(0.3, description="threshold map at distance D from the border")
    thresh_max: Probability = Field(0.7, description="threshold map on the border")
    min_side_px: float = Field(2.0, ge=0.0, description="words whose shorter side on the canvas is below are masked")

    @model_validator(mode="after")
    def _ordered(self) -> Targets:
        if self.thresh_min >= self.thresh_max:
            raise ValueError(
                f"`thresh_min < thresh_max` must hold, got {self.thresh_min} and {self.thresh_max}; swap them"
            )
        return self


class Loss(Settings):
    """L = prob x BCE + thresh x L1 + binary x Dice (eq. (5) of the paper, in the weighting of its code)."""

    prob: float = Field(5.0, ge=0.0, description="weight of the balanced cross-entropy on the probability map")
    thresh: float = Field(10.0, ge=0.0, description="weight of the L1 loss on the threshold map")
    binary: float = Field(1.0, ge=0.0, description="weight of the Dice loss on the approximate binary map")
    negative_ratio: float = Field(3.0, gt=0.0, description="hard negatives kept per positive pixel")
    k: Positive = Field(50.0, description="steepness of the approximate binarization, eq. (2)")


class Postprocess(Settings):
    """Probability map to word polygons (section 3.5 of the paper)."""

    thresh: Probability = Field(0.3, description="a pixel is text where P > thresh")
    box_thresh: Probability = Field(0.4, description="a contour is kept where the mean of P inside is at least this")
    unclip: Literal["ratio", "inverse"] = Field(
        "ratio", description="how far outlines grow: the paper's constant ratio, or what undoes the targets' shrink"
    )
    unclip_ratio: float = Field(1.5, ge=0.0, description="ratio: offset = area x this / perimeter; paper: 1.5")
    shrink_ratio: float = Field(0.4, gt=0.0, lt=1.0, description="inverse: r of the targets' shrink that is undone")
    max_candidates: int = Field(1000, ge=1, description="best-scoring contours kept on a page")
    min_side_px: float = Field(
        3.0, ge=0.0, description="contours covering less than a square of this side are dropped; thin lines stay"
    )
    shape: Literal["quad", "polygon"] = Field("quad", description="smallest rectangle, or simplified outline")
    epsilon: float = Field(0.002, ge=0.0, description="Douglas-Peucker tolerance as a fraction of the perimeter")


class Metric(Settings):
    """What validation measures and early stopping watches."""

    variant: Literal["competition", "official"] = Field("competition", description="CLEval's rules")
    aggregate: Literal["macro", "micro"] = Field("macro", description="mean of per-image scores, or summed counts")


class Config(Settings):
    """One training, whole. Defaults are the reference of a team mate in the roadmap, unless said otherwise."""

    encoder: str = Field("resnet50", min_length=1, description="a timm model with features at strides 4, 8, 16, 32")
    encoder_weights: str = Field(
        "hub",
        min_length=1,
        description="`hub` (timm's), `none`, the path of a .safetensors or .pth file, or `package:NAME/FILE`",
    )
    decoder: Literal["unet", "fpn"] = Field("fpn", description="how the four levels become one map at stride 4")
    inner_channels: int = Field(256, ge=8, multiple_of=8, description="width of the decoder's levels")
    output_channels: int = Field(64, ge=8, multiple_of=8, description="unet: width of its output; fpn: of each level")
    image_size: int = Field(1024, ge=64, multiple_of=32, description="longest side of a page on the canvas, px")
    crop_size: int = Field(
        0, ge=0, multiple_of=32, description="training on square crops of this side, px; 0 trains on whole pages"
    )
    seed: int = Field(0, ge=0, description="of weights, order and distortions")
    batch_size: int = Field(4, ge=1, description="images a step and a worker")
    accumulate: int = Field(1, ge=1, description="batches that make one step; the loss is that of one large batch")
    ema: float = Field(
        0.0, ge=0.0, lt=1.0, description="decay of averaged weights, which are validated and kept; 0 averages nothing"
    )
    max_epochs: int = Field(20, ge=1, description="the trial's own budget; the schedule ends with it")
    patience: int = Field(0, ge=0, description="epochs without a validation gain before stopping; 0: never")
    patience_from: int = Field(
        0, ge=0, description="patience ends nothing before this epoch; in a sweep under ASHA at least its grace"
    )
    min_delta: float = Field(0.0, ge=0.0, description="what counts as a gain in the validation metric")
    keep_epochs: int = Field(
        0,
        ge=0,
        le=100,
        description="best epochs whose weights are kept and averaged into a soup, as far as its validation score does "
        "not fall: a member for ensembles; 0 makes none",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="of the forward pass; the loss is in fp32")
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augment: Augment = Augment()
    targets: Targets = Targets()
    loss: Loss = Loss()
    postprocess: Postprocess = Postprocess()
    metric: Metric = Metric()

    @field_validator("keep_epochs")
    @classmethod
    def _several(cls, value: int) -> int:
        if value == 1:
            raise ValueError("must be 0 or at least 2, got 1: one epoch makes no soup")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.crop_size > self.image_size * 4:
            raise ValueError(f"`crop_size <= 4 x image_size` must hold, got {self.crop_size} and {self.image_size}")
        return self
