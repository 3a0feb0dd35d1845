"""The version of the code that decides what a training results in; part of every trial's digest.

Raise `TRAINING` when the same config would now give other weights or another best epoch (data, model, loss, optimiser,
validation). Speed, messages and file layout leave it alone: finished trials are then reused.
"""

from typing import Final

TRAINING: Final = 2
