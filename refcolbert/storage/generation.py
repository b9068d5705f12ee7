"""Generation: one complete state of an index, mapped and immutable; and how the next one is made from it."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..documents import Document
from ..engine import codec as codecs
from ..engine.codec import Codec
from ..engine.segments import SegmentedIndex
from ..errors import CorruptIndexError, InvalidInput, UnknownId
from . import segment_files
from .format import Manifest, SegmentEntry
from .locks import Pin
from .segment_files import NewSegment, OldSegment, StoredSegment
from .store import Store, Writer

__all__ = ["Generation", "publish", "warn_of_drift"]

log = logging.getLogger("refcolbert")

DRIFT = 1.25  # quantization error of new documents over that of those the codec was fitted to
STAGED = 256  # segments of a build before they are merged: three open files each
ENOUGH = 256  # tokens from which on their mean error means something
REMEDY = "compact(refit=True) fits the codec to what is there; best is to index the texts anew"


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
        self.segmented: SegmentedIndex
        shared = _shared(known, manifest)
        codec = known.segmented.codec if known and shared else segment_files.load_codec(store, manifest, verify=verify)
        self.stored = [
            shared[i] if i in shared else segment_files.load(store, manifest, entry, verify=verify)
            for i, entry in enumerate(manifest.segments)
        ]
        self.segmented = SegmentedIndex(manifest.dim, codec, tuple(s.segment for s in self.stored))

    def live_documents(self) -> Iterator[Document]:
        """The documents that are not deleted, by position, read one at a time."""
        return itertools.chain.from_iterable(stored.live_documents() for stored in self.stored)

    def ids(self) -> Iterator[str]:
        """Ids of the live documents, by position."""
        for stored in self.stored:
            for name, live in zip(stored.documents.ids(), stored.segment.live, strict=True):
                if live:
                    yield name

    def quantization_error(self) -> dict[str, Any] | None:
        """How well the codec fits: its error when it was fitted, that of what is held, what to do; None while raw."""
        codec, entries = self.manifest.codec, self.manifest.segments
        if codec is None or not entries:
            return None
        now = sum(entry.error * entry.n_tokens for entry in entries) / sum(entry.n_tokens for entry in entries)
        return {"fitted": codec.error, "now": now, "remedy": REMEDY if now > DRIFT * codec.error else None}

    def check_norms(self) -> None:
        """Raise `CorruptIndexError` when a vector is longer than its segment's `largest_norm` says.

        Not when a shorter one is: `largest_norm` is a bound, and those that reached it may have been deleted.
        """
        slack = self.manifest.dim**0.5 * 2.0**-24  # float16 rounds scales and components by 2^-11 or, near 0, by 2^-25
        for number, stored in enumerate(self.stored):
            found, expected = stored.segment.longest(self.segmented.codec), stored.segment.largest_norm
            if found > expected * (1 + 2.0**-10) + slack:
                raise CorruptIndexError(
                    f"manifest.json: segment {number}: expected no vector longer than largest_norm {expected:.6g}, "
                    f"found one of norm {found:.6g}; restore the index from a copy"
                )

    def places(self, ids: Sequence[str]) -> list[tuple[int, int]]:
        """(segment, row) of each id. Raises `UnknownId` when one is not here."""
        found = self.find(ids)
        missing = [name for name in ids if name not in found]
        if missing:
            raise UnknownId(f"{len(missing)} of {len(ids)} ids are not in the index, the first is {missing[0]!r}")
        return [found[name] for name in ids]

    def without(self, places: Iterable[tuple[int, int]]) -> list[StoredSegment]:
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
        for stored, start in zip(self.stored, self.segmented.starts, strict=False):
            mine = numbers[(numbers >= start) & (numbers < start + len(stored.segment))]
            found |= zip(mine.tolist(), stored.documents.get((mine - start).tolist()), strict=True)
        return [found[number] for number in numbers.tolist()]

    def allowed(self, where: Mapping[str, Any] | None, ids: Iterable[str] | None) -> NDArray[np.bool_] | None:
        """[n_docs] documents that a filter and a list of ids leave; None when neither is given."""
        if where is None and ids is None:
            return None
        allowed = np.ones(len(self.segmented.live), np.bool_)
        starts = self.segmented.starts
        if where is not None:
            matching = [s.documents.matching(where) + start for s, start in zip(self.stored, starts, strict=False)]
            allowed &= np.isin(np.arange(len(allowed)), np.concatenate([np.empty(0, np.int64), *matching]))
        if ids is not None:
            if isinstance(ids, str):
                raise InvalidInput("ids must be a list of ids, found one string; pass [id]")
            numbers = [int(starts[i]) + row for i, row in self.find(list(ids)).values()]
            allowed &= np.isin(np.arange(len(allowed)), np.array(numbers, np.int64))
        return allowed


def _shared(known: Generation | None, manifest: Manifest) -> dict[int, StoredSegment]:
    """Which segments of `manifest` a known generation has already loaded: number -> segment."""
    if known is None or (known.manifest.dim, known.manifest.codec) != (manifest.dim, manifest.codec):
        return {}
    by_name = {stored.entry.files["documents"].name: stored for stored in known.stored}
    found = ((i, by_name.get(entry.files["documents"].name)) for i, entry in enumerate(manifest.segments))
    return {
        i: stored
        for i, stored in found
        if stored is not None and stored.entry == manifest.segments[i] and stored.documents.in_place()
    }


def warn_of_drift(path: Path, manifest: Manifest, made: NewSegment) -> None:
    """Log a warning when new documents fit the codec clearly worse than those it was fitted to."""
    if manifest.codec and made.segment.offsets[-1] >= ENOUGH and made.error > DRIFT * manifest.codec.error:
        log.warning(
            "%s: new documents have drifted from the codec: quantization error %.3f, fitted at %.3f; %s",
            path,
            made.error,
            manifest.codec.error,
            REMEDY,
        )


def publish(
    writer: Writer,
    generation: Generation,
    kept: Sequence[StoredSegment],
    made: Sequence[NewSegment],
    *,
    merge_all: bool = False,
    refit: bool = False,
    staging: bool = False,
) -> Manifest:
    """Commit the generation of `kept` segments, whose tombstones may be new, followed by `made` ones.

    Vectors stay raw until `train_at` live tokens; then, or when `refit` asks for it, a codec is fitted and everything
    becomes one segment encoded with it. Otherwise segments are merged from the end, see `_merge_small`. While `staging`
    no codec is fitted, and segments are only merged when they become too many to be open at once.
    """
    manifest, old = generation.manifest, generation.segmented.codec
    pieces: list[OldSegment] = [*kept, *made]
    tokens = sum(int(segment_files.live_lengths(p.segment).sum()) for p in pieces)
    new, groups = old, _merge_small(pieces, merge_all)
    if staging:
        groups = [pieces] if len(pieces) > STAGED else [[piece] for piece in pieces]
    elif pieces and isinstance(manifest.nbits, int) and (refit or (old is None and tokens >= manifest.train_at)):
        new, groups = (
            codecs.fit(*segment_files.sample(pieces, old, manifest.seed), manifest.nbits, manifest.seed),
            [pieces],
        )
    entries = [_entry(writer, group, manifest.nbits, old, new, drop=merge_all) for group in groups]
    if new is not None and new is not old:
        manifest = replace(manifest, codec=segment_files.write_codec(writer, new, entries[0].error))
    added = sum(int((m.segment.positions >= manifest.next_position).sum()) for m in made)
    manifest = replace(
        manifest,
        generation=writer.generation,
        next_position=manifest.next_position + added,
        segments=tuple(entries),
    )
    writer.commit(manifest)
    return manifest


def _entry(
    writer: Writer, group: Sequence[OldSegment], nbits: int | str, old: Codec | None, new: Codec | None, *, drop: bool
) -> SegmentEntry:
    """How the manifest names the segment that a group of pieces becomes, its files staged where they are new."""
    piece = group[0]
    deleted = int((~piece.segment.live).sum())
    if len(group) > 1 or isinstance(piece, NewSegment) or new is not old or (drop and deleted):
        return segment_files.write(writer, group, nbits, old, new)
    if deleted == piece.entry.n_deleted:
        return piece.entry
    return segment_files.write_deleted(writer, piece.entry, piece.segment.live)


def _merge_small(pieces: list[OldSegment], merge_all: bool) -> list[list[OldSegment]]:
    """Merge from the end while a segment is less than twice as large as all behind it: their number is logarithmic."""
    first, behind = len(pieces), 0
    while first > 0 and (merge_all or first == len(pieces) or len(pieces[first - 1].segment) < 2 * behind):
        first -= 1
        behind += len(pieces[first].segment)
    alone = [[piece] for piece in pieces]
    return [*alone[:first], pieces[first:]] if len(pieces) - first > 1 else alone
