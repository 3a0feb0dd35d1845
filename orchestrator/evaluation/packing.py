"""Where the maps of a search come from: the cache's files here, and the bytes of these files in a process elsewhere.

A process of another machine may not see the cache of the one that drives the run, so the maps of a few pages travel
with the work on them, compressed as they lie in the cache (about 50 kB each).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from orchestrator.evaluation.maps import MapStore, read_map

if TYPE_CHECKING:
    from detector.inference.fusion import PageMap

Source = TypeVar("Source", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class PackedStore:
    """The maps of one checkpoint on some pages, as bytes."""

    files: Mapping[str, bytes]

    def map(self, name: str) -> PageMap:
        """The map of a page."""
        return read_map(io.BytesIO(self.files[name]))


Store = MapStore | PackedStore


@dataclass(frozen=True, slots=True)
class ViewMaps:
    """Candidate, view and page name -> map.

    Attributes:
        stores: of each view, one a candidate.
    """

    stores: Mapping[str, Sequence[Store]]

    def __call__(self, candidate: int, view: str, name: str) -> PageMap:
        return self.stores[view][candidate].map(name)

    def packed(self, names: Sequence[str]) -> ViewMaps:
        """The maps of these pages alone, ready to be sent."""
        return ViewMaps({view: [_packed(store, names) for store in stores] for view, stores in self.stores.items()})


@dataclass(frozen=True, slots=True)
class MeanMaps:
    """Page name -> the mean of the maps of all stores."""

    stores: Sequence[Store]

    def __call__(self, name: str) -> PageMap:
        from detector.inference.fusion import fuse

        return fuse([store.map(name) for store in self.stores])

    def packed(self, names: Sequence[str]) -> MeanMaps:
        """The maps of these pages alone, ready to be sent."""
        return MeanMaps([_packed(store, names) for store in self.stores])


def packed(maps: Source, names: Sequence[str]) -> Source:
    """`maps` as it can be sent to work on these pages; a function of its own is sent as it is."""
    found: Source = maps.packed(names) if isinstance(maps, ViewMaps | MeanMaps) else maps  # type: ignore[assignment]
    return found


def _packed(store: Store, names: Sequence[str]) -> PackedStore:
    if isinstance(store, PackedStore):
        return store
    return PackedStore({name: store.file(name).read_bytes() for name in names})
