"""The only writer of index files: one folder, immutable files, one manifest published by rename.

Commit order (`format` says why): data files written and synced, data/ synced, temporary manifest written and synced,
renamed over manifest.json, folder synced. Only then are files removed that neither the new generation nor the one
before it names. Every change of the disk goes through a `FileSystem`, so that a test can crash or fail any of them.

Network file systems and hardware that acknowledge a sync without doing it get no promise.
"""

import hashlib
import logging
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from .errors import CorruptIndexError, IndexExists, IndexLocked, IndexNotFound
from .format import LARGEST_MANIFEST, ArrayType, FileEntry, Manifest, npy_header

__all__ = ["FileSystem", "Store", "Writer"]

log = logging.getLogger("refcolbert")

MANIFEST, TEMPORARY, DATA, LOCK = "manifest.json", "manifest.json.tmp", "data", "writer.lock"


class FileSystem:
    """The operations that change a disk. Tests replace it to crash, fail or record any of them."""

    def write(self, path: Path, *parts: bytes | memoryview) -> None:
        """Create or replace a file and make its content durable."""
        with path.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Rename over."""
        os.replace(source, target)  # noqa: PTH105 - the one call whose atomicity everything rests on

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable. Windows has no such call and orders renames itself."""
        if os.name == "nt":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, path: Path) -> None:
        """Create a folder; one that exists is fine."""
        path.mkdir(parents=True, exist_ok=True)

    def remove(self, path: Path) -> None:
        """Delete a file."""
        path.unlink()


class Writer:
    """One write operation in progress: stages files, then `commit`s a manifest that names them."""

    def __init__(self, store: "Store", manifest: Manifest | None) -> None:
        self._store, self._files = store, store.file_system
        self.manifest = manifest  # the generation this one starts from
        self.generation = manifest.generation + 1 if manifest else 1
        self._count = 0

    def array(self, role: str, array: NDArray[Any]) -> FileEntry:
        """Stage one array as a .npy file."""
        array = np.ascontiguousarray(array)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        body = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        return self._stage(f"{role.replace('_', '-')}.npy", npy_header((array.dtype, array.shape)), body)

    def documents(self, data: bytes) -> FileEntry:
        """Stage a packed document database."""
        return self._stage("documents.sqlite", data)

    def copy(self, entry: FileEntry, source: "Store") -> None:
        """Stage a file of another index under the same name, checked against its SHA-256 on the way."""
        with (
            source.opened(entry) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            _check_hash(entry, view)
            self._files.write(self._store.path / DATA / entry.name, view)

    def commit(self, manifest: Manifest) -> None:
        """Publish `manifest`. When this returns, the new generation is the one that any reader finds."""
        store = self._store
        self._files.sync_folder(store.path / DATA)
        self._files.write(store.path / TEMPORARY, manifest.to_bytes())
        self._files.replace(store.path / TEMPORARY, store.path / MANIFEST)
        self._files.sync_folder(store.path)
        keep = {file.name for m in (manifest, self.manifest) if m for file in m.files()}
        store.collect(keep)

    def _stage(self, suffix: str, *parts: bytes | memoryview) -> FileEntry:
        name = f"{self.generation:08d}-{self._count:03d}-{suffix}"
        self._count += 1
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        self._files.write(self._store.path / DATA / name, *parts)
        return FileEntry(name, sum(len(part) for part in parts), digest.hexdigest())


class Store:
    """An index folder."""

    def __init__(self, path: Path, file_system: FileSystem | None = None) -> None:
        self.path = path
        self.file_system = file_system or FileSystem()

    def create(self) -> None:
        """Make an empty folder for an index. Raises `IndexExists` if something is there already.

        What a crash during an earlier `create` left is nothing: a folder without a manifest and without foreign files.
        """
        if self.path.exists():
            foreign = not self.path.is_dir() or {p.name for p in self.path.iterdir()} - {DATA, LOCK, TEMPORARY}
            if foreign:
                raise IndexExists(f"{self.path} exists already; choose another path or remove it first")
        self.file_system.make_folder(self.path / DATA)
        self.file_system.sync_folder(self.path.absolute().parent)

    def read(self) -> Manifest:
        """The current generation. Raises `IndexNotFound`, `CorruptIndexError`, `IndexTooNewError`."""
        path = self.path / MANIFEST
        try:
            with _open_plain(path) as file:
                return Manifest.from_bytes(file.read(LARGEST_MANIFEST + 1))
        except FileNotFoundError:
            raise IndexNotFound(f"there is no index at {self.path}; make one with Index.create") from None

    def array(self, entry: FileEntry, array_type: ArrayType, *, verify: bool) -> NDArray[Any]:
        """Map one array, read-only. Its header and size are always checked, its SHA-256 if `verify`."""
        dtype, shape = array_type
        header = npy_header(array_type)
        with self.opened(entry) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if verify:
            _check_hash(entry, memoryview(mapped))
        if mapped[: len(header)] != header:
            raise CorruptIndexError(f"{DATA}/{entry.name}: expected the header of {dtype} {shape}; restore the index")
        return np.frombuffer(mapped, dtype, offset=len(header)).reshape(shape)

    def document_path(self, entry: FileEntry, *, verify: bool) -> Path:
        """The path of a document database whose size, and SHA-256 if `verify`, are as committed."""
        with self.opened(entry) as file:
            if verify:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
                    _check_hash(entry, view)
        return self.path / DATA / entry.name

    @contextmanager
    def writing(self, *, new: bool = False) -> Iterator[Writer]:
        """Hold the writer lock for one operation. Raises `IndexLocked` at once if another writer has it.

        The kernel owns the lock, so it ends with the process and no stale one can remain.
        """
        lock = FileLock(self.path / LOCK, timeout=0, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            raise IndexLocked(f"{self.path} is being written by another process or thread; try again later") from None
        try:
            writer = Writer(self, None if new else self.read())
            self._remove_orphans(writer.manifest)
            yield writer
        finally:
            lock.release()

    def collect(self, keep: set[str]) -> None:
        """Remove data files that no generation in reach names. One that is still open on Windows stays for later."""
        for path in sorted((self.path / DATA).iterdir()):
            if path.name not in keep:
                try:
                    self.file_system.remove(path)
                except PermissionError:
                    log.info("%s is in use and stays until a later write", path)

    def _remove_orphans(self, manifest: Manifest | None) -> None:
        """Files of a generation that never came to be, left by a writer that died."""
        generation = manifest.generation if manifest else 0
        for path in sorted((self.path / DATA).iterdir()):
            if path.name[:8].isdigit() and int(path.name[:8]) > generation:
                self.file_system.remove(path)

    @contextmanager
    def opened(self, entry: FileEntry) -> Iterator[BinaryIO]:
        """A file of the index, open for reading, of the size that was committed."""
        try:
            with _open_plain(self.path / DATA / entry.name) as file:
                size = os.fstat(file.fileno()).st_size
                if size != entry.bytes:
                    raise CorruptIndexError(
                        f"{DATA}/{entry.name}: expected {entry.bytes} bytes, found {size}; restore it from a copy"
                    )
                yield file
        except FileNotFoundError:
            raise CorruptIndexError(f"{DATA}/{entry.name} is missing; restore the index from a copy") from None


def _check_hash(entry: FileEntry, data: memoryview) -> None:
    """Raise `CorruptIndexError` unless the bytes are those that were committed."""
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise CorruptIndexError(
            f"{DATA}/{entry.name}: expected SHA-256 {entry.sha256}, found {found}; "
            "the index is damaged: restore it from a copy"
        )


def _open_plain(path: Path) -> BinaryIO:
    """Open a file for reading if it is a plain one: no link is followed, no pipe waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptIndexError(f"{path} cannot be opened as a plain file: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptIndexError(f"{path} is not a plain file")
    return os.fdopen(descriptor, "rb")
