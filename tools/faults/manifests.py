"""Manifests that an attacker wrote and signed: every field takes every wrong value, and each must be refused.

`rules` are all rules of the format; a reader whose rule allows anything must be caught by some manifest.
"""

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any
from unittest import mock

from refcolbert.errors import CorruptIndexError, IndexTooNewError
from refcolbert.storage import format as formats
from refcolbert.storage.format import (
    CodecEntry,
    EncoderEntry,
    FileEntry,
    Manifest,
    SegmentEntry,
    WordsEntry,
    array_types,
    npy_header,
)
from refcolbert.storage.strict_json import anything

from .inject import Report

__all__ = [
    "ALLOWED",
    "EXAMPLE",
    "PATHS",
    "PLAIN",
    "VALUES",
    "changed",
    "example",
    "manifests",
    "missed",
    "rules",
    "sign",
]

Path_ = tuple[str | int, ...]


def sign(body: Any) -> bytes:
    """A manifest file of these bytes, or of this object, with the checksum that an attacker would write."""
    content: bytes = body if isinstance(body, bytes) else json.dumps(body).encode()
    return content + b"\n" + hashlib.sha256(content).hexdigest().encode() + b"\n"


def with_files(manifest: Manifest, owner: Any, number: int) -> Any:
    """The codec or segment with one file a role, of the size that its dtype and shape call for."""
    files = {}
    for role, (dtype, shape) in array_types(manifest, owner).items():
        size = len(npy_header((dtype, shape))) + math.prod(shape) * dtype.itemsize
        files[role] = FileEntry(f"{number:08d}-{role.replace('_', '-')}.npy", size, f"{len(role):064x}")
    if isinstance(owner, SegmentEntry):
        files["documents"] = FileEntry(f"{number:08d}-documents.sqlite", 12288, "d" * 64)
    return replace(owner, files=files)


def example(nbits: int | str = 4, encoded: bool = True) -> Manifest:
    """A manifest with everything in it: words, encoder, codec, a segment without and one with deleted documents."""
    manifest = Manifest(
        generation=7,
        dim=16,
        nbits=nbits,
        train_at=100,
        seed=3,
        next_position=40,
        words="porter",
        encoder=EncoderEntry("e" * 64, "somewhere"),
    )
    cells, entries = (0, 0) if not encoded else (9, 60)
    if encoded:
        manifest = replace(manifest, codec=with_files(manifest, CodecEntry(64, 8, 0.1, {}), 1))
    whole = SegmentEntry(20, 100, 0, cells, entries, 1.0, 0.2, {}, WordsEntry(30, 150, 90))
    holed = SegmentEntry(10, 50, 2, cells, entries, 1.0, 0.2, {}, WordsEntry(7, 40, 12))
    return replace(manifest, segments=(with_files(manifest, whole, 2), with_files(manifest, holed, 3)))


EXAMPLE = example()
PLAIN: dict[str, Any] = json.loads(json.dumps(asdict(EXAMPLE)))
PLAIN_RAW: dict[str, Any] = json.loads(json.dumps(asdict(example(encoded=False))))


def paths(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The path of every value inside, itself excepted."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*path, key)
        yield from paths(child, (*path, key))


MISSING = object()
VALUES = [MISSING, None, -1, 0, 2**63, 1e308, "text", [1], {}, True, 1.5, "", 2**62 + 1, math.nan, {"a": {"a": 1}}]
PATHS = {".".join(map(str, p)): p for p in paths(PLAIN) if p[:2] != ("segments", 0) or len(p) == 2}
# What the format does allow: any seed, no encoder or another, no source or any, a norm of any finite size; an index
# without segments; sizes and hashes of documents, which the manifest alone cannot judge.
SIZES = [0, 1e308, 1.5, 2**63, 2**62 + 1]
ALLOWED: dict[str, list[Any]] = {
    "seed": [0, 2**62 + 1],
    "encoder": [None],
    "encoder.source": [None, "text", ""],
    "segments.1.largest_norm": SIZES,
    "segments.1.error": SIZES,
    "codec.error": SIZES,
    "segments.0": [MISSING],
    "segments.1": [MISSING],
}


def changed(path: Path_, value: Any, plain: dict[str, Any] = PLAIN) -> Any:
    """A copy of the example with one value replaced; `MISSING` removes it."""
    found = owner = copy.deepcopy(plain)
    for key in path[:-1]:
        owner = owner[key]  # type: ignore[index]  # a number in a list
    if value is MISSING:
        del owner[path[-1]]  # type: ignore[arg-type]
    else:
        owner[path[-1]] = value  # type: ignore[index]
    return found


def mutations() -> Iterator[tuple[str, bytes, bool]]:
    """(description, manifest file, True if the format allows it) for each field and value."""
    for name, path in PATHS.items():
        for value in VALUES:
            allowed = any(value is a or (type(value) is type(a) and value == a) for a in ALLOWED.get(name, []))
            yield f"{name} = {'(missing)' if value is MISSING else value!r}", sign(changed(path, value)), allowed
    for value in VALUES:  # without a codec no size depends on nbits
        yield f"nbits = {value!r} while raw", sign(changed(("nbits",), value, PLAIN_RAW)), False


def manifests() -> Report:
    """Read every manifest: those that the format does not allow must be refused by type, the others read."""
    report = Report()
    for what, data, allowed in mutations():
        report.cases += not allowed
        report.new += allowed
        wrong = judged(data, allowed)
        if wrong:
            report.bad.append(f"{what}: {wrong}")
    return report


def judged(data: bytes, allowed: bool) -> str:
    """The fault in reading a manifest, or an empty text."""
    try:
        Manifest.from_bytes(data)
        refused = False
    except (CorruptIndexError, IndexTooNewError):
        refused = True
    except Exception as error:  # noqa: BLE001 - any other exception is a finding
        return f"{type(error).__name__}: {error}"
    return ("refused" if refused else "accepted") if refused == allowed else ""


def rules() -> Iterator[tuple[str, str]]:
    """(table, field) of every rule of the format."""
    for table in ("MANIFEST_RULES", "ENCODER_RULES", "CODEC_RULES", "SEGMENT_RULES", "WORDS_RULES", "FILE_RULES"):
        for key in getattr(formats, table):
            if getattr(formats, table)[key] is not anything:
                yield table, key


def missed() -> list[str]:
    """Rules that could allow anything without any manifest telling."""
    found, cases = [], list(mutations())
    for table, key in rules():
        with mock.patch.dict(getattr(formats, table), {key: lambda _: True}):
            if not any(judged(data, allowed) for _, data, allowed in cases):
                found.append(f"{table}: {key}")
    return found
