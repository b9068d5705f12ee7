"""One segment between its two lives: arrays in memory while it is made, mapped files once it is written.

A segment is made from new documents or from other segments; either way positions ascend and deleted documents are
left out, so a merged segment equals one that had held its live documents from the start.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..documents import Document
from ..engine import codec as codecs
from ..engine import ivf, kmeans
from ..engine.codec import Codec, Encoded, row_bytes
from ..engine.ragged import Ragged, offsets_of
from ..engine.segments import Segment, largest_norm
from ..errors import CorruptIndexError, InvalidInput
from .document_file import DocumentFile
from .format import F2, RAW, U1, U2, CodecEntry, FileEntry, Manifest, SegmentEntry, array_types, row_type
from .store import Store, Writer

__all__ = [
    "NewSegment",
    "OldSegment",
    "StoredSegment",
    "encode",
    "join_lists",
    "live_lengths",
    "load",
    "load_codec",
    "quantization_error",
    "sample",
    "write",
    "write_codec",
    "write_deleted",
]

RUN = 1 << 17  # tokens merged or encoded at once
ERROR_SAMPLE = 4096  # tokens whose quantization error is measured


@dataclass(frozen=True, slots=True, eq=False)
class StoredSegment:
    """A segment that is on disk: how the manifest names it, its mapped arrays, its documents."""

    entry: SegmentEntry
    segment: Segment
    documents: DocumentFile

    def live_documents(self) -> Iterator[Document]:
        """The documents that are not deleted, in row order, read one at a time."""
        return itertools.compress(self.documents.all(), self.segment.live)

    @property
    def error(self) -> float:
        """Of quantization, when its documents were added."""
        return self.entry.error

    def with_live(self, live: NDArray[np.bool_]) -> "StoredSegment":
        """The same segment with other tombstones."""
        return replace(self, segment=replace(self.segment, live=live))


@dataclass(frozen=True, slots=True, eq=False)
class NewSegment:
    """New documents that are not yet on disk."""

    segment: Segment
    documents: list[Document]
    error: float  # of quantization, see `quantization_error`

    def live_documents(self) -> Iterator[Document]:
        """All of them: nothing is deleted before it is written."""
        return iter(self.documents)


OldSegment = StoredSegment | NewSegment


def encode(
    vectors: Ragged, documents: list[Document], positions: NDArray[np.int64], codec: Codec | None, nbits: int | str
) -> NewSegment:
    """New documents -> a segment, encoded if there is a codec, else raw; raw ones are rounded when they are written."""
    held: type[np.floating[Any]] = np.float32 if codec is not None or nbits == "float32" else np.float16
    largest = max(float(vectors.vectors.max()), -float(vectors.vectors.min()))
    if largest > float(np.finfo(held).max):
        raise InvalidInput(f"a component of {largest:.4g} does not fit float16; create the index with nbits='float32'")
    norm = largest_norm(lambda part: vectors.vectors[part].astype(held).astype(np.float32), len(vectors.vectors))
    live = np.ones(len(vectors), np.bool_)
    if codec is None:
        segment, error = Segment(positions, vectors.offsets, live, norm, vectors.vectors, None, None), 0.0
    else:
        encoded = codec.encode(vectors.vectors)
        lists = ivf.build(encoded.codes, vectors.offsets)
        segment = Segment(positions, vectors.offsets, live, norm, None, encoded, lists)
        error = quantization_error(codec, vectors.vectors, encoded)
    return NewSegment(segment, documents, error)


def quantization_error(codec: Codec, vectors: NDArray[np.float32], encoded: Encoded) -> float:
    """The mean of |x - decoded x| / |x| over a sample of the vectors [n, dim]; zero vectors count as exact."""
    some = np.linspace(0, len(vectors) - 1, min(len(vectors), ERROR_SAMPLE)).astype(np.int64)  # [n_some]
    distances = np.linalg.norm(vectors[some] - codec.decode(encoded.take(some)), axis=1)  # [n_some]
    norms = np.linalg.norm(vectors[some], axis=1)  # [n_some]
    return float(np.divide(distances, norms, out=np.zeros(len(some)), where=norms > 0).mean())


def live_lengths(s: Segment) -> NDArray[np.int64]:
    """[n_live] tokens of each document that is not deleted."""
    lengths: NDArray[np.int64] = np.diff(s.offsets)[s.live]
    return lengths


def sample(pieces: Sequence[OldSegment], codec: Codec | None, seed: int) -> tuple[NDArray[np.float32], int]:
    """Vectors [n_sample, dim] of live documents to fit a codec to, and how many centroids all of them call for."""
    offsets = [offsets_of(live_lengths(piece.segment)) for piece in pieces]  # each [n_live + 1]
    bounds = offsets_of([o[-1] for o in offsets])  # [n_pieces + 1]
    n_tokens = int(bounds[-1])
    n_centroids = kmeans.centroid_count(n_tokens)
    size = min(n_tokens, codecs.POINTS_PER_CENTROID * n_centroids, codecs.SAMPLE)
    chosen = np.sort(np.random.default_rng([seed, 0]).choice(n_tokens, size, replace=False))
    cuts = np.searchsorted(chosen, bounds)  # [n_pieces + 1] which of the chosen lie in each piece
    vectors: NDArray[np.float32] | None = None
    for piece, mine, begin, first, last in zip(pieces, offsets, bounds, cuts, cuts[1:], strict=False):
        tokens = chosen[first:last] - begin  # numbered through the live documents
        document = np.searchsorted(mine, tokens, side="right") - 1
        starts = piece.segment.offsets[:-1][piece.segment.live]  # [n_live]
        part = piece.segment.decode(starts[document] + tokens - mine[document], codec)
        vectors = np.empty((size, part.shape[1]), np.float32) if vectors is None else vectors
        vectors[first:last] = part
    return np.empty((0, 0), np.float32) if vectors is None else vectors, n_centroids


def write(
    writer: Writer, pieces: Sequence[OldSegment], nbits: int | str, old: Codec | None, new: Codec | None
) -> SegmentEntry:
    """Stage one segment of the live documents of `pieces`, in order, at their positions.

    Codes are kept where `new` is the codec they were made by (`old`), otherwise vectors are decoded and encoded anew.
    One run of documents is in memory at a time, besides what is counted in documents, and 10 bytes a token for lists.
    """
    all_live = [piece.segment.live for piece in pieces]
    positions = np.concatenate([p.segment.positions[live] for p, live in zip(pieces, all_live, strict=True)])
    lengths = [live_lengths(piece.segment) for piece in pieces]
    offsets = offsets_of(np.concatenate(lengths))
    n_tokens = int(offsets[-1])
    files = {"positions": writer.array("positions", positions), "offsets": writer.array("offsets", offsets)}
    lists, error = ivf.build(np.empty(0, np.uint16), np.zeros(1, np.int64)), 0.0
    largest_norm = max(piece.segment.largest_norm for piece in pieces)
    if new is None:
        dtype = RAW.get(str(nbits), RAW["float16"])
        first = pieces[0].segment.raw
        dim = 0 if first is None else first.shape[1]
        files["vectors"] = writer.stream("vectors", (dtype, (n_tokens, dim)), _raw_runs(pieces))
    else:
        runs = _Runs(pieces, old, new)
        width = (n_tokens, row_bytes(new.dim, new.nbits))
        types = {
            "codes": (U2, (n_tokens,)),
            "residuals": (U1, width),
            "scales": (F2, (n_tokens,)),
            "spreads": (U1, (n_tokens,)),
        }
        files |= writer.streams(types, runs)
        lists, error, largest_norm = join_lists(runs.lists), runs.error, max(runs.norms)
        for role, values in (
            ("cells", lists.cells),
            ("cell_offsets", lists.offsets),
            ("cell_documents", lists.documents.astype(row_type(len(positions)))),
        ):
            files[role] = writer.array(role, values)
    files["documents"] = writer.documents(d for piece in pieces for d in piece.live_documents())
    return SegmentEntry(
        n_docs=len(positions),
        n_tokens=n_tokens,
        n_deleted=0,
        n_lists=len(lists.cells),
        n_entries=len(lists.documents),
        largest_norm=largest_norm,
        error=error,
        files=files,
    )


def _runs(pieces: Sequence[OldSegment]) -> Iterator[tuple[OldSegment, NDArray[np.int64]]]:
    """Live rows of each piece, in runs of about RUN tokens."""
    for piece in pieces:
        for run in _cut(np.flatnonzero(piece.segment.live), np.cumsum(live_lengths(piece.segment))):
            yield piece, run


def _raw_runs(pieces: Sequence[OldSegment]) -> Iterator[NDArray[Any]]:
    for piece, rows in _runs(pieces):
        if piece.segment.raw is not None:
            yield piece.segment.raw[piece.segment.tokens(rows)]


class _Runs:
    """Encoded runs, one after the other; gathers their inverted lists, quantization error and largest norms."""

    def __init__(self, pieces: Sequence[OldSegment], old: Codec | None, new: Codec) -> None:
        self._pieces, self._old, self._new = pieces, old, new
        self.lists: list[ivf.InvertedLists] = []
        self.norms: list[float] = []
        self._errors: list[tuple[float, int]] = []  # (mean, tokens)

    @property
    def error(self) -> float:
        """The mean over all tokens."""
        n_tokens = sum(n for _, n in self._errors)
        return sum(error * n for error, n in self._errors) / n_tokens

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        first = 0  # row in the new segment
        for piece, rows in _runs(self._pieces):
            encoded, error = self._encode(piece, rows)
            offsets = offsets_of(np.diff(piece.segment.offsets)[rows])
            lists = ivf.build(encoded.codes, offsets)
            self.lists.append(replace(lists, documents=lists.documents + np.uint32(first)))
            self._errors.append((error, len(encoded.codes)))
            first += len(rows)
            yield {name: getattr(encoded, name) for name in Encoded.__slots__}

    def _encode(self, piece: OldSegment, rows: NDArray[np.int64]) -> tuple[Encoded, float]:
        s = piece.segment
        tokens = s.tokens(rows)
        if s.encoded is not None and self._new is self._old:
            self.norms.append(s.largest_norm)
            return s.encoded.take(tokens), piece.error
        vectors = s.decode(tokens, self._old)
        self.norms.append(float(np.linalg.norm(vectors, axis=1).max()))
        encoded = self._new.encode(vectors)
        return encoded, quantization_error(self._new, vectors, encoded)


def join_lists(parts: Sequence[ivf.InvertedLists]) -> ivf.InvertedLists:
    """The lists of runs of documents, numbered through already -> the lists of all of them."""
    cells = np.concatenate([part.cells for part in parts])  # [n_lists] one for each list of each part
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])  # [n_lists]
    order = np.argsort(cells, kind="stable")  # by cell, then by part: documents ascend within a cell
    ends = offsets_of(lengths[order])  # [n_lists + 1]
    starts = np.empty(len(cells), np.int64)  # [n_lists] where each list goes
    starts[order] = ends[:-1]
    documents = np.empty(int(ends[-1]), np.uint32)
    for part, mine in zip(parts, np.split(starts, np.cumsum([len(p.cells) for p in parts])[:-1]), strict=True):
        shift = np.repeat(mine - part.offsets[:-1], np.diff(part.offsets))
        documents[shift + np.arange(len(shift))] = part.documents
    unique, first = np.unique(cells[order], return_index=True)
    return ivf.InvertedLists(unique, np.concatenate([ends[first], ends[-1:]]), documents)


def write_deleted(writer: Writer, entry: SegmentEntry, live: NDArray[np.bool_]) -> SegmentEntry:
    """The same segment with other tombstones: only the list of deleted rows is staged anew."""
    deleted = np.flatnonzero(~live).astype(np.uint32)
    files = {**entry.files, "deleted": writer.array("deleted", deleted)}
    values = {name: getattr(entry, name) for name in SegmentEntry.__slots__}
    return SegmentEntry(**values | {"n_deleted": len(deleted), "files": files})


def write_codec(writer: Writer, codec: Codec, error: float) -> CodecEntry:
    """Stage a codec's files."""
    arrays: dict[str, NDArray[Any]] = {
        "centroids": codec.centroids,
        "coarse": codec.coarse,
        "starts": codec.starts,
        "steps": codec.steps,
    }
    files = {role: writer.array(role, array) for role, array in arrays.items()}
    return CodecEntry(len(codec.centroids), len(codec.coarse), error, files)


def load_codec(store: Store, manifest: Manifest, *, verify: bool) -> Codec | None:
    """The codec of a generation, checked."""
    if manifest.codec is None:
        return None
    types = array_types(manifest, manifest.codec)
    a = {role: store.array(manifest.codec.files[role], t, verify=verify) for role, t in types.items()}
    expect = partial(_expect, manifest.codec.files)
    for role in ("centroids", "coarse", "steps"):
        expect(role, bool(np.isfinite(a[role]).all()), "finite values")
    expect("starts", _rises(a["starts"], manifest.codec.n_centroids), "a strict rise from 0 to n_centroids")
    expect("steps", bool((a["steps"] >= 0).all()), "values >= 0")
    return Codec(**a, nbits=int(manifest.nbits))


def load(store: Store, manifest: Manifest, entry: SegmentEntry, *, verify: bool) -> StoredSegment:
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
        encoded = Encoded(**{name: a[name] for name in Encoded.__slots__})
        lists = ivf.InvertedLists(a["cells"], a["cell_offsets"], a["cell_documents"])
        expect("cell_offsets", _rises(lists.offsets, entry.n_entries), "a strict rise from 0 to n_entries")
        expect("cells", bool((np.diff(lists.cells.astype(np.int64)) > 0).all()), "strictly ascending cells")
    segment = Segment(positions, a["offsets"], live, entry.largest_norm, a.get("vectors"), encoded, lists)
    if verify:
        _check_tokens(segment, entry, manifest)
    documents = DocumentFile(store.document_path(entry.files["documents"], verify=verify), entry.n_docs)
    if verify:
        documents.check()
    return StoredSegment(entry, segment, documents)


def _check_tokens(s: Segment, entry: SegmentEntry, manifest: Manifest) -> None:
    """What only a pass over every token shows: finite values, codes in range, lists equal to those made anew."""
    expect = partial(_expect, entry.files)
    if s.raw is not None:
        expect("vectors", bool(np.isfinite(s.raw).all()), "finite values")
    if s.encoded is not None and s.lists is not None and manifest.codec is not None:
        n_centroids = manifest.codec.n_centroids
        expect("codes", int(s.encoded.codes.max()) < n_centroids, f"values below {n_centroids}")
        expect("scales", bool((np.isfinite(s.encoded.scales) & (s.encoded.scales >= 0)).all()), "finite values >= 0")
        again = _lists_of(s.encoded.codes, s.offsets)
        for role, name in (("cells", "cells"), ("cell_offsets", "offsets"), ("cell_documents", "documents")):
            expect(role, np.array_equal(getattr(again, name), getattr(s.lists, name)), "what the codes give")


def _lists_of(codes: NDArray[Any], offsets: NDArray[np.int64]) -> ivf.InvertedLists:
    """`ivf.build`, a run of documents at a time."""
    parts = []
    for rows in _cut(np.arange(len(offsets) - 1), offsets[1:]):
        first, last = int(rows[0]), int(rows[-1]) + 1
        lists = ivf.build(codes[offsets[first] : offsets[last]], offsets[first : last + 1] - offsets[first])
        parts.append(replace(lists, documents=lists.documents + np.uint32(first)))
    return join_lists(parts)


def _cut(rows: NDArray[np.int64], ends: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Document rows, the last token of each given -> runs of about RUN tokens."""
    return np.split(rows, np.flatnonzero(np.diff(ends // RUN)) + 1)


def _rises(values: NDArray[Any], last: int) -> bool:
    return bool(values[0] == 0 and values[-1] == last and (np.diff(values) > 0).all())


def _expect(files: Mapping[str, FileEntry], role: str, holds: bool, expected: str) -> None:
    if not holds:
        raise CorruptIndexError(f"data/{files[role].name}: expected {expected}; restore the index from a copy")
