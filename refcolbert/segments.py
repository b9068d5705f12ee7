"""One segment between its two lives: arrays in memory while it is made, mapped files once it is written.

A segment is made from new documents or from other segments; either way positions ascend and deleted documents are
left out, so a merged segment equals one that had held its live documents from the start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import codec as codecs
from . import ivf, kmeans
from .codec import Codec, Encoded
from .documents import Document, DocumentFile, pack
from .errors import CorruptIndexError, InvalidInput
from .format import RAW, CodecEntry, FileEntry, Manifest, SegmentEntry, array_types
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
    """New documents -> a segment, encoded if there is a codec, else raw; raw ones are rounded when they are written."""
    largest = float(np.abs(vectors.vectors).max())
    if codec is None and nbits != "float32" and largest > float(np.finfo(np.float16).max):
        raise InvalidInput(f"a component of {largest:.4g} does not fit float16; create the index with nbits='float32'")
    norms = np.linalg.norm(vectors.vectors, axis=1)  # [n_tokens]
    live = np.ones(len(vectors), np.bool_)
    if codec is None:
        segment = Segment(positions, vectors.offsets, live, float(norms.max()), vectors.vectors, None, None)
    else:
        encoded = codec.encode(vectors.vectors)
        lists = ivf.build(encoded.codes, vectors.offsets)
        segment = Segment(positions, vectors.offsets, live, float(norms.max()), None, encoded, lists)
    return Made(segment, documents)


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


def write(writer: Writer, made: Made, nbits: int | str) -> SegmentEntry:
    """Stage a segment's files."""
    s = made.segment
    arrays: dict[str, NDArray[Any]] = {"positions": s.positions, "offsets": s.offsets}
    if s.raw is not None:
        arrays["vectors"] = s.raw.astype(RAW.get(str(nbits), RAW["float16"]), copy=False)
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
    expect = partial(_expect, manifest.codec.files)
    for role in ("centroids", "coarse", "cutoffs", "weights"):
        expect(role, bool(np.isfinite(a[role]).all()), "finite values")
    expect("starts", _rises(a["starts"], manifest.codec.n_centroids), "a strict rise from 0 to n_centroids")
    for role in ("cutoffs", "weights"):
        expect(role, bool((np.diff(a[role]) >= 0).all()), "ascending values")
    return Codec(**a)


def load(store: Store, manifest: Manifest, entry: SegmentEntry, *, verify: bool) -> Stored:
    """Map a segment's files; checks everything that a search relies on without touching every token."""
    types = array_types(manifest, entry)
    a = {role: store.array(entry.files[role], t, verify=verify) for role, t in types.items()}
    expect = partial(_expect, entry.files)
    expect("offsets", _rises(a["offsets"], entry.n_tokens), "a strict rise from 0 to n_tokens")
    positions = a["positions"]
    ordered = positions[0] >= 0 and positions[-1] < manifest.next_position and (np.diff(positions) > 0).all()
    expect("positions", bool(ordered), "a strict rise below next_position")
    live = np.ones(entry.n_docs, np.bool_)
    if "deleted" in a:
        deleted = a["deleted"].astype(np.int64)
        expect("deleted", bool((np.diff(deleted) > 0).all() and deleted[-1] < entry.n_docs), "ascending rows")
        live[deleted] = False
    encoded = lists = None
    if manifest.codec is not None:
        encoded = Encoded(a["codes"], a["residuals"], a["scales"])
        lists = ivf.InvertedLists(a["cells"], a["cell_offsets"], a["cell_documents"])
        expect("cell_offsets", _rises(lists.offsets, entry.n_entries), "a strict rise from 0 to n_entries")
        expect("cells", bool((np.diff(lists.cells.astype(np.int64)) > 0).all()), "strictly ascending cells")
    segment = Segment(positions, a["offsets"], live, entry.largest_norm, a.get("vectors"), encoded, lists)
    if verify:
        _check_tokens(segment, entry, manifest)
    documents = DocumentFile(store.document_path(entry.files["documents"], verify=verify), entry.n_docs)
    if verify:
        documents.check()
    return Stored(entry, segment, documents)


def _check_tokens(s: Segment, entry: SegmentEntry, manifest: Manifest) -> None:
    """What only a pass over every token shows: finite values, codes in range, lists equal to those made anew."""
    expect = partial(_expect, entry.files)
    if s.raw is not None:
        expect("vectors", bool(np.isfinite(s.raw).all()), "finite values")
    if s.encoded is not None and s.lists is not None and manifest.codec is not None:
        n_centroids = manifest.codec.n_centroids
        expect("codes", int(s.encoded.codes.max()) < n_centroids, f"values below {n_centroids}")
        expect("scales", bool((np.isfinite(s.encoded.scales) & (s.encoded.scales >= 0)).all()), "finite values >= 0")
        again = ivf.build(s.encoded.codes, s.offsets)
        for role, name in (("cells", "cells"), ("cell_offsets", "offsets"), ("cell_documents", "documents")):
            expect(role, np.array_equal(getattr(again, name), getattr(s.lists, name)), "what the codes give")


def _rises(values: NDArray[Any], last: int) -> bool:
    return bool(values[0] == 0 and values[-1] == last and (np.diff(values) > 0).all())


def _expect(files: Mapping[str, FileEntry], role: str, holds: bool, expected: str) -> None:
    if not holds:
        raise CorruptIndexError(f"data/{files[role].name}: expected {expected}; restore the index from a copy")
