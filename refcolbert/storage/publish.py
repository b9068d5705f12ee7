"""Making the next generation: choose the segments to merge, fit a codec when it is time, write segments, commit.

An index with many small segments is slow to search, and merging all of them at every add is slow to write. So a write
merges only the last segments: enough of them for each segment to stay at least twice as large as the next one. The
number of segments is then logarithmic in the number of documents, and so is the number of times that a document is
written.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..engine.codec import Codec
from . import segment_files
from .format import FORMAT_VERSION, Manifest, SegmentEntry
from .generation import Generation
from .segment_files import NewSegment, Piece, StoredSegment
from .store import Writer

__all__ = ["first_to_merge", "publish", "stage"]

MAX_STAGED_SEGMENTS = 256  # segments of a build before they are merged; each one keeps three files open


def publish(
    writer: Writer,
    generation: Generation,
    kept: Sequence[StoredSegment],
    added: Sequence[NewSegment],
    *,
    merge_all: bool = False,
    refit: bool = False,
    words: str | None = None,
) -> Manifest:
    """Commit the next generation and return its manifest.

    - `kept`: segments of `generation`, some of whose documents may be newly deleted.
    - `added`: new segments that come after them.
    - `merge_all`: make everything one segment without deleted documents.
    - `refit`: fit the codec again to the stored vectors. It changes nothing in a format without a codec.
    - `words`: a tokenizer that cuts all texts into words again, with `merge_all`. None keeps the index's own words.

    Vectors stay raw until there are `train_at` live tokens. The codec is then fitted, and everything is encoded with
    it and becomes one segment.
    """
    manifest, codec = generation.manifest, generation.segmented.codec
    pieces: list[Piece] = [*kept, *added]
    enough = codec is None and segment_files.n_live_tokens(pieces) >= manifest.train_at
    if pieces and manifest.vector_format.is_compressed and (refit or enough):
        codec = segment_files.fit_codec(pieces, codec, manifest)
        merge_all = True
    if words is not None:
        manifest = replace(manifest, words=words, format_version=FORMAT_VERSION)
        pieces = [piece.without_words() if isinstance(piece, StoredSegment) else piece for piece in pieces]
    first = 0 if merge_all else first_to_merge([len(piece.segment) for piece in pieces])
    return _commit(writer, generation, manifest, pieces, first, codec, drop_deleted=merge_all)


def stage(writer: Writer, generation: Generation, added: NewSegment) -> Manifest:
    """Commit one more segment of a build. No codec is fitted, and segments are merged only when there are too many."""
    pieces: list[Piece] = [*generation.stored, added]
    first = 0 if len(pieces) > MAX_STAGED_SEGMENTS else len(pieces) - 1
    return _commit(writer, generation, generation.manifest, pieces, first, generation.segmented.codec)


def first_to_merge(sizes: Sequence[int]) -> int:
    """Return the index of the first segment that is merged with all segments behind it. `sizes` counts documents.

    From the end to the front, a segment is merged if it has less than twice as many documents as all segments behind it
    together. The first segment that is large enough ends the merge.

    >>> first_to_merge([100, 9, 3, 2])  # 3 < 2 * 2 and 9 < 2 * (3 + 2), but 100 >= 2 * (9 + 3 + 2)
    1
    >>> first_to_merge([100, 40, 2])  # the last segment stays alone
    2
    """
    first, behind = max(len(sizes) - 1, 0), sum(sizes[-1:])
    while first > 0 and sizes[first - 1] < 2 * behind:
        first -= 1
        behind += sizes[first]
    return first


def _commit(
    writer: Writer,
    generation: Generation,
    manifest: Manifest,
    pieces: Sequence[Piece],
    first: int,
    codec: Codec | None,
    *,
    drop_deleted: bool = False,
) -> Manifest:
    """Commit the generation that has `pieces[:first]` as they are and all others as one segment; return its manifest.

    `manifest` says how new segments are stored. All segments are encoded with `codec`. `drop_deleted` rewrites a
    segment that has deleted documents.
    """
    old = generation.segmented.codec
    groups = [[piece] for piece in pieces[:first]] + ([list(pieces[first:])] if pieces else [])
    entries = [_entry(writer, group, manifest, old, codec, drop_deleted=drop_deleted) for group in groups]
    if codec is not None and codec is not old:
        manifest = replace(manifest, codec=segment_files.write_codec(writer, codec, entries[0].error))
    ends = [int(piece.segment.positions[-1]) + 1 for piece in pieces]
    manifest = replace(
        manifest,
        generation=writer.generation,
        next_position=max([manifest.next_position, *ends]),
        segments=tuple(entries),
    )
    writer.commit(manifest)
    return manifest


def _entry(
    writer: Writer,
    group: Sequence[Piece],
    manifest: Manifest,
    old: Codec | None,
    new: Codec | None,
    *,
    drop_deleted: bool,
) -> SegmentEntry:
    """Return the entry of the segment that a group of pieces becomes, and stage the files that it does not have yet."""
    piece = group[0]
    n_deleted = int((~piece.segment.live).sum())
    needs_words = manifest.words is not None and piece.segment.terms is None
    if len(group) > 1 or isinstance(piece, NewSegment) or new is not old or needs_words or (drop_deleted and n_deleted):
        return segment_files.write(writer, group, manifest, old, new)
    if n_deleted == piece.entry.n_deleted:
        return piece.entry
    return segment_files.write_deleted(writer, piece.entry, piece.segment.live)
