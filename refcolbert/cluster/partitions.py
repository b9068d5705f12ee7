"""Documents -> partitions. A partition can be read again and again, in any process; it becomes one shard.

A partition is a list of documents as `Index.add` takes it, a frame, a function without arguments that returns one of
these, or a delayed object of Dask that computes one.
"""

import glob
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import check_count
from ..corpus.passages import Lengths, split
from ..corpus.readers import PLAIN, Fields, cut_jsonl, document_files, read_files, read_jsonl_part
from ..documents import Document
from ..errors import InvalidInput
from ..index import Index
from ..sharded import ShardedIndex

__all__ = ["Files", "JsonLines", "Passages", "StoredDocuments", "partitions", "read"]

# Bytes of files that become one shard: a 32nd of all, within these limits. A killed worker loses one shard at most.
SMALLEST, LARGEST, SHARDS = 1 << 18, 1 << 25, 32


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Consecutive lines of a JSONL file."""

    path: Path
    name: str  # in ids and errors
    first: int  # byte
    n_bytes: int
    line: int  # number of the first line
    fields: Fields = PLAIN

    def __call__(self) -> Iterator[Document]:
        """Read the documents."""
        return read_jsonl_part(self.path, self.name, self.first, self.n_bytes, self.line, self.fields)


@dataclass(frozen=True, slots=True)
class Files:
    """Whole files."""

    files: tuple[tuple[Path, str, str], ...]  # as `document_files` returns them
    fields: Fields = PLAIN

    def __call__(self) -> Iterator[Document]:
        """Read the documents."""
        return read_files(self.files, self.fields)


@dataclass(frozen=True, slots=True)
class StoredDocuments:
    """The documents of an index, as they are when they are read."""

    source: str | Path  # a folder or URL

    def __call__(self) -> Iterator[Document]:
        """Read the documents."""
        return Index.open(self.source, verify="fast").view.live_documents()


@dataclass(frozen=True, slots=True)
class Passages:
    """A partition whose documents are split into passages, as `corpus.passages.split` does."""

    partition: Callable[[], Iterable[Document]]
    length: int
    overlap: int | None
    lengths: Lengths | None

    def __call__(self) -> Iterator[Document]:
        """Read the documents and split them."""
        return split(self.partition(), self.length, self.overlap, self.lengths)


def partitions(
    documents: Any,
    size: int | None = None,
    layout: str | None = None,
    *,
    text_field: str = "text",
    id_field: str | None = None,
) -> list[Any]:
    """Return the partitions of `documents`, in order.

    - `documents`: the path of a file or folder, a pattern such as "data/*.jsonl", or several; a `dask.bag` or
      `dask.dataframe`; an index, of which each shard is a partition; or an iterable of partitions.
    - `size`: bytes of files per partition. JSONL files are cut at lines, other files stay whole. By default a 32nd of
      all bytes, but at least 256 KiB and at most 32 MiB.
    - `layout`: the format of the files, whatever their names.
    - `text_field`, `id_field`: as in `corpus.readers.read_documents`.

    Raises `InvalidInput` for files that are not there, and for documents in place of partitions.

        >>> from refcolbert.cluster import partitions
        >>> partitions([["one", "two"], ["three"]])
        [['one', 'two'], ['three']]
    """
    if isinstance(documents, Index | ShardedIndex):
        indexes = documents.shards if isinstance(documents, ShardedIndex) else [documents]
        return [StoredDocuments(index.store.source) for index in indexes]
    if hasattr(documents, "to_delayed"):
        return list(documents.to_delayed())
    items = [documents] if isinstance(documents, str | Path) else list(documents)
    if items and all(isinstance(item, str | Path) for item in items):
        fields = Fields(text_field, id_field)
        return list(_of_files([path for item in items for path in _paths(item)], size, layout, fields))
    for item in items:
        frame = hasattr(item, "columns") or hasattr(item, "column_names")
        if not (isinstance(item, list | tuple) or callable(item) or frame):
            raise InvalidInput(
                f"expected partitions, each a list of documents, found {type(item).__name__}; pass [documents]"
            )
    return items


def read(partition: Any) -> Any:
    """Return the documents of a partition."""
    return partition() if callable(partition) else partition


def _paths(item: str | Path) -> list[str | Path]:
    if Path(item).exists():
        return [item]
    found = sorted(glob.glob(str(item), recursive=True))  # noqa: PTH207 - absolute patterns too
    if not found:
        raise InvalidInput(f"expected a file, a folder or a pattern of files, found nothing at {item}")
    return list(found)


def _of_files(paths: list[str | Path], size: int | None, layout: str | None, fields: Fields) -> Iterator[Any]:
    """Yield JSONL files in parts, and other files in groups, of about `size` bytes."""
    files = [
        (path.absolute(), name, kind) for item in paths for path, name, kind in document_files(item, layout, fields)
    ]
    total = sum(path.stat().st_size for path, *_ in files)
    size = min(max(total // SHARDS, SMALLEST), LARGEST) if size is None else check_count(size, "partition_size")
    group: list[Any] = []
    n_bytes = 0
    for path, name, kind in files:
        cut = kind == "jsonl" and path.suffix.lower() != ".gz"
        if group and (cut or n_bytes >= size):
            yield Files(tuple(group), fields)
            group, n_bytes = [], 0
        if cut:
            for part in cut_jsonl(path, size):
                yield JsonLines(path, name, *part, fields)
        else:
            group.append((path, name, kind))
            n_bytes += path.stat().st_size
    if group:
        yield Files(tuple(group), fields)
