"""One segment on its way to disk and back: arrays in memory, then staged files, then mapped files.

A segment is made of new documents, or of the live documents of other segments. In both cases positions ascend and
deleted documents are left out. So a merged segment equals a segment to which only its live documents were ever added.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter

import numpy as np

from ..arrays import Array, Bools, Floats, Ints
from ..documents import Document
from ..encoding.words import WordTokenizer
from ..engine import codec as codecs
from ..engine import ivf, kmeans, terms
from ..engine.codec import Codec, Encoded
from ..engine.ragged import Ragged, offsets_of
from ..engine.segments import Segment, largest_norm
from ..engine.terms import TermLists
from ..errors import CorruptIndexError, InvalidInput
from .document_file import DocumentFile
from .format import (
    CodecEntry,
    FileEntry,
    Manifest,
    SegmentEntry,
    VectorFormat,
    WordsEntry,
    array_types,
    row_type,
    token_types,
)
from .store import Store, Writer

__all__ = [
    "NewSegment",
    "Piece",
    "StoredSegment",
    "encode",
    "fit_codec",
    "live_lengths",
    "load",
    "load_codec",
    "load_live",
    "n_live_tokens",
    "quantization_error",
    "sample",
    "take",
    "without_deleted",
    "write",
    "write_codec",
    "write_deleted",
]

RUN_TOKENS = 1 << 17  # merged or encoded at a time
RUN_TEXTS = 1 << 11  # cut into words at a time
ERROR_SAMPLE = 4096  # tokens whose quantization error is measured


# Role of a file -> the field of `TermLists`.
TERM_ROLES = {
    "term_spelling": "spelling",
    "term_bounds": "bounds",
    "term_offsets": "offsets",
    "term_documents": "documents",
    "term_counts": "counts",
    "term_lengths": "lengths",
}


@dataclass(frozen=True, slots=True, eq=False)
class StoredSegment:
    """A segment on disk: its entry in the manifest, its mapped arrays, its documents."""

    entry: SegmentEntry
    segment: Segment
    documents: DocumentFile

    def live_documents(self) -> Iterator[Document]:
        """Yield the documents that are not deleted, in row order, read one at a time."""
        return itertools.compress(self.documents.all(), self.segment.live)

    @property
    def error(self) -> float:
        """The quantization error, measured when the documents were encoded."""
        return self.entry.error

    def with_live(self, live: Bools) -> "StoredSegment":
        """Return the same segment with `live` [n_docs] in place of its own: other documents are deleted."""
        return replace(self, segment=replace(self.segment, live=live))

    def without_words(self) -> "StoredSegment":
        """Return the same segment without its words, so that writing it cuts the texts into words again."""
        return replace(self, segment=replace(self.segment, terms=None))


@dataclass(frozen=True, slots=True, eq=False)
class NewSegment:
    """New documents that are not yet on disk."""

    segment: Segment
    documents: list[Document]
    error: float  # see `quantization_error`

    def live_documents(self) -> Iterator[Document]:
        """Yield all documents: none of them can have been deleted yet."""
        return iter(self.documents)


# A new segment is made of pieces: the live documents of each, one piece after the other.
Piece = StoredSegment | NewSegment


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Facts about some consecutive documents of a segment that is being written, for its entry and its lists."""

    n_tokens: int
    error: float  # the mean over these tokens
    largest_norm: float
    lists: ivf.InvertedLists | None  # documents are rows of the new segment; None for raw vectors


def encode(
    vectors: Ragged, documents: list[Document], positions: Ints, codec: Codec | None, vector_format: VectorFormat
) -> NewSegment:
    """Return a segment of new documents at `positions` [n_docs], encoded if there is a codec, else raw.

    Raw vectors are rounded to the dtype of the format only when they are written. Raises `InvalidInput` for vectors
    that this dtype cannot hold.
    """
    # Only raw vectors are stored in this dtype. `Codec.encode` checks those that it encodes.
    dtype = np.dtype(np.float32) if codec is not None else vector_format.raw_dtype
    largest = max(float(vectors.vectors.max()), -float(vectors.vectors.min()))
    if largest > float(np.finfo(dtype).max):
        raise InvalidInput(
            f"expected components that fit float16, found {largest:.4g}; create the index with nbits='float32'"
        )
    norm = largest_norm(lambda part: vectors.vectors[part].astype(dtype).astype(np.float32), len(vectors.vectors))
    live = np.ones(len(vectors), np.bool_)
    if codec is None:
        segment, error = Segment(positions, vectors.offsets, live, norm, vectors.vectors, None, None), 0.0
    else:
        encoded = codec.encode(vectors.vectors)
        lists = ivf.build(encoded.codes, vectors.offsets)
        segment = Segment(positions, vectors.offsets, live, norm, None, encoded, lists)
        error = quantization_error(codec, vectors.vectors, encoded)
    return NewSegment(segment, documents, error)


def take(stored: Sequence[StoredSegment], places: Sequence[tuple[int, int]]) -> NewSegment:
    """Return a new segment with the vectors of stored documents, as they are, bit for bit.

    `places` are (segment, row), ascending. Documents and positions are the old ones, too.
    """
    parts = []
    for i, group in itertools.groupby(places, key=itemgetter(0)):
        rows = np.array([row for _, row in group])
        parts.append((stored[i], rows, stored[i].segment.tokens(rows)))
    offsets = offsets_of(np.concatenate([part.segment.lengths(rows) for part, rows, _ in parts]))  # [n_docs + 1]
    raw, encoded, lists = None, None, None
    if parts[0][0].segment.raw is not None:
        raw = np.concatenate([np.asarray(part.segment.raw)[tokens] for part, _, tokens in parts])
    else:
        taken = [part.segment.coded().take(tokens) for part, _, tokens in parts]
        encoded = Encoded(*(np.concatenate([getattr(part, name) for part in taken]) for name in Encoded.__slots__))
        lists = ivf.build(encoded.codes, offsets)
    segment = Segment(
        np.concatenate([part.segment.positions[rows] for part, rows, _ in parts]),
        offsets,
        np.ones(len(offsets) - 1, np.bool_),
        max(part.segment.largest_norm for part, *_ in parts),
        raw,
        encoded,
        lists,
    )
    error = sum(part.error * int(part.segment.lengths(rows).sum()) for part, rows, _ in parts) / int(offsets[-1])
    return NewSegment(segment, [d for part, rows, _ in parts for d in part.documents.get(rows.tolist())], error)


def quantization_error(codec: Codec, vectors: Floats, encoded: Encoded) -> float:
    """Return the mean of |x - decoded x| / |x| over a sample of the vectors [n, dim]. Zero vectors count as exact."""
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), ERROR_SAMPLE)).astype(np.int64)  # [n_sample]
    distances = np.linalg.norm(vectors[rows] - codec.decode(encoded.take(rows)), axis=1)  # [n_sample]
    norms = np.linalg.norm(vectors[rows], axis=1)  # [n_sample]
    return float(np.divide(distances, norms, out=np.zeros(len(rows)), where=norms > 0).mean())


def live_lengths(segment: Segment) -> Ints:
    """Return the number of tokens of each document that is not deleted: [n_live]."""
    lengths: Ints = np.diff(segment.offsets)[segment.live]
    return lengths


def n_live_tokens(pieces: Sequence[Piece]) -> int:
    """Return the number of tokens of all documents that are not deleted."""
    return sum(int(live_lengths(piece.segment).sum()) for piece in pieces)


def fit_codec(pieces: Sequence[Piece], old: Codec | None, manifest: Manifest, n_tokens: int | None = None) -> Codec:
    """Return a codec that is fitted to a random sample of the live vectors.

    - `old`: decodes those already encoded.
    - `n_tokens`: of the collection that the codec is for, if `pieces` are a part of it.
    """
    n_live = n_live_tokens(pieces)
    n_centroids = kmeans.centroid_count(n_live if n_tokens is None else n_tokens)
    size = min(n_live, codecs.POINTS_PER_CENTROID * n_centroids, codecs.SAMPLE)
    vectors = sample(pieces, old, size, manifest)
    return codecs.fit(vectors, n_centroids, manifest.vector_format.bits, manifest.seed)


def sample(pieces: Sequence[Piece], codec: Codec | None, size: int, manifest: Manifest) -> Floats:
    """Return the vectors of `size` random tokens of live documents, in their order: [size, dim]."""
    bounds = offsets_of([n_live_tokens([piece]) for piece in pieces])  # [n_pieces + 1]
    rng = np.random.default_rng([manifest.seed, 0])
    # [size] numbers of live tokens, which are numbered consecutively from the first piece to the last.
    chosen = np.sort(rng.choice(int(bounds[-1]), size, replace=False))
    cuts = np.searchsorted(chosen, bounds)  # [n_pieces + 1] the first chosen token of each piece
    vectors = np.empty((size, manifest.dim), np.float32)
    for piece, bound, first, last in zip(pieces, bounds, cuts, cuts[1:], strict=False):
        rows = _live_token_rows(piece.segment, chosen[first:last] - bound)
        vectors[first:last] = piece.segment.decode(rows, codec)
    return vectors


def _live_token_rows(segment: Segment, tokens: Ints) -> Ints:
    """Return the rows of these tokens [n] in the arrays of the segment. `tokens` are numbers of live tokens."""
    offsets = offsets_of(live_lengths(segment))  # [n_live + 1]
    documents = np.searchsorted(offsets, tokens, side="right") - 1  # [n] counted among live documents
    starts = segment.offsets[:-1][segment.live]  # [n_live]
    rows: Ints = starts[documents] + tokens - offsets[documents]
    return rows


def write(
    writer: Writer, pieces: Sequence[Piece], manifest: Manifest, old: Codec | None, new: Codec | None
) -> SegmentEntry:
    """Stage one segment of the live documents of `pieces`, in order, at their positions, and return its entry.

    - `manifest`: says how vectors are stored.
    - `old`: the codec of the pieces that are encoded.
    - `new`: the codec of the new segment; None keeps vectors raw.

    Codes are copied where `new` is `old`; otherwise vectors are decoded and encoded again. Memory holds one run of
    documents at a time, some bytes per document, and about 10 bytes per entry of the inverted lists, of cells and of
    words. Words are copied as well; the texts of a piece without words are cut into words.
    """
    positions = np.concatenate([piece.segment.positions[piece.segment.live] for piece in pieces])  # [n_docs]
    offsets = offsets_of(np.concatenate([live_lengths(piece.segment) for piece in pieces]))  # [n_docs + 1]
    n_tokens = int(offsets[-1])
    files = {"positions": writer.array("positions", positions), "offsets": writer.array("offsets", offsets)}
    runs: list[_Run] = []
    with writer.arrays(token_types(manifest.vector_format, manifest.dim, n_tokens, encoded=new is not None)) as arrays:
        first_row = 0
        for piece, rows in _runs(pieces):
            content, run = _convert(piece, rows, first_row, old, new)
            arrays.append(content)
            runs.append(run)
            first_row += len(rows)
        files |= arrays.finish()
    lists = ivf.join([run.lists for run in runs if run.lists is not None])
    if new is not None:
        files["cells"] = writer.array("cells", lists.cells)
        files["cell_offsets"] = writer.array("cell_offsets", lists.offsets)
        files["cell_documents"] = writer.array("cell_documents", lists.documents.astype(row_type(len(positions))))
    words = None
    if manifest.words is not None:
        words, word_files = _write_words(writer, pieces, WordTokenizer(manifest.words))
        files |= word_files
    files["documents"] = writer.documents(d for piece in pieces for d in piece.live_documents())
    return SegmentEntry(
        n_docs=len(positions),
        n_tokens=n_tokens,
        n_deleted=0,
        n_lists=len(lists.cells),
        n_entries=len(lists.documents),
        largest_norm=max(run.largest_norm for run in runs),
        error=sum(run.error * run.n_tokens for run in runs) / n_tokens,
        files=files,
        words=words,
    )


def _write_words(
    writer: Writer, pieces: Sequence[Piece], tokenizer: WordTokenizer
) -> tuple[WordsEntry, dict[str, FileEntry]]:
    """Stage the words of the live documents of `pieces`, and return their entry and their files by role."""
    lists = terms.join([part for piece in pieces for part in _words(piece, tokenizer)])
    arrays = {role: getattr(lists, name) for role, name in TERM_ROLES.items()}
    arrays["term_documents"] = lists.documents.astype(row_type(len(lists.lengths)))
    files = {role: writer.array(role, array) for role, array in arrays.items()}
    return WordsEntry(len(lists), len(lists.spelling), len(lists.documents)), files


def _words(piece: Piece, tokenizer: WordTokenizer) -> Iterator[tuple[TermLists, Bools]]:
    """Yield the words of a piece's documents, and which of these are live. Texts without stored words are cut."""
    if piece.segment.terms is not None:
        yield piece.segment.terms, piece.segment.live
        return
    documents = piece.live_documents()
    while batch := [document.text for document in itertools.islice(documents, RUN_TEXTS)]:
        yield tokenizer.lists(batch), np.ones(len(batch), np.bool_)


def _runs(pieces: Sequence[Piece]) -> Iterator[tuple[Piece, Ints]]:
    """Yield (piece, rows of some live documents of it): about RUN_TOKENS tokens at a time, in order."""
    for piece in pieces:
        for rows in _cut(np.flatnonzero(piece.segment.live), np.cumsum(live_lengths(piece.segment))):
            yield piece, rows


def _convert(
    piece: Piece, rows: Ints, first_row: int, old: Codec | None, new: Codec | None
) -> tuple[dict[str, Array], _Run]:
    """Return the token arrays of some documents as the new segment stores them, by role, and their `_Run`.

    - `rows`: the documents' rows in `piece`, ascending.
    - `first_row`: the row of the first one in the new segment.
    """
    segment = piece.segment
    tokens = segment.tokens(rows)
    if new is None:
        # There is no codec at all, so every piece is raw. Not `decode`, which would make a float32 copy of float16.
        vectors = np.asarray(segment.raw)[tokens]
        return {"vectors": vectors}, _Run(len(vectors), piece.error, segment.largest_norm, None)
    if segment.encoded is not None and new is old:
        encoded, error, norm = segment.encoded.take(tokens), piece.error, segment.largest_norm
    else:
        vectors = segment.decode(tokens, old)
        encoded, norm = new.encode(vectors), float(np.linalg.norm(vectors, axis=1).max())
        error = quantization_error(new, vectors, encoded)
    lists = ivf.build(encoded.codes, offsets_of(segment.lengths(rows)))
    lists = replace(lists, documents=lists.documents + np.uint32(first_row))
    return {name: getattr(encoded, name) for name in Encoded.__slots__}, _Run(len(encoded.codes), error, norm, lists)


def write_deleted(writer: Writer, entry: SegmentEntry, live: Bools) -> SegmentEntry:
    """Stage a new list of deleted rows, and return the entry of the same segment with this list."""
    deleted = np.flatnonzero(~live).astype(np.uint32)
    files = {**entry.files, "deleted": writer.array("deleted", deleted)}
    return replace(entry, n_deleted=len(deleted), files=files)


def write_codec(writer: Writer, codec: Codec, error: float) -> CodecEntry:
    """Stage a codec's files and return its entry. `error` is the quantization error when the codec is new."""
    roles = ("centroids", "coarse", "starts", "steps")
    files = {role: writer.array(role, getattr(codec, role)) for role in roles}
    return CodecEntry(len(codec.centroids), len(codec.coarse), error, files)


def load_codec(store: Store, manifest: Manifest, *, verify: bool) -> Codec | None:
    """Return the codec of a generation, checked, or None if it has none. Raises `CorruptIndexError`."""
    if manifest.codec is None:
        return None
    types = array_types(manifest, manifest.codec)
    arrays = {role: store.array(manifest.codec.files[role], t, verify=verify) for role, t in types.items()}
    expect = partial(_expect, manifest.codec.files)
    for role in ("centroids", "coarse", "steps"):
        expect(role, bool(np.isfinite(arrays[role]).all()), "finite values")
    expect("starts", _rises(arrays["starts"], manifest.codec.n_centroids), "a strict rise from 0 to n_centroids")
    expect("steps", bool((arrays["steps"] >= 0).all()), "values >= 0")
    return Codec(**arrays, nbits=manifest.vector_format.bits)


def load(store: Store, manifest: Manifest, entry: SegmentEntry, *, verify: bool) -> StoredSegment:
    """Map the files of a segment. Raises `CorruptIndexError` naming a file that is not as the format says.

    Everything that a search relies on is checked, except the values of each token: these only if `verify`.
    """
    types = array_types(manifest, without_deleted(entry))
    arrays = {role: store.array(entry.files[role], t, verify=verify) for role, t in types.items()}
    expect = partial(_expect, entry.files)
    expect("offsets", _rises(arrays["offsets"], entry.n_tokens), "a strict rise from 0 to n_tokens")
    positions = arrays["positions"]
    ordered = positions[0] >= 0 and positions[-1] < manifest.next_position and (np.diff(positions) > 0).all()
    expect("positions", bool(ordered), "a strict rise below next_position")
    live = load_live(store, manifest, entry, verify=verify)
    encoded = lists = None
    if manifest.codec is not None:
        encoded = Encoded(**{name: arrays[name] for name in Encoded.__slots__})
        lists = ivf.InvertedLists(arrays["cells"], arrays["cell_offsets"], arrays["cell_documents"])
        expect("cell_offsets", _rises(lists.offsets, entry.n_entries), "a strict rise from 0 to n_entries")
        expect("cells", bool((np.diff(lists.cells.astype(np.int64)) > 0).all()), "strictly ascending cells")
    words = None
    if entry.words is not None:
        words = TermLists(**{name: arrays[role] for role, name in TERM_ROLES.items()})
        expect("term_bounds", _rises(words.bounds, entry.words.n_bytes), "a strict rise from 0 to n_bytes")
        expect("term_offsets", _rises(words.offsets, entry.words.n_entries), "a strict rise from 0 to n_entries")
    vectors = arrays.get("vectors")
    segment = Segment(positions, arrays["offsets"], live, entry.largest_norm, vectors, encoded, lists, words)
    if verify:
        _check_tokens(segment, entry, manifest)
        _check_words(segment, entry)
    documents = DocumentFile(store.file_path(entry.files["documents"], verify=verify), entry.n_docs)
    if verify:
        documents.check()
    return StoredSegment(entry, segment, documents)


def load_live(store: Store, manifest: Manifest, entry: SegmentEntry, *, verify: bool) -> Bools:
    """Return which rows of a segment are not deleted, [n_docs]. Raises `CorruptIndexError`."""
    live = np.ones(entry.n_docs, np.bool_)
    if entry.n_deleted:
        file, array_type = entry.files["deleted"], array_types(manifest, entry)["deleted"]
        deleted = store.array(file, array_type, verify=verify).astype(np.int64)
        ascend = bool((np.diff(deleted) > 0).all() and deleted[-1] < entry.n_docs)
        _expect(entry.files, "deleted", ascend, "ascending rows")
        live[deleted] = False
    return live


def without_deleted(entry: SegmentEntry) -> SegmentEntry:
    """Return the entry that the segment had before documents of it were deleted."""
    files = {role: file for role, file in entry.files.items() if role != "deleted"}
    return replace(entry, n_deleted=0, files=files)


def _check_tokens(s: Segment, entry: SegmentEntry, manifest: Manifest) -> None:
    """Check every token: values are finite, codes in range, and inverted lists equal to those built again."""
    expect = partial(_expect, entry.files)
    if s.raw is not None:
        expect("vectors", bool(np.isfinite(s.raw).all()), "finite values")
    if s.encoded is not None and s.lists is not None and manifest.codec is not None:
        n_centroids = manifest.codec.n_centroids
        expect("codes", int(s.encoded.codes.max()) < n_centroids, f"values below {n_centroids}")
        expect("scales", bool((np.isfinite(s.encoded.scales) & (s.encoded.scales >= 0)).all()), "finite values >= 0")
        rebuilt = _lists_of(s.encoded.codes, s.offsets)
        for role, name in (("cells", "cells"), ("cell_offsets", "offsets"), ("cell_documents", "documents")):
            expect(role, np.array_equal(getattr(rebuilt, name), getattr(s.lists, name)), "the lists of its codes")


def _check_words(s: Segment, entry: SegmentEntry) -> None:
    """Check every entry of the words: terms and rows ascend, and the counts of a document add up to its length."""
    if s.terms is None:
        return
    expect = partial(_expect, entry.files)
    spelled = s.terms.terms()
    expect("term_spelling", all(a < b for a, b in itertools.pairwise(spelled)), "strictly ascending terms")
    rows, counts = s.terms.documents.astype(np.int64), s.terms.counts.astype(np.int64)
    first = np.zeros(len(rows) + 1, np.bool_)  # [n_entries + 1] True where a list begins
    first[s.terms.offsets] = True
    ascend = bool((first[1:-1] | (np.diff(rows) > 0)).all())
    expect("term_documents", ascend and bool((rows < len(s)).all()), "ascending rows in each list, below n_docs")
    expect("term_counts", bool((counts > 0).all()), "values above 0")
    # A count of MAX_COUNT may stand for more.
    cut = np.bincount(rows, counts == terms.MAX_COUNT, len(s)) > 0  # [n_docs]
    sums = np.bincount(rows, counts, len(s))  # [n_docs]
    exact = np.where(cut, s.terms.lengths >= sums, s.terms.lengths == sums)
    expect("term_lengths", bool(exact.all()), "the sums of the documents' counts")


def _lists_of(codes: Array, offsets: Ints) -> ivf.InvertedLists:
    """Return `ivf.build` of the same arguments, computed for some documents at a time."""
    parts = []
    for rows in _cut(np.arange(len(offsets) - 1), offsets[1:]):
        first, last = int(rows[0]), int(rows[-1]) + 1
        lists = ivf.build(codes[offsets[first] : offsets[last]], offsets[first : last + 1] - offsets[first])
        parts.append(replace(lists, documents=lists.documents + np.uint32(first)))
    return ivf.join(parts)


def _cut(rows: Ints, ends: Ints) -> list[Ints]:
    """Split document rows [n], whose tokens end at `ends` [n], into runs of about RUN_TOKENS tokens."""
    return np.split(rows, np.flatnonzero(np.diff(ends // RUN_TOKENS)) + 1)


def _rises(values: Array, last: int) -> bool:
    return bool(values[0] == 0 and values[-1] == last and (np.diff(values) > 0).all())


def _expect(files: Mapping[str, FileEntry], role: str, holds: bool, expected: str) -> None:
    if not holds:
        raise CorruptIndexError(
            f"data/{files[role].name}: expected {expected}, found other values; restore the index from a copy"
        )
