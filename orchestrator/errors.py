"""The exceptions that a user sees, on one page. All of `InputError` end a command with exit code 2 and no traceback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detector.errors import InputError as InputError


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault of a plan, at a place that an editor can open.

    Attributes:
        file: path as the user typed it.
        line: counted from 1; 0 where the fault has no line (a `--set` argument, say).
        column: counted from 1.
        where: path of the key, e.g. `phases[0].experiments[2].sweep.space.optimizer.lr`.
        message: the rule, the value and the remedy.
    """

    file: str
    line: int
    column: int
    where: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.where}: {self.message}" if self.where else f"{place}: {self.message}"


class PlanError(InputError):
    """A plan with one or more faults; all of them, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class LedgerError(InputError):
    """The workspace cannot be used: not writable, written by another version, or held by another driver."""


class ClusterError(InputError):
    """The plan asks for what the cluster does not have."""
