"""What `check` looks at in the images of a plan: every file there and readable, sizes, pictures that come twice.

Twins are pictures with equal bytes, or equal upright pixels in other bytes. They harm where they fall into different
folds (out-of-fold scores of pages that were learned from), or into two of train, val and test; each such pair is
named. Equal bytes in train and val are refused by `plan.data` before this. Only pictures of equal size can be twins, so
only those are decoded; what was found is kept in `<workspace>/data/preflight.json` under the state of every file.
`data check` decodes all, and finds pictures that merely look alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from detector.errors import DataError
from detector.files import read_json, write_json
from detector.types import Page
from orchestrator.plan.data import image_hashes, read_datasets, state_of
from orchestrator.plan.datasets import Datasets
from orchestrator.plan.schema_data import DataSpec

FORMAT: Final = 1
NAMED: Final = 20  # unreadable files in a message
# Without its end a picture was cut off; Pillow's header tells nothing of that.
ENDS: Final[Mapping[bytes, bytes]] = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}
END_BYTES: Final = 4096  # some cameras write after the end


@dataclass(frozen=True, slots=True)
class Twin:
    """Two equal pictures, `train/a.jpg (fold 0)` and `val/b.jpg`; `same`: their `bytes`, or their `pixels` alone."""

    one: str
    other: str
    same: str

    def __str__(self) -> str:
        kind = "byte for byte" if self.same == "bytes" else "pixel for pixel"
        homes = {name.partition("/")[0] for name in (self.one, self.other)}
        if homes == {"train"}:
            remedy = "out-of-fold scores would be of pages learned from; remove one, or keep both in one `folds.group`"
        elif homes == {"train", "val"}:
            remedy = "a model would be scored on what it has learned from; remove one"
        else:
            remedy = "scores would tell less than they seem; remove one if it is not meant"
        return f"data: {self.one} and {self.other} are the same picture, {kind}; {remedy}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """The images of one part: files, their bytes, and the smallest and largest (width, height) in px, by area."""

    files: int
    bytes: int
    smallest_wh: tuple[int, int]
    largest_wh: tuple[int, int]

    def __str__(self) -> str:
        (w, h), (wide, high) = self.smallest_wh, self.largest_wh
        pixels = f"{w} x {h}" if self.smallest_wh == self.largest_wh else f"{w} x {h} to {wide} x {high}"
        return f"{self.files} files, {self.bytes / 1e6:.1f} MB, {pixels} px"


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found; `sizes` by part."""

    sizes: Mapping[str, Sizes]
    twins: tuple[Twin, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "sizes": {part: asdict(found) for part, found in self.sizes.items()},
            "twins": [*map(asdict, self.twins)],
        }


def preflight(spec: DataSpec, workspace: Path) -> Preflight:
    """Look at all images of a plan whose data is there; again only where a file has changed.

    Raises:
        DataError: images that cannot be read, each with the reason.
    """
    path = workspace / "data" / "preflight.json"
    state = f"{FORMAT} {state_of(spec, workspace)}"
    known = _kept(path, state)
    if known is not None:
        return known
    found = survey(read_datasets(spec, workspace), workspace)
    try:
        write_json(path, {"state": state, **found.as_json()}, indent=None)
    except OSError:  # `check` by someone who may not write here: it costs time, nothing else
        return found
    return found


def survey(datasets: Datasets, workspace: Path) -> Preflight:
    """Look at all images of these sets.

    Raises:
        DataError: as of `preflight`.
    """
    from detector.data.index import bare  # loads OpenCV: only where pages are read

    parts: dict[str, list[Page]] = {
        "train": list(bare(datasets.train)),
        "val": list(bare(datasets.val)),
        "test": list(datasets.test),
    }
    places = [(part, index, page.path) for part, pages in parts.items() for index, page in enumerate(pages)]
    wh = _sizes_of([path for _, _, path in places])
    hashes = image_hashes([page for pages in parts.values() for page in pages], workspace)
    names = [_name(part, parts[part][index].name, datasets.folds, index) for part, index, _ in places]
    homes = [_home(part, datasets.folds, index) for part, index, _ in places]
    paths = [path for _, _, path in places]
    twins = [
        Twin(names[a], names[b], same)
        for a, b, same in _pairs(paths, wh, [hashes[path] for path in paths])
        if homes[a] != homes[b]
    ]
    sizes = {}
    for part, pages in parts.items():
        mine = [size for (home, _, _), size in zip(places, wh, strict=True) if home == part]
        if pages:
            by_area = sorted(mine, key=lambda size: size[0] * size[1])
            total = sum(page.path.stat().st_size for page in pages)
            sizes[part] = Sizes(len(pages), total, by_area[0], by_area[-1])
    return Preflight(sizes, tuple(twins))


def _pairs(
    paths: Sequence[Path], wh: Sequence[tuple[int, int]], hashes: Sequence[str]
) -> Iterator[tuple[int, int, str]]:
    """Indices of equal pictures, two by two."""
    from detector.data.check_images import look_at

    by_size: dict[tuple[int, int], dict[str, list[int]]] = {}
    for index, (size, content) in enumerate(zip(wh, hashes, strict=True)):
        by_size.setdefault(size, {}).setdefault(content, []).append(index)
    several = [group for group in by_size.values() if len(group) > 1]
    firsts = [indices[0] for group in several for indices in group.values()]
    looks = dict(zip(firsts, look_at([paths[index] for index in firsts]), strict=True))
    broken = [look.fault for look in looks.values() if look.fault]
    if broken:
        raise _unreadable(broken)
    for group in by_size.values():
        pixels: dict[object, list[list[int]]] = {}
        for content, indices in group.items():
            yield from ((a, b, "bytes") for a, b in combinations(indices, 2))
            shown = looks[indices[0]].pixels if indices[0] in looks else content
            pixels.setdefault(shown, []).append(indices)
        for alike in pixels.values():
            for one, other in combinations(alike, 2):
                yield from ((a, b, "pixels") for a in one for b in other)


def _sizes_of(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """(width, height) of every image, from its header."""
    from detector.data.images import image_size

    found, broken = [], []
    for path in paths:
        try:
            found.append(image_size(path))
            if fault := _cut_off(path):
                broken.append(fault)
        except DataError as error:
            broken.append(str(error))
    if broken:
        raise _unreadable(broken)
    return found


def _cut_off(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(4)
        stream.seek(max(0, path.stat().st_size - END_BYTES))
        tail = stream.read()
    end = next((end for start, end in ENDS.items() if head.startswith(start)), b"")
    return "" if end in tail else f"{path}: ends before its picture does; replace the file or remove its entry"


def _unreadable(faults: Sequence[str]) -> DataError:
    more = [f"data: {len(faults) - NAMED} more"] if len(faults) > NAMED else []
    return DataError("\n".join([*faults[:NAMED], *more]))


def _name(part: str, name: str, folds: Sequence[int], index: int) -> str:
    return f"{part}/{name} (fold {folds[index]})" if part == "train" and folds else f"{part}/{name}"


def _home(part: str, folds: Sequence[int], index: int) -> tuple[str, int]:
    return part, folds[index] if part == "train" and folds else 0


def _kept(path: Path, state: str) -> Preflight | None:
    if not path.is_file():
        return None
    try:
        value = read_json(path)
        if value["state"] != state:
            return None
        sizes = {
            part: Sizes(each["files"], each["bytes"], tuple(each["smallest_wh"]), tuple(each["largest_wh"]))
            for part, each in value["sizes"].items()
        }
        return Preflight(sizes, tuple(Twin(**twin) for twin in value["twins"]))
    except (DataError, KeyError, TypeError):  # a cache that cannot be read is made again
        return None
