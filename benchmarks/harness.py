"""How a job is measured: ours and its peers on the same input, in one process, on one core.

Times are processor times of the process (`time.process_time`), so that other work on the machine counts little; each is
the median of `ROUNDS` interleaved rounds (ours, peer, peer, ours, ...) after a warm-up that compiles and fills caches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Work = Callable[[], object]
ROUNDS = 7
ROUND_S = 0.15  # a round repeats a quick job until it has lasted about this long


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of an input: a square page's side in px and its number of words."""

    side_px: int
    words: int

    def __str__(self) -> str:
        return f"{self.side_px} x {self.side_px}, {self.words} words"


STANDARD = Scale(1024, 110)
GROWTH = (Scale(2048, 440), Scale(3072, 1000))  # as dense as STANDARD: cost per word and pixel should not grow


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody else's, or the plain, way to do the same work.

    Attributes:
        work: one repetition.
        at_least: how many times faster ours is to be.
        images: images that one call of `work` handles (peers that take minutes run on a part of the input).
    """

    work: Work
    at_least: float
    images: int = 1


@dataclass(frozen=True, slots=True)
class Contest:
    """One job at one scale.

    Attributes:
        ours: one repetition of our work.
        peers: by name, with version for those of a registry.
        equal: compares results, outside the clock; True where ours gives what the job's row in the table demands.
        images: images that one call of `ours` handles; times are reported per image.
        rounds: fewer for work that takes seconds.
        clock: seconds of processor time; jobs that start processes count their children's too.
        notes: what else a reader should see, e.g. the share of differing pixels to a peer that rounds otherwise.
    """

    ours: Work
    peers: Mapping[str, Peer]
    equal: Callable[[], bool]
    images: int = 1
    rounds: int = ROUNDS
    clock: Callable[[], float] = time.process_time
    notes: Callable[[], str] = field(default=lambda: "")


def measure(contest: Contest, with_peers: bool = True) -> dict[str, float]:
    """Milliseconds an image: "ours" and each peer, medians of interleaved rounds."""
    runners = {"ours": (contest.ours, contest.images)}
    if with_peers:
        runners |= {name: (peer.work, peer.images) for name, peer in contest.peers.items()}
    repeats = {name: _repeats(work, contest.clock) for name, (work, _) in runners.items()}
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(contest.rounds):
        for name in list(runners)[:: 1 if turn % 2 == 0 else -1]:
            work, images = runners[name]
            start = contest.clock()
            for _ in range(repeats[name]):
                work()
            times[name].append((contest.clock() - start) / repeats[name] / images * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def _repeats(work: Work, clock: Callable[[], float]) -> int:
    work()
    start = clock()
    work()
    return max(1, int(ROUND_S / max(clock() - start, 1e-6)))
