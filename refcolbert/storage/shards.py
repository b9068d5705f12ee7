"""Shards: several indexes in one folder that are searched as one.

A sharded index is a folder:

    shards.json    names the shards, in their order
    NAME/          one folder per shard, each an index of its own (`format`)
    writer.lock    locked while a writer changes some shard, which also locks the writer.lock of that shard

shards.json is one JSON object, {"format_version": 1, "shards": [NAME, ...]}, then a newline, its SHA-256 and a newline,
as in a manifest. It has at most 16 MiB and at least one shard, and no name twice. A name matches [0-9a-z-]{1,64}; it
names a folder, never a link. The file is published by rename, after everything that it names is durable.

All shards MUST have the same dim, nbits, pool_factor, words, the same model, and the same codec, byte for byte: the
entries of the codec's files have equal hashes. So a code means the same in each. If there is no codec, nbits MUST be
"float16" or "float32", because a shard could otherwise fit a codec of its own later. An id is in one shard alone.

The order of the shards decides between equal scores: documents of an earlier shard come first (`Generation.join`).
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import IndexFileError, IndexNotFound, IndexTooNewError, InvalidInput
from .format import Manifest
from .locks import is_link, open_regular_file, writer_lock
from .store import LOCK, SHARDS, Store
from .strict_json import Rule, corrupt, count, obey, seal, unseal

__all__ = [
    "LARGEST_SHARDS",
    "SHARDS",
    "check_alike",
    "is_sharded",
    "list_of",
    "parse_shards",
    "read_shards",
    "write_shards",
    "writing_shards",
]

SHARDS_VERSION = 1
LARGEST_SHARDS = 16 << 20
NAME = re.compile(r"[0-9a-z-]{1,64}")
RULES: dict[str, Rule] = {"format_version": count(1, SHARDS_VERSION), "shards": lambda names: isinstance(names, list)}


def is_sharded(folder: Path) -> bool:
    """Return True if a folder holds a sharded index."""
    return (folder / SHARDS).is_file()


def write_shards(folder: Path, names: Sequence[str]) -> None:
    """Publish the list of shards of a folder, durably. Raises `InvalidInput` for a list that no reader accepts."""
    Store(folder).publish(SHARDS, list_of(names))


def list_of(names: Sequence[str]) -> bytes:
    """Return the content of shards.json. Raises `InvalidInput` for a list that no reader accepts."""
    content = seal({"format_version": SHARDS_VERSION, "shards": list(names)})
    try:
        parse_shards(content)
    except IndexFileError as error:
        raise InvalidInput(f"no reader would accept this list of shards: {error}") from error
    return content


def read_shards(folder: Path) -> tuple[str, ...]:
    """Return the names of the shards, in order. Raises `IndexNotFound`, `CorruptIndexError`, `IndexTooNewError`."""
    try:
        with open_regular_file(folder / SHARDS) as file:
            names = parse_shards(file.read(LARGEST_SHARDS + 1))
    except FileNotFoundError:
        raise IndexNotFound(f"there is no sharded index at {folder}; make one with refcolbert.cluster.build") from None
    for name in names:
        if not (folder / name).is_dir() or is_link(folder / name):
            raise corrupt(f"{SHARDS}: {name}", "the folder of a shard", "no such folder, or a link")
    return names


@contextmanager
def writing_shards(folder: Path) -> Iterator[None]:
    """Hold the lock for a change of some shard. Raises `IndexLocked` without waiting if another writer has it."""
    with writer_lock(folder / LOCK, Store(folder).file_system.note):
        yield


def check_alike(names: Sequence[str], manifests: Sequence[Manifest]) -> None:
    """Raise `CorruptIndexError` naming the first shard that differs from the first one in what all must share."""
    first = _shared_facts(manifests[0])
    for name, manifest in zip(names, manifests, strict=True):
        if manifest.codec is None and manifest.vector_format.is_compressed:
            raise corrupt(f"{name}: codec", "a codec, or raw vectors", f"nbits {manifest.nbits} without a codec")
        for fact, value in _shared_facts(manifest).items():
            if value != first[fact]:
                raise corrupt(f"{name}: {fact}", f"that of {names[0]}, {first[fact]}", value)


def _shared_facts(manifest: Manifest) -> dict[str, object]:
    codec = manifest.codec
    return {
        "dim": manifest.dim,
        "nbits": manifest.nbits,
        "pool_factor": manifest.pool_factor,
        "words": manifest.words,
        "encoder": manifest.encoder.hash if manifest.encoder else None,
        "codec": {role: file.sha256 for role, file in sorted(codec.files.items())} if codec else None,
    }


def parse_shards(content: bytes) -> tuple[str, ...]:
    """Return the names of the shards that the content of shards.json lists, in order."""
    parsed = unseal(content, SHARDS, LARGEST_SHARDS)
    if isinstance(parsed, dict) and type(version := parsed.get("format_version")) is int and version > SHARDS_VERSION:
        raise IndexTooNewError(
            f"{SHARDS}: expected format version {SHARDS_VERSION} or below, found version {version}; upgrade refcolbert"
        )
    names = obey(parsed, RULES, SHARDS)["shards"]
    if not names or len(set(map(str, names))) != len(names):
        raise corrupt(f"{SHARDS}: shards", "at least one name, and none twice", names)
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise corrupt(f"{SHARDS}: shards", "names of a-z, 0-9 and -", name)
    return tuple(names)
