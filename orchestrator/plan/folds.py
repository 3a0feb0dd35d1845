"""K folds of the training pages: shuffled from a seed, of nearly equal size, groups kept together."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from detector.errors import DataError


def assign(names: Sequence[str], k: int, seed: int, group: str | None = None) -> tuple[int, ...]:
    """For each name its fold, 0 .. k - 1.

    The outcome depends on the set of names, not on their order. Without groups, sizes differ by at most one. With
    groups (names with an equal match of `group`, or of its first parenthesis) the largest go first, each to the
    smallest fold so far.

    Raises:
        DataError: fewer groups than folds, or a name that `group` does not match.
    """
    members: dict[str, list[str]] = {}
    for name in sorted(names):
        members.setdefault(_group(name, group), []).append(name)
    if len(members) < k:
        what = "pages" if group is None else f"groups by {group!r}"
        raise DataError(f"data.folds: k={k} folds need as many {what}, got {len(members)}; take a smaller k")
    shuffled = [list(members)[index] for index in np.random.default_rng(seed).permutation(len(members))]
    shuffled.sort(key=lambda key: -len(members[key]))  # stable: equal sizes stay shuffled
    sizes = [0] * k
    home: dict[str, int] = {}
    for key in shuffled:
        fold = sizes.index(min(sizes))
        sizes[fold] += len(members[key])
        home |= dict.fromkeys(members[key], fold)
    return tuple(home[name] for name in names)


def _group(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None:
        raise DataError(f"data.folds.group: {pattern!r} matches nothing in {name}; every page needs a group")
    return match[1] if match.re.groups else match[0]
