"""Generation: one complete state of an index, mapped into memory and immutable."""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..arrays import Bools, Ints
from ..documents import Document
from ..engine.codec import Codec
from ..engine.segments import SegmentedIndex
from ..errors import CorruptIndexError, InvalidInput, UnknownId
from . import segment_files
from .filters import kinds_wanted
from .format import Manifest
from .locks import Pin
from .segment_files import NewSegment, StoredSegment
from .store import Store

__all__ = ["Generation", "Place", "warn_of_drift"]

log = logging.getLogger("refcolbert")

Place = tuple[int, int]  # segment, row

MAX_SHARD_POSITIONS = 1 << 40  # documents that a shard can have had; there can be 2^22 shards

# A quantization error is reported if it is more than this many times the error of the codec when it was fitted.
DRIFT_FACTOR = 1.25
MIN_DRIFT_TOKENS = 256  # the mean error of fewer new tokens varies too much to be reported
MAX_FIELDS = 10  # of a filter that matches nothing are looked at: each may take a few times as long as the filter
REMEDY = "compact(refit=True) fits the codec to the stored vectors; indexing the texts again is more exact"


class Generation:
    """One generation of an index. It is immutable, so searches need no lock. Pins keep its files on disk."""

    def __init__(
        self, manifest: Manifest, codec: Codec | None, stored: Sequence[StoredSegment], pins: Sequence[object] = ()
    ) -> None:
        self.manifest, self.stored, self._pins = manifest, list(stored), pins
        self.segmented = SegmentedIndex(manifest.dim, codec, tuple(s.segment for s in self.stored))

    @classmethod
    def load(
        cls,
        store: Store,
        manifest: Manifest,
        *,
        verify: bool,
        pin: Pin | None = None,
        known: "Generation | None" = None,
    ) -> Self:
        """Load the files that `manifest` names. Raises `CorruptIndexError`.

        - `verify`: check every byte of them.
        - `pin`: keeps writers from removing them; held as long as the generation exists.
        - `known`: an earlier generation. Segments that both have are taken from it, and not read and checked again. Of
          a segment that has other deleted documents now, only their list is read.
        """
        shared = _shared(known, manifest)
        codec = known.segmented.codec if known and shared else segment_files.load_codec(store, manifest, verify=verify)
        stored = []
        for i, entry in enumerate(manifest.segments):
            if i not in shared:
                stored.append(segment_files.load(store, manifest, entry, verify=verify))
            elif shared[i].entry == entry:
                stored.append(shared[i])
            else:
                live = segment_files.load_live(store, manifest, entry, verify=verify)
                stored.append(replace(shared[i].with_live(live), entry=entry))
        return cls(manifest, codec, stored, [pin])

    @classmethod
    def join(cls, parts: "Sequence[Generation]") -> Self:
        """Return the generations of several shards as one: the segments of all, in the order of the shards.

        They have one codec, so that the result is searched like any other generation. A document's position is
        MAX_SHARD_POSITIONS times the number of its shard, plus its position there. The manifest is that of the first
        shard, but with the segments of all.
        """
        stored = [
            replace(s, segment=replace(s.segment, positions=s.segment.positions + number * MAX_SHARD_POSITIONS))
            for number, part in enumerate(parts)
            for s in part.stored
        ]
        manifest = replace(
            parts[0].manifest,
            generation=sum(part.manifest.generation for part in parts),
            segments=tuple(s.entry for s in stored),
        )
        return cls(manifest, parts[0].segmented.codec, stored, parts)

    def __len__(self) -> int:
        """Return the number of live documents."""
        return self.segmented.n_live

    def live_documents(self) -> Iterator[Document]:
        """Yield the documents that are not deleted, by position, read one at a time."""
        return itertools.chain.from_iterable(stored.live_documents() for stored in self.stored)

    def ids(self) -> Iterator[str]:
        """Yield the ids of the live documents, by position."""
        for stored in self.stored:
            yield from itertools.compress(stored.documents.ids(), stored.segment.live)

    def info(self) -> dict[str, Any]:
        """Return counts, sizes and settings; see `Index.info`."""
        manifest, segmented = self.manifest, self.segmented
        encoder = manifest.encoder
        return {
            "documents": len(self),
            "tokens": int(segmented.lengths[segmented.live].sum()),
            "dim": manifest.dim,
            "nbits": manifest.nbits,
            "pool_factor": manifest.pool_factor,
            "words": manifest.words,
            "centroids": len(segmented.codec.centroids) if segmented.codec else None,
            "quantization_error": self.quantization_error(),
            "segments": len(manifest.segments),
            "deleted": int((~segmented.live).sum()),
            "generation": manifest.generation,
            "bytes": sum(file.bytes for file in manifest.files()),
            "bytes_of": manifest.bytes_of(),
            "format_version": manifest.format_version,
            "encoder": {"hash": encoder.hash, "source": encoder.source} if encoder else None,
        }

    def quantization_error(self) -> dict[str, Any] | None:
        """Return the quantization error of the codec as "fitted", "now" and "remedy", or None while there is no codec.

        "fitted" is the error of the vectors that the codec was fitted to, "now" the error of all stored vectors.
        "remedy" is an advice if "now" is clearly larger, else None.
        """
        codec, entries = self.manifest.codec, self.manifest.segments
        if codec is None or not entries:
            return None
        now = sum(entry.error * entry.n_tokens for entry in entries) / sum(entry.n_tokens for entry in entries)
        return {"fitted": codec.error, "now": now, "remedy": REMEDY if now > DRIFT_FACTOR * codec.error else None}

    def check(self) -> None:
        """Raise `CorruptIndexError` where segments contradict each other or their manifest. Loading checks the rest."""
        self._check_norms()
        if (np.diff(self.segmented.positions) <= 0).any():
            raise CorruptIndexError(
                "segments: expected positions that ascend from one segment to the next, found others; restore the index"
            )
        self.check_ids()

    def check_ids(self) -> None:
        """Raise `CorruptIndexError` when two live documents have the same id."""
        seen: set[str] = set()
        for name in self.ids():
            if name in seen:
                raise CorruptIndexError(f"documents: expected distinct ids, found {name!r} twice; restore the index")
            seen.add(name)

    def _check_norms(self) -> None:
        """Raise `CorruptIndexError` when a vector is longer than its segment's `largest_norm`.

        All vectors may be shorter: `largest_norm` is a bound, and the longest vector may have been deleted.
        """
        # Rounding to float16 changes a number by at most 2^-11 of its size or, near 0, by 2^-25. Both are doubled here.
        rounding = self.manifest.dim**0.5 * 2.0**-24
        for number, stored in enumerate(self.stored):
            longest, bound = stored.segment.longest(self.segmented.codec), stored.segment.largest_norm
            if longest > bound * (1 + 2.0**-10) + rounding:
                raise CorruptIndexError(
                    f"manifest.json: segment {number}: expected no vector longer than largest_norm {bound:.6g}, "
                    f"found one of norm {longest:.6g}; restore the index from a copy"
                )

    def find(self, ids: Sequence[str]) -> dict[str, Place]:
        """Return id -> place of the live documents among `ids`."""
        return {
            name: (i, row)
            for i, stored in enumerate(self.stored)
            for name, row in stored.documents.rows(ids).items()
            if stored.segment.live[row]
        }

    def places(self, ids: Sequence[str]) -> list[Place]:
        """Return the place of each id. Raises `UnknownId` when one is not in the index."""
        places = self.find(ids)
        missing = [name for name in ids if name not in places]
        if missing:
            raise UnknownId(f"{len(missing)} of {len(ids)} ids are not in the index, the first is {missing[0]!r}")
        return [places[name] for name in ids]

    def without(self, places: Iterable[Place]) -> list[StoredSegment]:
        """Return the segments with these documents deleted. A segment without any live document is left out."""
        live = [stored.segment.live.copy() for stored in self.stored]
        for i, row in places:
            live[i][row] = False
        return [
            stored if mask.sum() == stored.segment.live.sum() else stored.with_live(mask)
            for stored, mask in zip(self.stored, live, strict=True)
            if mask.any()
        ]

    def documents(self, numbers: Ints) -> list[Document]:
        """Return the documents with these numbers [n] in `segmented`, in that order."""
        documents: dict[int, Document] = {}
        for stored, start in zip(self.stored, self.segmented.starts, strict=False):
            inside = numbers[(numbers >= start) & (numbers < start + len(stored.segment))]
            documents |= zip(inside.tolist(), stored.documents.get((inside - start).tolist()), strict=True)
        return [documents[number] for number in numbers.tolist()]

    def allowed(self, where: Mapping[str, Any] | None, ids: Iterable[str] | None) -> Bools | None:
        """Return which documents match the filter `where` and are among `ids`: [n_docs], or None when neither is given.

        A filter that matches no live document is answered with a warning if it never could. Raises `InvalidInput` for a
        filter that cannot be used, and for one string in place of a list of ids.
        """
        if where is None and ids is None:
            return None
        allowed = np.ones(len(self.segmented.live), np.bool_)
        starts = self.segmented.starts
        if where is not None:
            matching = [s.documents.matching(where) + start for s, start in zip(self.stored, starts, strict=False)]
            allowed &= np.isin(np.arange(len(allowed)), np.concatenate([np.empty(0, np.int64), *matching]))
            if len(self) and not (allowed & self.segmented.live).any():
                self._warn_of_no_match(where)
        if ids is not None:
            if isinstance(ids, str):
                raise InvalidInput("expected a list of ids, found one string; pass [id]")
            numbers = [int(starts[i]) + row for i, row in self.find(list(ids)).values()]
            allowed &= np.isin(np.arange(len(allowed)), np.array(numbers, np.int64))
        return allowed

    def _warn_of_no_match(self, where: Mapping[str, Any]) -> None:
        """Log the fields of a filter that no document has, and those whose values are never of the filter's kinds."""
        problems = []
        for field, wanted in itertools.islice(kinds_wanted(where).items(), MAX_FIELDS):
            found = self._kinds(field, wanted)
            if not found:
                problems.append(f"{field}: no document has a value")
            elif wanted and not wanted & set(found):
                kinds = ", ".join(f"{kind} in {n:,} document{'s' * (n != 1)}" for kind, n in found.most_common())
                problems.append(f"{field}: expected {' or '.join(sorted(wanted))}, found {kinds}")
        if problems:
            log.warning("the filter matches no document: %s", "; ".join(problems))

    def _kinds(self, field: str, wanted: set[str]) -> Counter[str]:
        """Return kind -> number of live documents with such a value, counted until one has a kind that is wanted."""
        found: Counter[str] = Counter()
        for stored in self.stored:
            for row, values in itertools.groupby(stored.documents.kinds(field), itemgetter(0)):
                if stored.segment.live[row]:
                    found.update({kind for _, kind in values})
                    if not wanted or wanted & set(found):
                        return found
        return found


def _shared(known: Generation | None, manifest: Manifest) -> dict[int, StoredSegment]:
    """Return the segments of `manifest` that a known generation has loaded, maybe with other deleted documents.

    The result maps the number of a segment in `manifest` to the loaded segment.
    """
    if known is None or (known.manifest.dim, known.manifest.codec) != (manifest.dim, manifest.codec):
        return {}
    by_name = {stored.entry.files["documents"].name: stored for stored in known.stored}
    candidates = ((i, by_name.get(entry.files["documents"].name)) for i, entry in enumerate(manifest.segments))
    return {
        i: stored
        for i, stored in candidates
        if stored is not None
        and segment_files.without_deleted(stored.entry) == segment_files.without_deleted(manifest.segments[i])
        and stored.documents.in_place()
    }


def warn_of_drift(path: Path, manifest: Manifest, new: NewSegment) -> None:
    """Log a warning when new documents fit the codec clearly worse than the vectors that it was fitted to."""
    codec = manifest.codec
    if codec and new.segment.offsets[-1] >= MIN_DRIFT_TOKENS and new.error > DRIFT_FACTOR * codec.error:
        log.warning(
            "%s: new documents have drifted from the codec: quantization error %.3f, fitted at %.3f; %s",
            path,
            new.error,
            codec.error,
            REMEDY,
        )
