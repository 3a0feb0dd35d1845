"""What a look at an image file tells: its size, whether it can be decoded, and which others show the same.

Two digests: one over the upright pixels, equal for equal pictures in whatever file; and 256 signs of brightness
differences (the difference hash of N. Krawetz, 2013), few of which change when a picture is scaled or compressed anew.
Shapes: N images; a hash is 4 words of 64 bits, or B = 16 bands of 16.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.data.images import read_image
from detector.errors import DataError

SIDE: Final = 16  # SIDE * SIDE signs
BANDS: Final = 16
NEAR_BITS: Final = 15  # fewer than BANDS: two such images agree in a whole band, so that they are found by it
FINE_PX: Final = 192
# Of 500 receipts: those compressed at quality 50, halved or brightened by 10 % stay above .88 (95 of 100 above .94);
# different receipts whose signs are near reach .82.
ALIKE: Final = 0.88
MOST_IN_BAND: Final = 64  # neighbours looked at in one band; more are blank pages


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One image file.

    Attributes:
        wh: (width, height) in px, EXIF orientation applied; (0, 0) where the file cannot be decoded.
        pixels: digest over the upright RGB pixels.
        signs: 256 bits, packed into 4.
        fault: why it cannot be decoded; "" if it can.
    """

    wh: tuple[int, int]
    pixels: bytes = b""
    signs: NDArray[np.uint64] | None = None
    fault: str = ""


def look(path: Path) -> Look:
    """Decode one file whole and forget its pixels."""
    try:
        image = read_image(path)
    except DataError as error:
        return Look((0, 0), fault=str(error))
    height, width = image.shape[:2]
    digest = blake2b(f"{width} {height} ".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    # Bit i goes to band i mod 16: a band holds signs of the whole page, not of one blank margin.
    signs = np.packbits((grey[:, 1:] > grey[:, :-1]).T.ravel()).view(np.uint64)
    return Look((width, height), digest.digest(), signs)


def look_at(paths: Sequence[Path], threads: int = 0) -> Iterator[Look]:
    """Looks in the order of the paths; no more pictures than threads are in memory at a time.

    Args:
        threads: 0 takes one a processor, 8 at most.
    """
    count = threads or min(8, os.cpu_count() or 1)
    waiting: deque[Future[Look]] = deque()
    with ThreadPoolExecutor(max_workers=count) as pool:
        for path in paths:
            waiting.append(pool.submit(look, path))
            if len(waiting) > 4 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def equal_groups(looks: Sequence[Look]) -> list[list[int]]:
    """Indices of images with equal pixels, groups of two or more, in the order of their first ones."""
    homes: dict[bytes, list[int]] = {}
    for index, seen in enumerate(looks):
        if not seen.fault:
            homes.setdefault(seen.pixels, []).append(index)
    return [group for group in homes.values() if len(group) > 1]


def similar_groups(paths: Sequence[Path], looks: Sequence[Look]) -> list[list[int]]:
    """Indices of images that look alike though their pixels differ: scaled, compressed anew, a little brighter.

    Candidates differ in at most `NEAR_BITS` signs; so they agree in one of `BANDS` bands, and only neighbours in the
    order of a band are compared: N log N. Pages with little on them agree in their signs alone, so candidates are read
    again and must correlate as pictures of `FINE_PX` px.
    """
    first: dict[bytes, int] = {}
    for index, seen in enumerate(looks):
        if seen.signs is not None:
            first.setdefault(seen.pixels, index)
    kept = list(first.values())
    if len(kept) < 2:
        return []
    signs_N4 = np.stack([signs for index in kept if (signs := looks[index].signs) is not None])
    parent = np.arange(len(kept))
    fine = lru_cache(maxsize=256)(lambda place: _fine(paths[kept[place]]))
    for left, right in _candidates(signs_N4):
        if _root(parent, left) != _root(parent, right) and float((fine(left) * fine(right)).sum()) >= ALIKE:
            _join(parent, left, right)
    groups: dict[int, list[int]] = {}
    for place, index in enumerate(kept):
        groups.setdefault(_root(parent, place), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _candidates(signs_N4: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    bands_NB = np.ascontiguousarray(signs_N4).view(np.uint16)
    for band in range(BANDS):
        order = np.argsort(bands_NB[:, band], kind="stable")
        keys = bands_NB[order, band]
        for step in range(1, min(len(keys), MOST_IN_BAND + 1)):
            together = np.nonzero(keys[step:] == keys[:-step])[0]
            if not len(together):
                break
            a, b = order[together], order[together + step]
            near = np.bitwise_count(signs_N4[a] ^ signs_N4[b]).sum(axis=1) <= NEAR_BITS
            yield from zip(a[near].tolist(), b[near].tolist(), strict=True)


def _fine(path: Path) -> NDArray[np.float32]:
    """A small grey picture of mean 0 and length 1: the product of two of them is their correlation."""
    image = read_image(path, at_least_wh=(FINE_PX, FINE_PX))
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (FINE_PX, FINE_PX), interpolation=cv2.INTER_AREA)
    level = grey.astype(np.float32) - grey.mean(dtype=np.float32)
    return np.asarray(level / max(float(np.linalg.norm(level)), 1.0), dtype=np.float32)


def _root(parent: NDArray[np.int64], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = int(parent[place])
    return place


def _join(parent: NDArray[np.int64], left: int, right: int) -> None:
    a, b = sorted((_root(parent, left), _root(parent, right)))
    parent[b] = a
