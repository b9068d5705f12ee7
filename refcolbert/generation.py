"""Generation: one complete state of an index, mapped and immutable; and how the next one is made from it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import codec as codecs
from . import segments
from .documents import Document
from .errors import InvalidInput, UnknownId
from .files import Pin
from .format import Manifest, SegmentEntry
from .search import Collection
from .segments import Made, Stored
from .store import Store, Writer

__all__ = ["Generation", "publish"]


class Generation:
    """One generation, mapped: immutable, so searches need no lock. It stays on disk as long as this object lives."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        *,
        verify: bool,
        pin: Pin | None = None,
        known: "Generation | None" = None,
    ) -> None:
        """Load what `manifest` names; what a `known` generation shares with it is taken over, not read again."""
        self.manifest, self._pin = manifest, pin
        self.collection: Collection
        shared = _shared(known, manifest)
        codec = known.collection.codec if known and shared else segments.load_codec(store, manifest, verify=verify)
        self.stored = [
            shared[i] if i in shared else segments.load(store, manifest, entry, verify=verify)
            for i, entry in enumerate(manifest.segments)
        ]
        self.collection = Collection(manifest.dim, codec, tuple(s.segment for s in self.stored))

    def places(self, ids: Sequence[str]) -> list[tuple[int, int]]:
        """(segment, row) of each id. Raises `UnknownId` when one is not here."""
        found = self.find(ids)
        missing = [name for name in ids if name not in found]
        if missing:
            raise UnknownId(f"{len(missing)} of {len(ids)} ids are not in the index, the first is {missing[0]!r}")
        return [found[name] for name in ids]

    def without(self, places: Iterable[tuple[int, int]]) -> list[Stored]:
        """The segments with these (segment, row) places deleted; one in which nothing lives is left out."""
        live = [stored.segment.live.copy() for stored in self.stored]
        for i, row in places:
            live[i][row] = False
        return [
            stored if alive.sum() == stored.segment.live.sum() else stored.with_live(alive)
            for stored, alive in zip(self.stored, live, strict=True)
            if alive.any()
        ]

    def find(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """id -> (segment, row) of the live documents among `ids`."""
        return {
            name: (i, row)
            for i, stored in enumerate(self.stored)
            for name, row in stored.documents.rows(ids).items()
            if stored.segment.live[row]
        }

    def documents(self, numbers: NDArray[np.int64]) -> list[Document]:
        """The documents with these numbers in the collection, in that order."""
        found: dict[int, Document] = {}
        for stored, start in zip(self.stored, self.collection.starts, strict=False):
            mine = numbers[(numbers >= start) & (numbers < start + len(stored.segment))]
            found |= zip(mine.tolist(), stored.documents.get((mine - start).tolist()), strict=True)
        return [found[number] for number in numbers.tolist()]

    def allowed(self, where: Mapping[str, Any] | None, ids: Iterable[str] | None) -> NDArray[np.bool_] | None:
        """[n_docs] documents that a filter and a list of ids leave; None when neither is given."""
        if where is None and ids is None:
            return None
        allowed = np.ones(len(self.collection.live), np.bool_)
        starts = self.collection.starts
        if where is not None:
            matching = [s.documents.matching(where) + start for s, start in zip(self.stored, starts, strict=False)]
            allowed &= np.isin(np.arange(len(allowed)), np.concatenate([np.empty(0, np.int64), *matching]))
        if ids is not None:
            if isinstance(ids, str):
                raise InvalidInput("ids must be a list of ids, found one string; pass [id]")
            numbers = [int(starts[i]) + row for i, row in self.find(list(ids)).values()]
            allowed &= np.isin(np.arange(len(allowed)), np.array(numbers, np.int64))
        return allowed


def _shared(known: Generation | None, manifest: Manifest) -> dict[int, Stored]:
    """Which segments of `manifest` a known generation has already loaded: number -> segment."""
    if known is None or (known.manifest.dim, known.manifest.codec) != (manifest.dim, manifest.codec):
        return {}
    by_name = {stored.entry.files["documents"].name: stored for stored in known.stored}
    found = ((i, by_name.get(entry.files["documents"].name)) for i, entry in enumerate(manifest.segments))
    return {i: stored for i, stored in found if stored is not None and stored.entry == manifest.segments[i]}


def publish(
    writer: Writer,
    generation: Generation,
    kept: Sequence[Stored],
    made: Sequence[Made],
    *,
    merge_all: bool = False,
    refit: bool = False,
) -> Manifest:
    """Commit the generation of `kept` segments, whose tombstones may be new, followed by `made` ones.

    Vectors stay raw until `train_at` live tokens; then, or when `refit` asks for it, a codec is fitted and everything
    becomes one segment encoded with it. Otherwise segments are merged from the end, see `_merge_small`.
    """
    manifest, codec = generation.manifest, generation.collection.codec
    pieces: list[Stored | Made] = [*kept, *made]
    tokens = sum(int(np.diff(p.segment.offsets)[p.segment.live].sum()) for p in pieces)
    due = refit or (codec is None and tokens >= manifest.train_at)
    if pieces and due and isinstance(manifest.nbits, int):
        merged = segments.merge(pieces)
        fitted = codecs.fit(*segments.sample(merged, codec, manifest.seed), manifest.nbits, manifest.seed)
        pieces = [segments.recode(merged, codec, fitted)]
        manifest = replace(manifest, codec=segments.write_codec(writer, fitted))
    else:
        pieces = _merge_small(pieces, merge_all)
    new = sum(int((m.segment.positions >= manifest.next_position).sum()) for m in made)
    manifest = replace(
        manifest,
        generation=writer.generation,
        next_position=manifest.next_position + new,
        segments=tuple(_entry(writer, piece, generation) for piece in pieces),
    )
    writer.commit(manifest)
    return manifest


def _entry(writer: Writer, piece: Stored | Made, generation: Generation) -> SegmentEntry:
    """How the manifest names a piece, its files staged where they are new."""
    if isinstance(piece, Made):
        return segments.write(writer, piece, generation.manifest.nbits)
    if any(piece is old for old in generation.stored):
        return piece.entry
    return segments.write_deleted(writer, piece.entry, piece.segment.live)


def _merge_small(pieces: list[Stored | Made], merge_all: bool) -> list[Stored | Made]:
    """Merge from the end while a segment is less than twice as large as all behind it: their number is logarithmic."""
    first, behind = len(pieces), 0
    while first > 0 and (merge_all or first == len(pieces) or len(pieces[first - 1].segment) < 2 * behind):
        first -= 1
        behind += len(pieces[first].segment)
    tail = pieces[first:]
    if len(tail) > 1 or (merge_all and tail and not tail[0].segment.live.all()):
        return [*pieces[:first], segments.merge(tail)]
    return pieces
