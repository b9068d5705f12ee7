"""The index format, version 1: what the bytes on disk mean. No I/O happens here.

An index is a folder:

    manifest.json      names every other file of the current generation
    data/              immutable files, each written once and never changed
    data/GENERATION-manifest.json   a copy, byte for byte, of that generation's manifest; at least 8 digits
    writer.lock        held by the kernel for a writer while it writes; its content only tells others who that is

A reader MUST take the manifest first and read no file it does not name. A writer MUST make every named file and the
copy of the manifest durable before the manifest itself, and MUST publish that by renaming a complete temporary file
over it: so a crash leaves the old generation or the new one, never a mixture.

A reader MUST hold a shared kernel lock (flock; on Windows: the file open) on the generation's copy of the manifest for
as long as it may open a file of that generation, and MUST begin anew with manifest.json if the copy is gone, or is
unlinked once it is locked. A writer MUST NOT remove a file that the new generation or the one before it names. It MAY
remove the copy of an older generation after locking it exclusively, and then what no remaining copy names. Files of a
generation above the current one were left by a writer that died; only a writer, holding writer.lock, removes them.

Manifest. UTF-8 JSON, one object, then a newline, the lower-case hex SHA-256 of all bytes before that newline, and a
newline. At most 1 MiB. Every key is required, none may be added or repeated: a reader that meets an unknown key MUST
refuse, because it cannot know what the key changes.

    format_version     1. A larger number MUST be refused: the index is too new.
    reader_features    [] names of features a reader must know; an unknown one MUST be refused
    writer_features    [] names of features a writer must know: it MUST refuse an unknown one, a reader need not
    generation         >= 1, one more than that of the manifest it replaced
    dim                1 to 4096, columns of a token vector
    nbits              1, 2, 4 or 8: bits of a residual component; or "float16", "float32": vectors stay raw
    train_at           tokens at which a raw index with 1, 2, 4 or 8 bits fits its codec
    seed               of every random choice
    pool_factor        1 to 64: a document's vectors are pooled to one in so many (`pooling`) before they are added
    next_position      the position that the next document gets; larger than any in use
    encoder            null, or {"hash": content hash of the model, "source": null or where it was found}
    codec              null while vectors are raw, or {"n_centroids", "n_coarse", "error", "files"}; n_centroids is at
                       most 65536
    segments           list of {"n_docs", "n_tokens", "n_deleted", "n_lists", "n_entries", "largest_norm", "error",
                       "files"}

`largest_norm` is at least the norm of every vector of the segment, but for their rounding to float16: no decoded one is
longer than (1 + 2^-10) largest_norm + sqrt(dim) 2^-24. The error bound of a search on raw vectors rests on it.

`error` is the mean of |x - decoded x| / |x| over vectors x as they were given: in a codec those it was fitted to, in a
segment its own, 0 while raw. It tells how far documents have drifted from the codec; no reader depends on it.

`files` maps a role to {"name", "bytes", "sha256"}. A name matches [0-9a-z-]{1,64} with the ending .npy or .sqlite and
lies in data/; it is a plain file, no link. The roles, with n_coarse, n_lists and n_entries those of the same object:

    codec       centroids [n_centroids, dim] float32    unit rows
                coarse [n_coarse, dim] float32           unit rows
                starts [n_coarse + 1] int64             fine centroids of each coarse cell, from 0 to n_centroids
                steps [dim] float32                     >= 0, width of a bucket for a residual of norm 1
    segment     positions [n_docs] int64                strictly ascending, below next_position
                offsets [n_docs + 1] int64              strictly ascending from 0 to n_tokens
                deleted [n_deleted] uint32              rows, strictly ascending; present only when n_deleted > 0
                documents                               SQLite, one table: see `documents.SCHEMA`; row r is document r
      raw       vectors [n_tokens, dim]                 float32 if nbits is "float32", else float16
      encoded   codes [n_tokens] uint16                 below n_centroids
                residuals [n_tokens, ceil(dim*nbits/8)] uint8, packed as `codec` says
                scales [n_tokens] float16               finite, >= 0
                spreads [n_tokens] uint8                numbers into `codec.SPREADS`
                cells [n_lists] uint32                  strictly ascending, below n_centroids
                cell_offsets [n_lists + 1] int64        strictly ascending from 0 to n_entries
                cell_documents [n_entries]              rows, strictly ascending within a list; uint16 if
                                                        n_docs <= 65536, else uint32

All numbers are little-endian, arrays C-ordered. An array file is NumPy's .npy version 1.0, and its header MUST be byte
for byte what `npy_header` gives for the dtype and shape above: a reader compares it and parses nothing.

A document's score is MaxSim against its decoded vectors (`codec`), ties are broken by position, deleted rows never
appear, and the ids of all live documents are distinct.
"""

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..engine.codec import NBITS, row_bytes
from ..engine.kmeans import MAX_CENTROIDS
from ..errors import CorruptIndexError, IndexTooNewError
from .strict_json import Rule, anything, corrupt, count, is_size, is_text, obey, parse

__all__ = [
    "FORMAT_VERSION",
    "LARGEST_MANIFEST",
    "ArrayType",
    "CodecEntry",
    "EncoderEntry",
    "FileEntry",
    "Manifest",
    "SegmentEntry",
    "array_types",
    "manifest_copy_name",
    "npy_header",
    "row_type",
]

FORMAT_VERSION = 1
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
class FileEntry:
    """One immutable file."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """The model whose vectors an index holds; source None is the default model."""

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
class SegmentEntry:
    """One segment; n_lists and n_entries are 0 while it is raw."""

    n_docs: int
    n_tokens: int
    n_deleted: int
    n_lists: int
    n_entries: int
    largest_norm: float
    error: float
    files: dict[str, FileEntry]


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
    encoder: EncoderEntry | None = None
    codec: CodecEntry | None = None
    segments: tuple[SegmentEntry, ...] = ()
    format_version: int = FORMAT_VERSION
    reader_features: tuple[str, ...] = ()
    writer_features: tuple[str, ...] = field(default=())

    def files(self) -> list[FileEntry]:
        """Every file this generation consists of, besides the manifest."""
        owners = ([self.codec] if self.codec else []) + list(self.segments)
        return [entry for owner in owners for entry in owner.files.values()]

    def bytes_of(self) -> dict[str, int]:
        """Bytes of each role in all segments and the codec: what takes how much."""
        owners = ([self.codec] if self.codec else []) + list(self.segments)
        found: dict[str, int] = {}
        for role, file in (item for owner in owners for item in owner.files.items()):
            found[role] = found.get(role, 0) + file.bytes
        return found

    def to_bytes(self) -> bytes:
        """The manifest file; equal manifests give equal bytes."""
        body = json.dumps(asdict(self), sort_keys=True, indent=1, allow_nan=False).encode()
        return body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Parse a manifest file strictly. Raises `CorruptIndexError`, or `IndexTooNewError` for a newer format."""
        body, _, trailer = data.removesuffix(b"\n").rpartition(b"\n")
        found, expected = hashlib.sha256(body).hexdigest().encode(), trailer
        if len(data) > LARGEST_MANIFEST or not data.endswith(b"\n") or found != expected:
            raise CorruptIndexError(
                f"manifest.json: its last line must be the SHA-256 of what precedes it ({found.decode()}), "
                f"found {expected[:64]!r}; the index is damaged: restore it from a copy"
            )
        parsed = parse(body, "manifest.json")
        _refuse_newer(parsed)
        return _manifest(parsed)


def manifest_copy_name(generation: int) -> str:
    """The name in data/ of a generation's copy of its manifest, by which readers pin it."""
    return f"{generation:08d}-manifest.json"


def npy_header(array_type: ArrayType) -> bytes:
    """The one header that an array file of this dtype and shape has."""
    dtype, shape = array_type
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def row_type(n_docs: int) -> DType:
    """The type of row numbers in the lists of a segment."""
    return U2 if n_docs <= 1 << 16 else U4


def array_types(manifest: Manifest, owner: CodecEntry | SegmentEntry) -> dict[str, ArrayType]:
    """Role -> dtype and shape of every array file of a codec or segment of `manifest`."""
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
    if manifest.codec is None:
        return types | {"vectors": (RAW.get(str(manifest.nbits), RAW["float16"]), (owner.n_tokens, dim))}
    return types | {
        "codes": (U2, (owner.n_tokens,)),
        "residuals": (U1, (owner.n_tokens, row_bytes(dim, int(manifest.nbits)))),
        "scales": (F2, (owner.n_tokens,)),
        "spreads": (U1, (owner.n_tokens,)),
        "cells": (U4, (owner.n_lists,)),
        "cell_offsets": (I8, (owner.n_lists + 1,)),
        "cell_documents": (row_type(owner.n_docs), (owner.n_entries,)),
    }


# ---- strict parsing: every field has one rule, and an object has exactly the keys of its table

MANIFEST_RULES: dict[str, Rule] = {
    "format_version": count(1, FORMAT_VERSION),
    "reader_features": lambda value: value == [],
    "writer_features": lambda value: isinstance(value, list) and len(value) <= 64 and all(map(is_text, value)),
    "generation": count(1),
    "dim": count(1, LARGEST_DIM),
    "nbits": lambda value: (type(value) is int and value in NBITS) or (isinstance(value, str) and value in RAW),
    "train_at": count(1),
    "seed": count(0, 2**63 - 1),
    "pool_factor": count(1, LARGEST_POOL_FACTOR),
    "next_position": count(),
    "encoder": anything,  # null, or an object with a table of its own
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
}
FILE_RULES: dict[str, Rule] = {
    "name": lambda value: isinstance(value, str) and FILE_NAME.fullmatch(value) is not None,
    "bytes": count(1),
    "sha256": lambda value: isinstance(value, str) and HASH.fullmatch(value) is not None,
}


def _manifest(parsed: Any) -> Manifest:
    obey(parsed, MANIFEST_RULES, "manifest.json")
    encoder, codec = parsed["encoder"], parsed["codec"]
    if encoder is not None:
        encoder = EncoderEntry(**obey(encoder, ENCODER_RULES, "encoder"))
    if codec is not None:
        codec = CodecEntry(**_owner(codec, CODEC_RULES, "codec"))
    segments = tuple(
        SegmentEntry(**_owner(segment, SEGMENT_RULES, f"segments[{i}]")) for i, segment in enumerate(parsed["segments"])
    )
    features = {name: tuple(parsed[name]) for name in ("reader_features", "writer_features")}
    manifest = Manifest(**parsed | features | {"encoder": encoder, "codec": codec, "segments": segments})
    _agree(manifest)
    return manifest


def _owner(parsed: Any, rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    """An object with `files`."""
    obey(parsed, {**rules, "files": lambda value: isinstance(value, dict)}, where)
    files = {role: FileEntry(**obey(f, FILE_RULES, f"{where}.files.{role}")) for role, f in parsed["files"].items()}
    return {**parsed, "files": files}


def _agree(manifest: Manifest) -> None:
    """What the fields must say about each other."""
    if manifest.codec and not isinstance(manifest.nbits, int):
        raise corrupt("codec", "null for raw vectors", "an object")
    owners: list[CodecEntry | SegmentEntry] = [*([manifest.codec] if manifest.codec else []), *manifest.segments]
    for owner in owners:
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
    if sum(segment.n_docs for segment in manifest.segments) > manifest.next_position:
        raise corrupt("next_position", "at least the number of documents", manifest.next_position)
    names = [file.name for file in manifest.files()]
    if len(set(names)) != len(names):
        raise corrupt("files", "distinct names", sorted(names))


def _array_bytes(array_type: ArrayType) -> int:
    return math.prod(array_type[1]) * array_type[0].itemsize  # Python integers: no overflow


def _refuse_newer(parsed: Any) -> None:
    if not isinstance(parsed, dict):
        raise corrupt("manifest.json", "one object", parsed)
    version = parsed.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise IndexTooNewError(
            f"the index has format version {version}, this refcolbert reads up to {FORMAT_VERSION}; upgrade refcolbert"
        )
    names = parsed.get("reader_features")
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        raise IndexTooNewError(f"the index needs the features {names}, which this refcolbert does not know; upgrade it")
