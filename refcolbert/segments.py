"""One segment between its two lives: arrays in memory while it is made, mapped files once it is written.

A segment is made from new documents or from other segments; either way positions ascend and deleted documents are
left out, so a merged segment equals one that had held its live documents from the start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import codec as codecs
from . import ivf, kmeans
from .codec import Codec, Encoded
from .documents import Document, DocumentFile, pack
from .errors import CorruptIndexError, InvalidInput
from .format import RAW, CodecEntry, Manifest, SegmentEntry, array_types
from .ragged import Ragged, offsets_of, rows_of
from .search import Segment
from .store import Store, Writer

__all__ = [
    "Made",
    "Stored",
    "encode",
    "load",
    "load_codec",
    "merge",
    "recode",
    "sample",
    "write",
    "write_codec",
    "write_deleted",
]


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A segment that is on disk: how the manifest names it, its mapped arrays, its documents."""

    entry: SegmentEntry
    segment: Segment
    documents: DocumentFile

    def live_documents(self) -> list[Document]:
        """The documents that are not deleted, in row order."""
        return self.documents.get(np.flatnonzero(self.segment.live).tolist())

    def with_live(self, live: NDArray[np.bool_]) -> "Stored":
        """The same segment with other tombstones."""
        return replace(self, segment=replace(self.segment, live=live))


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A segment that is not yet on disk."""

    segment: Segment
    documents: list[Document]

    def live_documents(self) -> list[Document]:
        """All of them: nothing is deleted before it is written."""
        return self.documents


def encode(
    vectors: Ragged, documents: list[Document], positions: NDArray[np.int64], codec: Codec | None, nbits: int | str
) -> Made:
    """New documents -> a segment, encoded if there is a codec, else raw."""
    norms = np.linalg.norm(vectors.vectors, axis=1)  # [n_tokens]
    live = np.ones(len(vectors), np.bool_)
    if codec is None:
        raw = _raw(vectors.vectors, nbits)
        segment = Segment(positions, vectors.offsets, live, float(norms.max()), raw, None, None)
    else:
        encoded = codec.encode(vectors.vectors)
        lists = ivf.build(encoded.codes, vectors.offsets)
        segment = Segment(positions, vectors.offsets, live, float(norms.max()), None, encoded, lists)
    return Made(segment, documents)


def _raw(vectors: NDArray[np.float32], nbits: int | str) -> NDArray[Any]:
    dtype = RAW.get(str(nbits), RAW["float16"])
    if dtype == RAW["float16"] and np.abs(vectors).max() > np.finfo(np.float16).max:
        raise InvalidInput(
            f"a component of {np.abs(vectors).max():.4g} does not fit float16; create the index with nbits='float32'"
        )
    raw: NDArray[Any] = vectors.astype(dtype)
    return raw


def merge(pieces: Sequence[Stored | Made]) -> Made:
    """Segments in order -> one segment of their live documents, same positions, same bits."""
    live = [_live(piece.segment) for piece in pieces]
    documents = [document for piece in pieces for document in piece.live_documents()]
    offsets = offsets_of(np.concatenate([np.diff(s.offsets) for s in live]))
    raws = [s.raw for s in live if s.raw is not None]
    parts = [s.encoded for s in live if s.encoded is not None]
    raw = encoded = lists = None
    if raws:
        raw = np.concatenate(raws)
    else:
        encoded = codecs.join(parts)
        lists = ivf.build(encoded.codes, offsets)
    positions = np.concatenate([s.positions for s in live])
    everything = np.ones(len(positions), np.bool_)
    norm = max(s.largest_norm for s in live)
    return Made(Segment(positions, offsets, everything, norm, raw, encoded, lists), documents)


def _live(s: Segment) -> Segment:
    """The segment without its deleted documents, and without lists."""
    rows = np.flatnonzero(s.live)  # [n_live]
    tokens = rows_of(s.offsets, rows)  # [n_live_tokens]
    raw = s.raw[tokens] if s.raw is not None else None
    encoded = s.encoded.take(tokens) if s.encoded else None
    offsets = offsets_of(np.diff(s.offsets)[rows])
    return Segment(s.positions[rows], offsets, s.live[rows], s.largest_norm, raw, encoded, None)


def sample(made: Made, codec: Codec | None, seed: int) -> tuple[NDArray[np.float32], int]:
    """Vectors [n_sample, dim] to fit a codec to, and how many centroids the whole segment calls for."""
    n_tokens = int(made.segment.offsets[-1])
    n_centroids = kmeans.centroid_count(n_tokens)
    size = min(n_tokens, codecs.POINTS_PER_CENTROID * n_centroids)
    tokens = np.sort(np.random.default_rng([seed, 0]).choice(n_tokens, size, replace=False))
    return made.segment.decode(tokens, codec), n_centroids


def recode(made: Made, old: Codec | None, codec: Codec) -> Made:
    """The same documents encoded with another codec."""
    s = made.segment
    n_tokens = int(s.offsets[-1])
    chunks = [np.arange(i, min(i + codecs.CHUNK, n_tokens)) for i in range(0, n_tokens, codecs.CHUNK)]
    encoded = codecs.join([codec.encode(s.decode(tokens, old)) for tokens in chunks])
    lists = ivf.build(encoded.codes, s.offsets)
    return Made(replace(s, raw=None, encoded=encoded, lists=lists), made.documents)


def write(writer: Writer, made: Made) -> SegmentEntry:
    """Stage a segment's files."""
    s = made.segment
    arrays: dict[str, NDArray[Any]] = {"positions": s.positions, "offsets": s.offsets}
    if s.raw is not None:
        arrays["vectors"] = s.raw
    if s.encoded is not None and s.lists is not None:
        arrays |= {"codes": s.encoded.codes, "residuals": s.encoded.residuals, "scales": s.encoded.scales}
        arrays |= {"cells": s.lists.cells, "cell_offsets": s.lists.offsets, "cell_documents": s.lists.documents}
    files = {role: writer.array(role, array) for role, array in arrays.items()}
    files["documents"] = writer.documents(pack(made.documents))
    return SegmentEntry(
        n_docs=len(s),
        n_tokens=int(s.offsets[-1]),
        n_deleted=0,
        n_cells=len(s.lists.cells) if s.lists else 0,
        n_entries=len(s.lists.documents) if s.lists else 0,
        largest_norm=s.largest_norm,
        files=files,
    )


def write_deleted(writer: Writer, entry: SegmentEntry, live: NDArray[np.bool_]) -> SegmentEntry:
    """The same segment with other tombstones: only the list of deleted rows is staged anew."""
    deleted = np.flatnonzero(~live).astype(np.uint32)
    files = {**entry.files, "deleted": writer.array("deleted", deleted)}
    values = {name: getattr(entry, name) for name in SegmentEntry.__slots__}
    return SegmentEntry(**values | {"n_deleted": len(deleted), "files": files})


def write_codec(writer: Writer, codec: Codec) -> CodecEntry:
    """Stage a codec's files."""
    arrays: dict[str, NDArray[Any]] = {
        "centroids": codec.centroids,
        "coarse": codec.coarse,
        "starts": codec.starts,
        "cutoffs": codec.cutoffs,
        "weights": codec.weights,
    }
    files = {role: writer.array(role, array) for role, array in arrays.items()}
    return CodecEntry(len(codec.centroids), len(codec.coarse), files)


def load_codec(store: Store, manifest: Manifest, *, verify: bool) -> Codec | None:
    """The codec of a generation, checked."""
    if manifest.codec is None:
        return None
    types = array_types(manifest, manifest.codec)
    a = {role: store.array(manifest.codec.files[role], t, verify=verify) for role, t in types.items()}
    for role in ("centroids", "coarse", "cutoffs", "weights"):
        _expect(bool(np.isfinite(a[role]).all()), role, "finite values")
    _expect(_rises(a["starts"], manifest.codec.n_centroids), "starts", "a strict rise from 0 to n_centroids")
    for role in ("cutoffs", "weights"):
        _expect(bool((np.diff(a[role]) >= 0).all()), role, "ascending values")
    return Codec(**a)


def load(store: Store, manifest: Manifest, entry: SegmentEntry, *, verify: bool) -> Stored:
    """Map a segment's files; checks everything that a search relies on without touching every token."""
    types = array_types(manifest, entry)
    a = {role: store.array(entry.files[role], t, verify=verify) for role, t in types.items()}
    _expect(_rises(a["offsets"], entry.n_tokens), "offsets", "a strict rise from 0 to n_tokens")
    positions = a["positions"]
    _expect(bool((np.diff(positions) > 0).all()), "positions", "strictly ascending values")
    _expect(positions[0] >= 0 and positions[-1] < manifest.next_position, "positions", "values below next_position")
    live = np.ones(entry.n_docs, np.bool_)
    if "deleted" in a:
        deleted = a["deleted"].astype(np.int64)
        _expect(bool((np.diff(deleted) > 0).all()) and deleted[-1] < entry.n_docs, "deleted", "ascending rows")
        live[deleted] = False
    encoded = lists = None
    if manifest.codec is not None:
        _expect(_rises(a["cell_offsets"], entry.n_entries), "cell_offsets", "a strict rise from 0 to n_entries")
        encoded = Encoded(a["codes"], a["residuals"], a["scales"])
        lists = ivf.InvertedLists(a["cells"], a["cell_offsets"], a["cell_documents"])
        if verify:
            check_encoded(encoded, lists, a["offsets"], manifest.codec.n_centroids)
    segment = Segment(positions, a["offsets"], live, entry.largest_norm, a.get("vectors"), encoded, lists)
    if verify and segment.raw is not None:
        _expect(bool(np.isfinite(segment.raw).all()), "vectors", "finite values")
    path = store.document_path(entry.files["documents"], verify=verify)
    return Stored(entry, segment, DocumentFile(path, entry.n_docs))


def check_encoded(e: Encoded, lists: ivf.InvertedLists, offsets: NDArray[np.int64], n_centroids: int) -> None:
    """What only a pass over every token shows: codes in range, scales finite, lists equal to those made anew."""
    _expect(int(e.codes.max()) < n_centroids, "codes", f"values below {n_centroids}")
    _expect(bool((np.isfinite(e.scales) & (e.scales >= 0)).all()), "scales", "finite values >= 0")
    again = ivf.build(e.codes, offsets)
    for name in ("cells", "offsets", "documents"):
        _expect(
            np.array_equal(getattr(again, name), getattr(lists, name)), f"inverted lists: {name}", "what the codes give"
        )


def _rises(values: NDArray[Any], last: int) -> bool:
    return bool(values[0] == 0 and values[-1] == last and (np.diff(values) > 0).all())


def _expect(holds: bool, what: str, expected: str) -> None:
    if not holds:
        raise CorruptIndexError(f"{what}: expected {expected}; the index is damaged: restore it from a copy")
