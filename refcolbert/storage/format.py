"""The index format, version 2: the meaning of every byte on disk. This module does no I/O.

An index is a folder:

    manifest.json      names every other file of the current generation
    data/              immutable files, each written once and never changed
    data/GENERATION-manifest.json   a copy, byte for byte, of that generation's manifest; 00000012 for generation 12
    writer.lock        locked by a writer while it writes; its content only tells others who holds the lock

Reading. A reader MUST read the manifest first, and MUST NOT read a file that the manifest does not name. While it may
open files of a generation, a reader MUST hold a shared kernel lock on that generation's copy of the manifest (flock; on
Windows, the open file is the lock). If the copy is missing, or is unlinked once it is locked, the reader MUST begin
again with manifest.json.

Writing. A writer MUST hold writer.lock. It MUST make every named file and the copy of the manifest durable before the
manifest itself. It MUST publish the manifest by renaming a complete temporary file over it. So a crash leaves the old
generation or the new one, never a mixture.

Removing. A writer MUST NOT remove a file that the new generation or the one before it names. It MAY remove the copy of
an older generation after locking that copy exclusively. It MAY then remove the files that no remaining copy names.
Files of a generation above the current one were left by a writer that crashed. Only a writer that holds writer.lock
removes them.

The manifest is one JSON object in UTF-8, then a newline, then the SHA-256 in lower-case hex of all bytes before that
newline, then a newline. It has at most 1 MiB. Every key is required, and no key may be added or repeated. A reader that
meets an unknown key MUST refuse the index, because it cannot know what the key changes.

    format_version     1 or 2. A larger number MUST be refused: the index is too new. In version 1, manifest and
                       segments have no key "words"; everything else is the same.
    reader_features    [] names of features a reader must know; an unknown one MUST be refused
    writer_features    [] names of features a writer must know: it MUST refuse an unknown one, a reader need not
    generation         >= 1, one more than that of the manifest it replaced
    dim                1 to 4096, columns of a token vector
    nbits              1, 2, 4 or 8: bits per residual component; or "float16", "float32": vectors stay raw
    train_at           number of tokens at which an index with 1, 2, 4 or 8 bits fits its codec
    seed               seed of every random choice
    pool_factor        1 to 64: tokens per vector; a document's vectors are pooled (`pooling`) before they are added
    next_position      the position that the next document gets; larger than any in use
    words              null, or the tokenizer of the texts' words: "porter", "unicode61", "trigram" (`encoding.words`)
    encoder            null, or {"hash", "source"}: the content hash of the model (`encoding.encoder`), and where it was
                       found, null for the default model, "small" for the other one of the package
    codec              null while vectors are raw, or {"n_centroids", "n_coarse", "error", "files"}; n_centroids is at
                       most 65536
    segments           list of {"n_docs", "n_tokens", "n_deleted", "n_lists", "n_entries", "largest_norm", "error",
                       "words", "files"}; `words` is null, or {"n_terms", "n_bytes", "n_entries"} if the index has words

`largest_norm` is at least the norm of every vector of the segment before rounding to float16. No decoded vector is
longer than (1 + 2^-10) largest_norm + sqrt(dim) 2^-24. The error bound of a search on raw vectors depends on it.

`error` is the mean of |x - decoded x| / |x| over original vectors x: for a codec, the vectors it was fitted to; for a
segment, its own vectors; 0 while vectors are raw. It shows how far documents have drifted from the codec. No reader
depends on it.

A segment has 1 <= n_docs <= n_tokens, n_docs <= 2^32, and n_deleted < n_docs. There are at most 4096 segments. A text
has at most 4096 characters. The seed is below 2^63, and all other integers are at most 2^62.

`files` maps a role to {"name", "bytes", "sha256"}. A name matches [0-9a-z-]{1,64} followed by .npy or .sqlite, and
occurs once. It names a regular file in data/, never a link. A writer MUST begin it with its generation, in the digits
of the copy, and "-". By this number the next writer finds the files of one that crashed.

These are the roles. Counts are those of the same object, and of its `words` for the roles of words. Without a codec,
each segment has the roles of "raw", and its n_lists and n_entries are 0. With one, each has those of "encoded". Rows,
centroids and tokens are numbered from 0, and a : b excludes b.

    codec       centroids [n_centroids, dim] float32    unit rows
                coarse [n_coarse, dim] float32           unit rows
                starts [n_coarse + 1] int64             coarse cell g owns the centroids starts[g] : starts[g + 1];
                                                        strictly ascending from 0 to n_centroids. Only a writer needs
                                                        coarse and starts (`kmeans`)
                steps [dim] float32                     >= 0, width of a bucket for a residual of norm 1
    segment     positions [n_docs] int64                strictly ascending, also from one segment to the next,
                                                        and below next_position
                offsets [n_docs + 1] int64              document r has the tokens offsets[r] : offsets[r + 1]; strictly
                                                        ascending from 0 to n_tokens
                deleted [n_deleted] uint32              rows, strictly ascending; present only when n_deleted > 0. The
                                                        other arrays and the documents still have these rows
                documents                               SQLite, one table: see `document_file.SCHEMA`; row r is
                                                        document r, and metadata is a JSON object
      raw       vectors [n_tokens, dim]                 float32 if nbits is "float32", else float16
      encoded   codes [n_tokens] uint16                 below n_centroids
                residuals [n_tokens, ceil(dim*nbits/8)] uint8, packed as `codec` says
                scales [n_tokens] float16               finite, >= 0
                spreads [n_tokens] uint8                n of the spread, see `codec`
                cells [n_lists] uint32                  the codes in use, strictly ascending
                cell_offsets [n_lists + 1] int64        strictly ascending from 0 to n_entries
                cell_documents [n_entries]              cell_offsets[i] : cell_offsets[i + 1] are the rows with a token
                                                        whose code is cells[i], strictly ascending; uint16 if
                                                        n_docs <= 65536, else uint32
      words     term_spelling [n_bytes] uint8           the terms in UTF-8, one after the other, strictly ascending as
                                                        bytes; each cut at 32768 bytes
                term_bounds [n_terms + 1] int64         strictly ascending from 0 to n_bytes
                term_offsets [n_terms + 1] int64        strictly ascending from 0 to n_entries; `terms` has an example
                term_documents [n_entries]              rows, strictly ascending within a list; dtype as cell_documents
                term_counts [n_entries] uint8           how often the document has the term, at most 255
                term_lengths [n_docs] uint32            number of words of each document, 0 without a text

All numbers are little-endian, and arrays are C-ordered. An array file is NumPy's .npy version 1.0. Its header MUST
equal, byte for byte, the result of `npy_header` for the dtype and shape above. A reader compares the header and parses
nothing. The header has 128 bytes: 93 4e 55 4d 50 59 01 00 76 00 in hex, this text, spaces up to 127 bytes, a newline.

    {'descr': '<f4', 'fortran_order': False, 'shape': (72, 8), }

With one axis, the shape is (72,). The dtypes are written |u1, <u2, <u4, <i8, <f2 and <f4. The values follow the header,
and nothing follows them.

A document's score is MaxSim with its decoded vectors (`codec`), in float64. To get the same bits, add the products of a
similarity, and the maxima of a score, in halves: fill them with zeros up to a power of two, and add the upper half to
the lower half until one number is left. Ties are broken by position. Deleted rows never appear. The ids of all live
documents are distinct.
"""

import io
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ..encoding.words import TOKENIZERS
from ..engine.codec import NBITS, row_bytes
from ..engine.kmeans import MAX_CENTROIDS
from ..errors import IndexTooNewError
from .strict_json import Rule, anything, corrupt, count, is_size, is_text, obey, seal, unseal

__all__ = [
    "FORMAT_VERSION",
    "LARGEST_MANIFEST",
    "ArrayType",
    "CodecEntry",
    "EncoderEntry",
    "FileEntry",
    "Manifest",
    "SegmentEntry",
    "VectorFormat",
    "WordsEntry",
    "array_types",
    "manifest_copy_name",
    "npy_header",
    "row_type",
    "token_types",
]

FORMAT_VERSION = 2
LARGEST_MANIFEST = 1 << 20
LARGEST_DIM = 4096
LARGEST_POOL_FACTOR = 64
FILE_NAME = re.compile(r"[0-9a-z-]{1,64}\.(npy|sqlite)")
HASH = re.compile(r"[0-9a-f]{64}")
DType = np.dtype[Any]
U1, U2, U4, I8, F2, F4 = (DType(code) for code in ("u1", "<u2", "<u4", "<i8", "<f2", "<f4"))
RAW = {"float16": F2, "float32": F4}

ArrayType = tuple[np.dtype[Any], tuple[int, ...]]  # dtype and shape


@dataclass(frozen=True, slots=True)
class VectorFormat:
    """How an index stores its vectors, as `nbits` of the manifest says."""

    nbits: int | str

    @staticmethod
    def allows(nbits: object) -> bool:
        """Return True if `nbits` is 1, 2, 4, 8, "float16" or "float32"."""
        return (type(nbits) is int and nbits in NBITS) or (isinstance(nbits, str) and nbits in RAW)

    @property
    def is_compressed(self) -> bool:
        """True if vectors are encoded with a codec, as soon as one is fitted."""
        return not isinstance(self.nbits, str)

    @property
    def bits(self) -> int:
        """Bits per residual component, for a format that is compressed."""
        return int(self.nbits)

    @property
    def raw_dtype(self) -> DType:
        """The dtype of vectors that are not encoded. A compressed format has such vectors until its codec is fitted."""
        return RAW[self.nbits] if isinstance(self.nbits, str) else F2


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One immutable file."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """The model whose vectors an index holds. A source of None is the default model."""

    hash: str
    source: str | None


@dataclass(frozen=True, slots=True)
class CodecEntry:
    """The fitted codec."""

    n_centroids: int
    n_coarse: int
    error: float
    files: dict[str, FileEntry]


@dataclass(frozen=True, slots=True)
class WordsEntry:
    """The words of a segment."""

    n_terms: int
    n_bytes: int
    n_entries: int


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One segment. `n_lists` and `n_entries` are 0 while it is raw."""

    n_docs: int
    n_tokens: int
    n_deleted: int
    n_lists: int
    n_entries: int
    largest_norm: float
    error: float
    files: dict[str, FileEntry]
    words: WordsEntry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One generation of an index."""

    generation: int
    dim: int
    nbits: int | str
    train_at: int
    seed: int
    pool_factor: int = 1
    next_position: int = 0
    words: str | None = None
    encoder: EncoderEntry | None = None
    codec: CodecEntry | None = None
    segments: tuple[SegmentEntry, ...] = ()
    format_version: int = FORMAT_VERSION
    reader_features: tuple[str, ...] = ()
    writer_features: tuple[str, ...] = field(default=())

    @property
    def vector_format(self) -> VectorFormat:
        """How vectors are stored."""
        return VectorFormat(self.nbits)

    @property
    def owners(self) -> list[CodecEntry | SegmentEntry]:
        """The entries that name files: the codec, if there is one, and the segments."""
        return [*([self.codec] if self.codec else []), *self.segments]

    def files(self) -> list[FileEntry]:
        """Return every file of this generation except the manifest."""
        return [entry for owner in self.owners for entry in owner.files.values()]

    def follows(self, earlier: "Manifest") -> bool:
        """Return True if this can be a later generation of the same index: no file of both has other bytes."""
        known = {file.name: file for file in earlier.files()}
        return self.generation > earlier.generation and all(known.get(f.name, f) == f for f in self.files())

    def bytes_of(self) -> dict[str, int]:
        """Return role -> bytes, summed over all segments and the codec."""
        sizes: dict[str, int] = {}
        for role, file in (item for owner in self.owners for item in owner.files.items()):
            sizes[role] = sizes.get(role, 0) + file.bytes
        return sizes

    def to_bytes(self) -> bytes:
        """Return the content of the manifest file. Equal manifests give equal bytes."""
        values = asdict(self)
        if self.format_version == 1:
            for owner in (values, *values["segments"]):
                del owner["words"]
        return seal(values)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Parse a manifest file strictly. Raises `CorruptIndexError`, or `IndexTooNewError` for a newer format."""
        parsed = unseal(data, "manifest.json", LARGEST_MANIFEST)
        _refuse_newer(parsed)
        return _manifest(parsed)


def manifest_copy_name(generation: int) -> str:
    """Return the name, in data/, of a generation's copy of its manifest. Readers lock this file to pin it."""
    return f"{generation:08d}-manifest.json"


@lru_cache(maxsize=1024)  # each look at a manifest needs those of all its files
def npy_header(array_type: ArrayType) -> bytes:
    r"""Return the only header that an array file of this dtype and shape may have.

    >>> header = npy_header((np.dtype("<f4"), (72, 8)))
    >>> len(header), header.rstrip()
    (128, b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (72, 8), }")
    """
    dtype, shape = array_type
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def row_type(n_docs: int) -> DType:
    """Return the dtype of row numbers in the inverted lists of a segment."""
    return U2 if n_docs <= 1 << 16 else U4


def token_types(vector_format: VectorFormat, dim: int, n_tokens: int, *, encoded: bool) -> dict[str, ArrayType]:
    """Return role -> dtype and shape of the arrays that hold the vectors of a segment."""
    if not encoded:
        return {"vectors": (vector_format.raw_dtype, (n_tokens, dim))}
    return {
        "codes": (U2, (n_tokens,)),
        "residuals": (U1, (n_tokens, row_bytes(dim, vector_format.bits))),
        "scales": (F2, (n_tokens,)),
        "spreads": (U1, (n_tokens,)),
    }


def array_types(manifest: Manifest, owner: CodecEntry | SegmentEntry) -> dict[str, ArrayType]:
    """Return role -> dtype and shape of every array file of a codec or segment of `manifest`."""
    dim = manifest.dim
    if isinstance(owner, CodecEntry):
        return {
            "centroids": (F4, (owner.n_centroids, dim)),
            "coarse": (F4, (owner.n_coarse, dim)),
            "starts": (I8, (owner.n_coarse + 1,)),
            "steps": (F4, (dim,)),
        }
    types: dict[str, ArrayType] = {"positions": (I8, (owner.n_docs,)), "offsets": (I8, (owner.n_docs + 1,))}
    if owner.n_deleted:
        types["deleted"] = (U4, (owner.n_deleted,))
    encoded = manifest.codec is not None
    types |= token_types(manifest.vector_format, dim, owner.n_tokens, encoded=encoded)
    if encoded:
        types["cells"] = (U4, (owner.n_lists,))
        types["cell_offsets"] = (I8, (owner.n_lists + 1,))
        types["cell_documents"] = (row_type(owner.n_docs), (owner.n_entries,))
    if owner.words is not None:
        types["term_spelling"] = (U1, (owner.words.n_bytes,))
        types["term_bounds"] = (I8, (owner.words.n_terms + 1,))
        types["term_offsets"] = (I8, (owner.words.n_terms + 1,))
        types["term_documents"] = (row_type(owner.n_docs), (owner.words.n_entries,))
        types["term_counts"] = (U1, (owner.words.n_entries,))
        types["term_lengths"] = (U4, (owner.n_docs,))
    return types


# ---- Strict parsing: every field has one rule, and an object has exactly the keys of its table.

MANIFEST_RULES: dict[str, Rule] = {
    "format_version": count(1, FORMAT_VERSION),
    "reader_features": lambda value: value == [],
    "writer_features": lambda value: isinstance(value, list) and len(value) <= 64 and all(map(is_text, value)),
    "generation": count(1),
    "dim": count(1, LARGEST_DIM),
    "nbits": VectorFormat.allows,
    "train_at": count(1),
    "seed": count(0, 2**63 - 1),
    "pool_factor": count(1, LARGEST_POOL_FACTOR),
    "next_position": count(),
    "words": lambda value: value is None or (isinstance(value, str) and value in TOKENIZERS),
    # The next two are null, or objects with tables of their own.
    "encoder": anything,
    "codec": anything,
    "segments": lambda value: isinstance(value, list) and len(value) <= 4096,
}
ENCODER_RULES: dict[str, Rule] = {
    "hash": lambda value: isinstance(value, str) and HASH.fullmatch(value) is not None,
    "source": lambda value: value is None or is_text(value),
}
CODEC_RULES: dict[str, Rule] = {
    "n_centroids": count(1, MAX_CENTROIDS),
    "n_coarse": count(1, MAX_CENTROIDS),
    "error": is_size,
}
SEGMENT_RULES: dict[str, Rule] = {
    "n_docs": count(1, 2**32),
    "n_tokens": count(1),
    "n_deleted": count(0, 2**32),
    "n_lists": count(),
    "n_entries": count(),
    "largest_norm": is_size,
    "error": is_size,
    # Null, or an object with a table of its own.
    "words": anything,
}
WORDS_RULES: dict[str, Rule] = {"n_terms": count(), "n_bytes": count(), "n_entries": count()}
FILE_RULES: dict[str, Rule] = {
    "name": lambda value: isinstance(value, str) and FILE_NAME.fullmatch(value) is not None,
    "bytes": count(1),
    "sha256": lambda value: isinstance(value, str) and HASH.fullmatch(value) is not None,
}


def _manifest(parsed: Any) -> Manifest:
    """Return the manifest that a JSON object describes. Raises `CorruptIndexError` naming the field that is wrong."""
    if isinstance(parsed, dict) and parsed.get("format_version") == 1:
        parsed = _without_words(parsed)
    obey(parsed, MANIFEST_RULES, "manifest.json")
    encoder, codec = parsed["encoder"], parsed["codec"]
    if encoder is not None:
        encoder = EncoderEntry(**obey(encoder, ENCODER_RULES, "encoder"))
    if codec is not None:
        codec = CodecEntry(**_owner(codec, CODEC_RULES, "codec"))
    segments = tuple(_segment(segment, f"segments[{i}]") for i, segment in enumerate(parsed["segments"]))
    features = {name: tuple(parsed[name]) for name in ("reader_features", "writer_features")}
    manifest = Manifest(**parsed | features | {"encoder": encoder, "codec": codec, "segments": segments})
    _agree(manifest)
    return manifest


def _without_words(parsed: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of version 1 with "words": null wherever version 2 has this key. It may not have the key."""
    segments = parsed.get("segments")
    for owner in (parsed, *(segments if isinstance(segments, list) else ())):
        if isinstance(owner, dict) and "words" in owner:
            raise corrupt("manifest.json: words", "no such key in version 1", owner["words"])
    if isinstance(segments, list):
        segments = [{**segment, "words": None} if isinstance(segment, dict) else segment for segment in segments]
    return {**parsed, "words": None, **({} if segments is None else {"segments": segments})}


def _segment(parsed: Any, where: str) -> SegmentEntry:
    fields = _owner(parsed, SEGMENT_RULES, where)
    words = fields["words"]
    return SegmentEntry(
        **fields | {"words": None if words is None else WordsEntry(**obey(words, WORDS_RULES, f"{where}.words"))}
    )


def _owner(parsed: Any, rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    """Return the fields of an object that has `files`, these as `FileEntry`."""
    obey(parsed, {**rules, "files": lambda value: isinstance(value, dict)}, where)
    files = {role: FileEntry(**obey(f, FILE_RULES, f"{where}.files.{role}")) for role, f in parsed["files"].items()}
    return {**parsed, "files": files}


def _agree(manifest: Manifest) -> None:
    """Raise `CorruptIndexError` unless the fields agree with each other."""
    if manifest.codec and not manifest.vector_format.is_compressed:
        raise corrupt("codec", "null for raw vectors", "an object")
    for owner in manifest.owners:
        types = array_types(manifest, owner)
        roles = set(types) | ({"documents"} if isinstance(owner, SegmentEntry) else set())
        if set(owner.files) != roles:
            raise corrupt("files", f"the roles {sorted(roles)}", sorted(owner.files))
        for role, file in owner.files.items():
            if file.name.endswith(".sqlite") != (role == "documents"):
                raise corrupt(f"files.{role}.name", "the ending of its kind", file.name)
            if role in types and file.bytes != len(npy_header(types[role])) + _array_bytes(types[role]):
                raise corrupt(f"files.{role}.bytes", "the size of its dtype and shape", file.bytes)
    for segment in manifest.segments:
        if segment.n_deleted >= segment.n_docs or segment.n_tokens < segment.n_docs:
            raise corrupt("segments", "n_deleted < n_docs <= n_tokens", segment)
        if (segment.words is None) != (manifest.words is None):
            raise corrupt("segments.words", "words in every segment or in none, as the manifest says", segment.words)
    if sum(segment.n_docs for segment in manifest.segments) > manifest.next_position:
        raise corrupt("next_position", "at least the number of documents", manifest.next_position)
    names = [file.name for file in manifest.files()]
    if len(set(names)) != len(names):
        raise corrupt("files", "distinct names", sorted(names))


def _array_bytes(array_type: ArrayType) -> int:
    # In Python's integers, which do not overflow.
    return math.prod(array_type[1]) * array_type[0].itemsize


def _refuse_newer(parsed: Any) -> None:
    """Raise `IndexTooNewError` for a version or feature of a later refcolbert, whatever else the manifest holds."""
    if not isinstance(parsed, dict):
        raise corrupt("manifest.json", "one object", parsed)
    version = parsed.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise IndexTooNewError(
            f"expected format version {FORMAT_VERSION} or below, found version {version}; upgrade refcolbert"
        )
    names = parsed.get("reader_features")
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        raise IndexTooNewError(f"expected an index without reader features, found {names}; upgrade refcolbert")
