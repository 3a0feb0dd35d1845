"""Local scores against a leaderboard's: do they agree, and has the board been followed?

A public board is a validation set with few looks. Whoever submits k files and keeps the best has chosen on it: the best
of k equal models looks better by E[max of k normals] times the noise of one score, and is not.

Rank correlation is Kendall's tau-b, its interval the one of Kendall's bound on the variance, 2 (1 - tau^2) / n (Kendall
1970, "Rank Correlation Methods", section 4.14), inverted as Wilson inverts the binomial's: conservative for any
population, within [-1, 1], and wide where points are few. Spearman's rho stands beside it without one.

Shapes: S submissions, N images.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from statistics import NormalDist
from typing import Any, Final, Literal

import numpy as np

from orchestrator.evaluation.local import same_model
from orchestrator.evaluation.statistics import LEVEL
from orchestrator.evaluation.submitted import Submission

Kind = Literal["local", "outoffold"]  # of a score here
LEAST: Final = 4  # of 3 points all orders agree by chance once in 6 times: no interval says anything
THRESHOLDS_ALONE: Final = 2  # submissions of one model under other thresholds; more is a search on the board
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two rankings of S submissions agree.

    Attributes:
        tau, low, high: Kendall's tau-b and its interval; None where there is nothing to rank, or too little.
        rho: Spearman's.
    """

    count: int
    tau: float | None = None
    rho: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.tau is None or self.rho is None:
            return f"n = {self.count}: no ranks to compare"
        if self.low is None:
            return f"Kendall tau {self.tau:+.2f}, n = {self.count}: too few for an interval"
        return (
            f"Kendall tau {self.tau:+.2f} [{self.low:+.2f}, {self.high:+.2f}], Spearman rho {self.rho:+.2f}, "
            f"n = {self.count}"
        )


@dataclass(frozen=True, slots=True)
class Optimism:
    """By how much the best of `count` submissions looks better than it is, if they were all equal.

    Attributes:
        sd: noise of one submission's score on `images` images beside the others'.
        from_local: `sd` was measured on the validation images; else it is the scatter of the board's own scores, which
            real differences enlarge.
    """

    count: int
    images: int
    sd: float
    from_local: bool

    @property
    def value(self) -> float:
        return expected_maximum(self.count) * self.sd

    def __str__(self) -> str:
        source = "from the local scores of each image" if self.from_local else "at most: from the board's own scatter"
        return (
            f"the best of {self.count} equal models would look {self.value:.4f} better than it is on {self.images} "
            f"images ({source})"
        )


def agreement(local_S: Sequence[float], board_S: Sequence[float]) -> Agreement:
    """Of local scores and a leaderboard's."""
    count = len(local_S)
    if count < 2 or len(set(local_S)) < 2 or len(set(board_S)) < 2:
        return Agreement(count)
    from scipy.stats import kendalltau, spearmanr

    tau = float(kendalltau(local_S, board_S).statistic)
    rho = float(spearmanr(local_S, board_S).statistic)
    if count < LEAST:
        return Agreement(count, tau, rho)
    return Agreement(count, tau, rho, *tau_interval(tau, count))


def tau_interval(tau: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Every true t with (tau - t)^2 <= z^2 2 (1 - t^2) / n: the two roots of (1 + c) t^2 - 2 tau t + tau^2 - c = 0."""
    c = 2.0 * _NORMAL.inv_cdf((1 + level) / 2) ** 2 / count
    spread = math.sqrt(max(0.0, c * (1 + c - tau**2)))
    return (tau - spread) / (1 + c), (tau + spread) / (1 + c)


def expected_maximum(count: int) -> float:
    """Mean of the largest of `count` independent standard normals: the integral of x d(Phi(x)^count)."""
    x = np.linspace(0.0, 12.0, 12_001)
    above, below = (np.array([_NORMAL.cdf(value) for value in side]) ** count for side in (x, -x))
    # By parts, so that nothing is differentiated: int_0^inf (1 - F) - int_-inf^0 F.
    return float(np.trapezoid(1.0 - above - below, x))


def optimism(found: Sequence[Submission], images: int) -> Optimism | None:
    """Of the best of these submissions; None for one, or where nothing tells the noise."""
    if len(found) < 2 or images < 1:
        return None
    rows = [np.array(one.local.hmean_N) for one in found if one.local is not None]
    sizes = Counter(len(row) for row in rows)
    alike = [row for row in rows if len(row) == sizes.most_common(1)[0][0]] if rows else []
    if len(alike) >= 2:
        # Two models on the same images differ by noise of variance 2 sd^2; what both have in common moves no ranks.
        variances = [float(np.var(a_N - b_N, ddof=1)) / 2.0 for a_N, b_N in combinations(alike, 2) if len(a_N) > 1]
        if variances and max(variances) > 0:
            return Optimism(len(found), images, math.sqrt(float(np.mean(variances)) / images), True)
    scatter = float(np.std([one.hmean for one in found], ddof=1))
    return Optimism(len(found), images, scatter, False) if scatter > 0 else None


@dataclass(frozen=True, slots=True)
class Budget:
    """How many files a board takes.

    Attributes:
        total, per_day: limits; None for none.
        public_images: of the test images, those that the public score is of; None for all.
    """

    total: int | None = None
    per_day: int | None = None
    public_images: int | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """Of a budget: each file counts once, whatever boards it has scores on."""

    total: int
    today: int
    budget: Budget

    @property
    def left(self) -> int | None:
        """Of the total."""
        return None if self.budget.total is None else self.budget.total - self.total

    @property
    def left_today(self) -> int | None:
        if self.budget.per_day is None:
            return self.left
        today = self.budget.per_day - self.today
        return today if self.left is None else min(today, self.left)

    def __str__(self) -> str:
        if self.budget.total is None and self.budget.per_day is None:
            return f"{self.total} submissions; the plan sets no `budget.submissions`"
        whole = f"{self.total} of {self.budget.total}" if self.budget.total is not None else f"{self.total}"
        left = "" if self.left is None else f", {max(0, self.left)} left"
        day = "" if self.budget.per_day is None else f"; today {self.today} of {self.budget.per_day}"
        over = " (over the budget)" if (self.left or 0) < 0 or (self.left_today or 0) < 0 else ""
        return f"{whole} submissions{left}{day}{over}"


def spent(found: Sequence[Submission], budget: Budget, now: datetime) -> Spent:
    """What was used; a day is one of `now`'s time zone."""
    firsts: dict[str, datetime] = {}
    for one in found:
        at = datetime.fromisoformat(one.at)
        firsts[one.file.sha256] = min(at, firsts.get(one.file.sha256, at))
    today = sum(at.astimezone(now.tzinfo).date() == now.date() for at in firsts.values())
    return Spent(len(firsts), today, budget)


def latest(found: Sequence[Submission], board: str) -> list[Submission]:
    """The last score of each file on a board, in the order of the files."""
    files: dict[str, Submission] = {}
    for one in found:
        if one.board == board:
            files[one.file.sha256] = one
    return list(files.values())


def comparable(found: Sequence[Submission], kind: Kind = "local") -> list[Submission]:
    """Those with a local (or out-of-fold) score, on the images that most of them share."""
    sets = {one.number: score.images for one in found if (score := getattr(one, kind)) is not None}
    most = Counter(sets.values()).most_common(1)
    return [one for one in found if most and sets.get(one.number) == most[0][0]]


def agreements(found: Sequence[Submission], board: str, kind: Kind) -> Agreement:
    """The ranks of a board's last scores against those here."""
    both = comparable(latest(found, board), kind)
    return agreement([getattr(one, kind).hmean for one in both], [one.hmean for one in both])


def warnings(found: Sequence[Submission], champion: str | None, budget: Budget) -> list[str]:
    """Signs that choices follow the leaderboard.

    Args:
        found: in their order.
        champion: digest of the model that would go out now.
    """
    public = latest(found, "public")
    told = _thresholds_alone(public)
    told += _best_is_another(found, public, champion)
    return told + _optimism(public, budget)


def _thresholds_alone(public: Sequence[Submission]) -> list[str]:
    told = []
    for group in _groups(public, lambda one: repr(same_model(one.made.model)) if one.made else None):
        if len(group) > THRESHOLDS_ALONE:
            names = ", ".join(f"#{one.number}" for one in group)
            spread = max(one.hmean for one in group) - min(one.hmean for one in group)
            told.append(
                f"{len(group)} submissions of one model differ in thresholds alone ({names}; public H within "
                f"{spread:.4f}): that is a search on the leaderboard; a `thresholds:` experiment searches hundreds, "
                "cross-fitted, and costs none"
            )
    return told


def _best_is_another(found: Sequence[Submission], public: Sequence[Submission], champion: str | None) -> list[str]:
    both = comparable(public)
    if len(both) < 2:
        return []
    on_board = max(both, key=lambda one: one.hmean)
    here = max(both, key=lambda one: one.local.hmean if one.local else 0.0)
    if on_board is here or on_board.local is None or here.local is None:
        return []
    chosen = _how_chosen(found, on_board, champion)
    gap = on_board.hmean - here.hmean
    verb = f"and was chosen ({chosen})" if chosen else "is the board's alone"
    return [
        f"#{on_board.number} is the best on the public board ({on_board.hmean:.4f}, local {on_board.local.hmean:.4f}) "
        f"{verb}; #{here.number} is the best here (local {here.local.hmean:.4f}, public {here.hmean:.4f}): keep that "
        f"one unless the board's {gap:.4f} is more than its noise"
    ]


def _how_chosen(found: Sequence[Submission], best: Submission, champion: str | None) -> str:
    """What shows that the board's best was taken further; empty if nothing does."""
    if best.made is not None and champion == best.made.model["digest"]:
        return "it is the champion"
    if any(one.board == "private" and one.file.sha256 == best.file.sha256 for one in found):
        return "it has a private score"
    later = [one for one in found if one.number > best.number and one.file.sha256 != best.file.sha256 and one.made]
    if best.made is not None:
        model = same_model(best.made.model)
        numbers = [f"#{one.number}" for one in later if one.made and same_model(one.made.model) == model]
        if numbers:
            return f"{', '.join(numbers)} followed with its members"
    return ""


def _optimism(public: Sequence[Submission], budget: Budget) -> list[str]:
    if len(public) < 2:
        return []
    images = budget.public_images or max(one.file.images for one in public)
    value = optimism(public, images)
    return [] if value is None else [str(value)]


def _groups(items: Sequence[Submission], key: Callable[[Submission], Hashable]) -> list[list[Submission]]:
    groups: dict[Any, list[Submission]] = {}
    for item in items:
        if (name := key(item)) is not None:
            groups.setdefault(name, []).append(item)
    return list(groups.values())
