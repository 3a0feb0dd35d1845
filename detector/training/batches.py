"""Which images a rank's loader puts together."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

from detector.config import Config
from detector.training.schedule import epoch_batches, steps_per_epoch
from detector.training.world import World


class Batches(Sampler[list[tuple[int, int]]]):
    """This rank's micro-batches of `epoch`, as (epoch, index) pairs: the loader's processes live through all epochs.

    Each batch comes in parts of at most `images`: what one optimizer step sees does not depend on them.
    """

    def __init__(self, count: int, config: Config, world: World, images: int) -> None:
        self._count, self._config, self._world, self._images = count, config, world, images
        self.epoch = 1

    def __len__(self) -> int:
        batches = steps_per_epoch(self._count, self._config.batch_size, self._world.size, 1)[0]
        return batches * -(-self._config.batch_size // self._images)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batch_size, seed = self._config.batch_size, self._config.seed
        for batch in epoch_batches(self._count, batch_size, self._world.rank, self._world.size, seed, self.epoch):
            for start in range(0, batch_size, self._images):
                yield [(self.epoch, index) for index in batch[start : start + self._images]]
