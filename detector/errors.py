"""What a user of the detector can do wrong, on one page.

Every message names the file (and the word, line or key), the rule, the value and the remedy. The command line prints it
without a traceback and exits with 2.
"""

from __future__ import annotations


class InputError(Exception):
    """The user's input is wrong; the message says where and what to do."""


class DataError(InputError):
    """Annotations, images or predictions that cannot be used as they are."""


class CheckpointError(InputError):
    """A checkpoint, bundle or weights file that is missing, incomplete or of another kind."""


class TrainingFailed(Exception):
    """A training that cannot go on (NaN loss, say), although its input was right."""


class StartAgain(Exception):
    """All ranks of a training must be started anew; with `resume` they go on from their last epoch, by another way."""
