"""A greedy soup of a training's best epochs: the average of their weights, one model with the cost of one.

Wortsman et al. 2022, arXiv 2203.05482, recipe 1, with the epochs of one training as ingredients: best first, each stays
in the soup only if the soup's validation score does not fall. So a soup never scores below the best epoch on the
images that choose; on others it may, which is for whoever uses it to find out.

    <folder>/soup/         a checkpoint, where two epochs or more are in it
    <folder>/soup.json     what was tried and what came of it, written last: {"format": 1, "epochs": [7, 5], "hmean",
                           "best_hmean", "tried": [{"epoch", "hmean", "soup_hmean", "kept"}, ...], "lost": []}

Averaged weights have other activations than each of their parts, so batch norm's running statistics are measured anew
on training pages (Izmailov et al. 2018, arXiv 1803.05407, section 3.2). The first rank holds the files and measures;
all ranks validate.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from detector import checkpoint
from detector.config import Augment, Config
from detector.data.dataset import TrainSet
from detector.errors import CheckpointError
from detector.files import write_json
from detector.model.detector import Detector, build
from detector.model.pointwise import prefer_onednn
from detector.training.kept import RECORD, SOUP, Kept, forget_kept, place_of
from detector.training.validation import Validator
from detector.training.world import World
from detector.types import Page

FORMAT: Final = 1
# Pages that statistics are measured on. Each gives thousands of activations a channel, so what scatters is the pages:
# the mean of a channel over 128 of them is known to 1/11 of their standard deviation.
STATISTICS_PAGES: Final = 128
PLAIN: Final = Augment(rotate_deg=0.0, scale=(1.0, 1.0), brightness=0.0, blur=0.0, noise=0.0)


@dataclass(frozen=True, slots=True)
class Tried:
    """An epoch that was offered to a soup.

    Attributes:
        hmean: its own.
        soup_hmean: of the soup with it; of the first epoch its own.
        kept: whether it stayed.
    """

    epoch: int
    hmean: float
    soup_hmean: float
    kept: bool


def greedy(offered: Sequence[Kept], score: Callable[[Sequence[Kept]], float]) -> tuple[Tried, ...]:
    """Offer epochs to a soup, in order; the first is its beginning.

    Args:
        score: of the soup of several epochs, in the order in which they came to it.
    """
    rows = [Tried(one.epoch, one.hmean, one.hmean, True) for one in offered[:1]]
    inside, best = list(offered[:1]), max((one.hmean for one in offered[:1]), default=0.0)
    for one in offered[1:]:
        found = score([*inside, one])
        stays = found >= best
        rows.append(Tried(one.epoch, one.hmean, found, stays))
        if stays:
            inside, best = [*inside, one], found
    return tuple(rows)


def averaged(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each floating tensor, rounded once to its own type; counters are the first's.

    Summed in float64, where a sum of equal float32 is exact: the mean of equal weights is these weights.
    """
    found = dict(states[0])
    for name, tensor in found.items():
        if tensor.is_floating_point():
            total = tensor.to(torch.float64)
            for state in states[1:]:
                total = total + state[name]
            found[name] = (total / len(states)).to(tensor.dtype)
    return found


@torch.no_grad()
def measure_statistics(model: Detector, batches: Iterable[Tensor]) -> None:
    """Set batch norm's running means and variances to their averages over the batches; all else stays as it is.

    Args:
        model: left in evaluation mode.
        batches: (B, 3, H, W) each, on the model's device; of equal size, since they count alike.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a cumulative average
        norm.train()
    for batch in batches:
        model(batch.contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def statistics_batches(pages: Sequence[Page], config: Config, most: int = STATISTICS_PAGES) -> Iterator[Tensor]:
    """Training batches without distortions, (B, 3, H, W) float32: the same for every soup of a training.

    At most `most` pages from all over the set, in whole batches. Where a crop lies is the one thing drawn, from the
    training's seed.
    """
    plain = TrainSet(pages, config.model_copy(update={"augment": PLAIN}))
    size = min(config.batch_size, len(pages))
    count = max(min(len(pages), most) // size, 1) * size
    indices = [number * len(pages) // count for number in range(count)]
    for start in range(0, count, size):
        yield torch.stack([plain[0, index]["image_3HW"] for index in indices[start : start + size]])


def cook(
    folder: Path,
    kept: Sequence[Kept],
    config: Config,
    device: torch.device,
    pages: Sequence[Page],
    validator: Validator,
    world: World,
    facts: Mapping[str, Any],
) -> None:
    """Make the soup of a training that has ended, once, and remove the epochs that were kept for it.

    Args:
        folder: the training's, with its kept epochs.
        pages: that were learned from.
        facts: for the soup's checkpoint.json, beside its epochs and metrics.
    """
    done, there = world.gather([((folder / RECORD).is_file(), [one for one in kept if _is_there(folder, one)])])[0]
    if not done:
        pot = _Pot(folder, config, device, pages, validator, world)
        tried = greedy(there, pot.hmean)
        if world.is_first:
            _write(folder, tried, [one.epoch for one in kept if one not in there], pot, config, facts)
    if world.is_first:
        forget_kept(folder)
    world.wait()


def forget_soup(folder: Path) -> None:
    """A training begins anew."""
    (folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder / SOUP, ignore_errors=True)


class _Pot:
    """Mixes kept epochs and scores the mixture.

    Attributes:
        made: epochs -> validation metrics of their soup, and its tensors on the CPU.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        device: torch.device,
        pages: Sequence[Page],
        validator: Validator,
        world: World,
    ) -> None:
        self._folder, self._config, self._pages = folder, config, pages
        self._device, self._validator, self._world = device, validator, world
        self._states: dict[Kept, dict[str, Tensor]] = {}
        self.made: dict[tuple[int, ...], tuple[dict[str, float], dict[str, Tensor]]] = {}

    def hmean(self, inside: Sequence[Kept]) -> float:
        """The validation score of the soup of these epochs; called by all ranks together."""
        model = self.mixed(inside)
        metrics = self._validator.metrics(model)
        if self._world.is_first:
            state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
            self.made[tuple(one.epoch for one in inside)] = (metrics, state)
        return metrics["hmean"]

    def mixed(self, inside: Sequence[Kept]) -> Detector:
        """The soup of these epochs, equal on all ranks, in evaluation mode."""
        model = build(self._config, weights=False).to(self._device)
        prefer_onednn(model, self._device)
        if self._world.is_first:
            mix(model, [self._state(one) for one in inside], self._batches())
        self._world.align(model)
        return model.eval()

    def _batches(self) -> Iterator[Tensor]:
        for batch in statistics_batches(self._pages, self._config):
            yield batch.to(self._device)

    def _state(self, one: Kept) -> dict[str, Tensor]:
        if one not in self._states:
            self._states[one] = checkpoint.load(self._folder / place_of(one))[0].state_dict()
        return self._states[one]


def mix(model: Detector, states: Sequence[Mapping[str, Tensor]], batches: Iterable[Tensor]) -> None:
    """Make `model` the soup of several states; of equal ones, which keep their statistics, these states themselves."""
    model.load_state_dict(averaged(states))
    alike = all(torch.equal(state[name], tensor) for name, tensor in states[0].items() for state in states[1:])
    if not alike:
        measure_statistics(model, batches)


def _is_there(folder: Path, one: Kept) -> bool:
    try:
        return checkpoint.load_meta(folder / place_of(one)).get("epoch") == one.epoch
    except CheckpointError:
        return False


def _write(
    folder: Path, tried: Sequence[Tried], lost: Sequence[int], pot: _Pot, config: Config, facts: Mapping[str, Any]
) -> None:
    """The soup's checkpoint, then the record; the first rank alone."""
    inside = tuple(row.epoch for row in tried if row.kept)
    if len(inside) > 1:
        metrics, state = pot.made[inside]
        model = build(config, weights=False)
        model.load_state_dict(state)
        checkpoint.save(folder / SOUP, model, config, {**facts, "epochs": inside, "metrics": metrics})
    else:
        shutil.rmtree(folder / SOUP, ignore_errors=True)
    last = [row.soup_hmean for row in tried if row.kept][-1:]
    value = {
        "format": FORMAT,
        "epochs": inside,
        "hmean": last[0] if last else None,
        "best_hmean": tried[0].hmean if tried else None,
        "tried": [asdict(row) for row in tried],
        "lost": lost,
    }
    write_json(folder / RECORD, value)
