"""The valid name that a wrong one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FEW = 12  # names that a message may list


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean `x`?`, or what there is, or nothing."""
    known = sorted(set(candidates))
    lowered = {candidate.lower(): candidate for candidate in known}
    for candidate in known:
        if candidate.rpartition(".")[2] == name:
            return f"; did you mean `{candidate}`?"
    # `_` and `-` left out so that batchsize finds batch_size first.
    close = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{lowered[close[0]]}`?"
    if 0 < len(known) <= FEW:
        return f"; there {'is' if len(known) == 1 else 'are'} {', '.join(f'`{candidate}`' for candidate in known)}"
    return ""
