"""Starting a trial again after a failure that may not come again: from its last epoch, so often, each time told.

The trial's process says what it saw and leaves the trial `queued` with the reason; one that died says nothing and
leaves it `running`. The driver decides.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from detector.files import write_text
from orchestrator import incidents
from orchestrator.execution.failures import verdict
from orchestrator.incidents import Incident
from orchestrator.ledger import Ledger
from orchestrator.records import ENDED
from orchestrator.storage.disk import REASON, has_room, refuse

if TYPE_CHECKING:
    from orchestrator.execution.training import Job

HALF: Final = "goes on with half a batch at a time"  # the reason of a trial that is started again for that
EXPLAINING: Final = ("incidents.jsonl", "micro.json", "traceback.txt", "nan")
LOST: Final = "its process was lost (killed, out of the machine's memory, or its machine is gone)"


def settle(job: Job, digest: str, error: BaseException, trace: str) -> None:
    """Keep why a training ended: the traceback in a file, the reason in one line, and whether it may go on."""
    ledger = job.ledger
    ledger.bring(digest)
    if ledger.record(digest).state in ENDED:  # pruned meanwhile
        return
    found = verdict(error)
    if found.kind == "full":
        with contextlib.suppress(OSError):  # there may be no room to say so
            ledger.set_state(digest, "queued", found.reason)
        return
    if found.kind == "held":
        return  # its state is the other's to write
    note_half(job, digest)
    path = ledger.folder(digest) / "traceback.txt"
    write_text(path, trace)
    explain(ledger, digest)
    if found.kind == "fault":
        ledger.set_state(digest, "failed", f"{found.reason} (see {path})")
    else:
        ledger.set_state(digest, "queued", HALF if found.kind == "memory" else found.reason)


def note_half(job: Job, digest: str) -> None:
    """Keep that a training goes on with half a batch, once it does."""
    folder = job.ledger.folder(digest)
    if not (folder / "micro.json").exists() or any(known.kind == "memory" for known in incidents.read(folder)):
        return
    from detector.training.micro import read_micro  # loads torch

    micro = read_micro(folder, job.trials[digest].config.batch_size)
    incidents.append(folder, Incident("memory", len(job.ledger.record(digest).epochs), str(micro), job.run))
    explain(job.ledger, digest)


def again(ledger: Ledger, digest: str, run: str, retries: int) -> bool:
    """Whether a trial whose process ended is to be started again; it is `failed` where it was so too often.

    Args:
        run: the search in which retries are counted: who runs a plan again wants it tried again.
        retries: at most.

    Raises:
        DiskFull: that is why it ended, so that no other trial could go on either.
    """
    ledger.bring(digest)
    record = ledger.record(digest)
    if record.state in ENDED:
        return False
    if record.reason == REASON or not has_room(ledger.workspace):
        raise refuse(ledger.workspace)
    if record.state == "queued" and record.reason == HALF:
        return True  # once a training, see `detector.training.micro`
    reason = record.reason if record.state == "queued" and record.reason else LOST
    before = sum(known.kind == "retry" and known.run == run for known in record.incidents)
    if before >= retries:
        often = f"; it was started again {'once' if before == 1 else f'{before} times'}"
        ledger.set_state(digest, "failed", reason + often * bool(before))
        return False
    incidents.append(ledger.folder(digest), Incident("retry", len(record.epochs), reason, run))
    explain(ledger, digest)
    return True


def explain(ledger: Ledger, digest: str) -> None:
    """Keep what explains a trial in its workspace's store, where it has one."""
    folder = ledger.folder(digest)
    found = [folder / name for name in EXPLAINING if (folder / name).exists()]
    if found:
        ledger.keep(*found)
