"""The only writer of index files: one folder, immutable files, one manifest published by rename.

Commit order (`format` says why): data files written and synced, the generation's own copy of the manifest likewise,
data/ synced, temporary manifest written and synced, renamed over manifest.json, folder synced. Only then are files
removed that neither the new generation nor the one before it names, nor any that a reader has pinned. Every change of
the disk goes through a `FileSystem`, so that a test can crash or fail any of them.

A failed sync is never tried again: the kernel may have dropped the data and report success the second time. That
generation is abandoned, and the next writer removes what is left of it.

Network file systems and hardware that acknowledge a sync without doing it get no promise.
"""

import hashlib
import logging
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..documents import Document
from ..errors import CorruptIndexError, IndexExists, IndexNotFound, IndexTooNewError, IndexWriteError, InvalidInput
from .document_file import pack
from .durable import Bytes, FileSystem, NewFile
from .format import LARGEST_MANIFEST, ArrayType, FileEntry, Manifest, manifest_copy_name, npy_header
from .locks import Pin, is_link, open_regular_file, remove_unpinned, writer_lock

__all__ = ["Store", "Writer"]

log = logging.getLogger("refcolbert")

MANIFEST, TEMPORARY, DATA, LOCK = "manifest.json", "manifest.json.tmp", "data", "writer.lock"
OURS = re.compile(r"([0-9]{8,})-[0-9a-z-]+\.(npy|sqlite|json)")  # a file in data/: its generation comes first
ATTEMPTS = 16  # to pin the newest generation; each failure takes two commits between two lines of `Store.pin`
ABANDONED = "nothing was published and the index is as it was"


class Writer:
    """One write operation in progress: stages files, then `commit`s a manifest that names them."""

    def __init__(self, store: "Store", manifest: Manifest | None) -> None:
        self._store, self._files = store, store.file_system
        self.manifest = manifest  # the generation this one starts from
        self.generation = manifest.generation + 1 if manifest else 1
        self._count = 0

    def array(self, role: str, array: NDArray[Any]) -> FileEntry:
        """Stage one array as a .npy file."""
        return self.stream(role, (array.dtype.newbyteorder("<"), array.shape), [array])

    def stream(self, role: str, array_type: ArrayType, chunks: Iterable[NDArray[Any]]) -> FileEntry:
        """Stage an array that comes in chunks of rows, of which only one is held at a time."""
        return self.streams({role: array_type}, ({role: chunk} for chunk in chunks))[role]

    def streams(
        self, types: Mapping[str, ArrayType], chunks: Iterable[Mapping[str, NDArray[Any]]]
    ) -> dict[str, FileEntry]:
        """Stage several arrays that come in chunks together: role -> file."""
        with self._store.as_write_errors(ABANDONED), ExitStack() as stack:
            files = {role: self._open(f"{role.replace('_', '-')}.npy", stack) for role in types}
            for role, file in files.items():
                file.append(npy_header(types[role]))
            for chunk in chunks:
                for role, rows in chunk.items():
                    files[role].append(_content(rows, types[role][0]))
            return {role: file.finish() for role, file in files.items()}

    def documents(self, documents: Iterable[Document]) -> FileEntry:
        """Stage a document database, of which little is in memory at a time."""
        with self._store.as_write_errors(ABANDONED), ExitStack() as stack:
            file = self._open("documents.sqlite", stack)
            file.fill(partial(pack, documents))
            return file.finish()

    def copy(self, entry: FileEntry, source: "Store") -> None:
        """Stage a file of another index under the same name, checked against its SHA-256 on the way."""
        with (
            source.opened(entry) as file,
            _map(file, entry) as mapped,
            memoryview(mapped) as view,
        ):
            _check_hash(entry, view)
            self._write(self._store.path / DATA / entry.name, view)

    def commit(self, manifest: Manifest) -> None:
        """Publish `manifest`. When this returns, the new generation is the one that any reader finds."""
        store, files = self._store, self._files
        content = manifest.to_bytes()
        try:
            Manifest.from_bytes(content)
        except CorruptIndexError as error:
            raise InvalidInput(f"{store.path}: no reader would take this manifest: {error}") from error
        self._write(store.path / DATA / manifest_copy_name(manifest.generation), content)
        with store.as_write_errors(ABANDONED):
            files.sync_folder(store.path / DATA)
        self._write(store.path / TEMPORARY, content)
        with store.as_write_errors("the index is as it was, or complete with this change: refresh() tells"):
            files.replace(store.path / TEMPORARY, store.path / MANIFEST)
            files.sync_folder(store.path)
        store.collect([m for m in (manifest, self.manifest) if m])

    def _open(self, suffix: str, stack: ExitStack) -> NewFile:
        name = f"{self.generation:08d}-{self._count:03d}-{suffix}"
        self._count += 1
        return NewFile(self._files, self._store.path / DATA / name, stack)

    def _write(self, path: Path, content: Bytes) -> None:
        """Make a new file, durably."""
        with self._store.as_write_errors(ABANDONED), ExitStack() as stack:
            file = NewFile(self._files, path, stack)
            file.append(content)
            file.finish()


class Store:
    """An index folder."""

    def __init__(self, path: Path, file_system: FileSystem | None = None) -> None:
        self.path = path.absolute()  # a process may change its folder while it has an index open
        self.file_system = file_system or FileSystem()

    def create(self) -> None:
        """Make an empty folder for an index. Raises `IndexExists` if something is there already.

        What a crash during an earlier `create` left is nothing: a folder without a manifest and without foreign files.
        """
        if self.path.exists() or self.path.is_symlink():
            foreign = not self.path.is_dir() or {p.name for p in self.path.iterdir()} - {DATA, LOCK, TEMPORARY}
            if foreign:
                raise IndexExists(f"{self.path} exists already; choose another path or remove it first")
        folder = (self.path / DATA).absolute()
        new = [f for f in (folder, *folder.parents) if f == folder or f == self.path.absolute() or not f.exists()]
        with self.as_write_errors("there is no index yet"):
            for made in reversed(new):
                self.file_system.make_folder(made)
                self.file_system.sync_folder(made.parent)

    def move(self, target: Path) -> "Store":
        """Rename the whole folder, durably: an index that was made beside its place is published at once."""
        with self.as_write_errors(f"nothing is at {target}, or the whole index"):
            self.file_system.replace(self.path, target)
            self.file_system.sync_folder(target.absolute().parent)
        return Store(target, self.file_system)

    def discard(self) -> None:
        """Remove the whole folder, of which nothing was published."""
        self.file_system.remove_folder(self.path)

    def read(self) -> Manifest:
        """The current generation. Raises `IndexNotFound`, `CorruptIndexError`, `IndexTooNewError`."""
        return Manifest.from_bytes(self._published())

    def pin(self) -> tuple[Manifest, Pin]:
        """The current generation, none of whose files any writer removes while the pin lives.

        A generation is pinned by a lock on its own copy of its manifest. Between reading manifest.json and pinning, a
        writer may have committed twice and removed that copy; then there is a newer generation to pin.
        """
        for _ in range(ATTEMPTS):
            content = self._published()
            manifest = Manifest.from_bytes(content)
            name = manifest_copy_name(manifest.generation)
            pin = Pin.take(self.path / DATA / name)
            if pin is not None:
                if pin.content != content:
                    raise CorruptIndexError(f"{DATA}/{name}: expected the bytes of {MANIFEST}; restore it from a copy")
                return manifest, pin
        raise CorruptIndexError(f"{DATA}/{name}, which pins the generation, is missing; restore the index from a copy")

    def array(self, entry: FileEntry, array_type: ArrayType, *, verify: bool) -> NDArray[Any]:
        """Map one array, read-only. Its header and size are always checked, its SHA-256 if `verify`."""
        dtype, shape = array_type
        header = npy_header(array_type)
        with self.opened(entry) as file:
            mapped = _map(file, entry)
        if verify:
            _check_hash(entry, memoryview(mapped))
        if mapped[: len(header)] != header:
            raise CorruptIndexError(f"{DATA}/{entry.name}: expected the header of {dtype} {shape}; restore the index")
        return np.frombuffer(mapped, dtype, offset=len(header)).reshape(shape)

    def document_path(self, entry: FileEntry, *, verify: bool) -> Path:
        """The path of a document database whose size, and SHA-256 if `verify`, are as committed."""
        with self.opened(entry) as file:
            if verify:
                with _map(file, entry) as mapped, memoryview(mapped) as view:
                    _check_hash(entry, view)
        return self.path / DATA / entry.name

    @contextmanager
    def writing(self, *, new: bool = False) -> Iterator[Writer]:
        """Hold the writer lock for one operation. Raises `IndexLocked` at once if another writer has it."""
        if not self.path.is_dir():
            raise IndexNotFound(f"there is no index at {self.path}; make one with Index.create")
        with writer_lock(self.path / LOCK, self.file_system.note):
            if new and (self.path / MANIFEST).exists():
                raise IndexExists(f"{self.path} exists already; choose another path or remove it first")
            writer = Writer(self, None if new else self.read())
            if writer.manifest and writer.manifest.writer_features:
                names = ", ".join(writer.manifest.writer_features)
                raise IndexTooNewError(f"writing to {self.path} needs {names}, unknown here: upgrade; it can be read")
            with self.as_write_errors("nothing was changed"):
                self._remove_orphans(writer.manifest)
            yield writer

    def collect(self, reachable: Iterable[Manifest]) -> None:
        """Remove the files of generations that neither stand in `reachable` nor are pinned by a reader.

        The new generation is durable by now, so whatever cannot be removed only stays for a later write.
        """
        keep = {name for manifest in reachable for name in _names(manifest)}
        found = [path for path in sorted((self.path / DATA).iterdir()) if OURS.fullmatch(path.name)]
        try:
            for path in found:
                if path.suffix == ".json" and path.name not in keep:
                    pinned = remove_unpinned(path, self.file_system.remove)
                    keep |= _names(Manifest.from_bytes(pinned)) if pinned else {path.name}
            for path in found:
                if path.name not in keep:
                    self.file_system.remove(path)
        except (OSError, CorruptIndexError) as error:
            log.info("%s: unused files stay until a later write (%s)", self.path, error)

    @contextmanager
    def opened(self, entry: FileEntry) -> Iterator[BinaryIO]:
        """A file of the index, open for reading, of the size that was committed."""
        try:
            with open_regular_file(self.path / DATA / entry.name) as file:
                size = os.fstat(file.fileno()).st_size
                if size != entry.bytes:
                    raise CorruptIndexError(
                        f"{DATA}/{entry.name}: expected {entry.bytes} bytes, found {size}; restore it from a copy"
                    )
                yield file
        except FileNotFoundError:
            raise CorruptIndexError(f"{DATA}/{entry.name} is missing; restore the index from a copy") from None

    @contextmanager
    def as_write_errors(self, consequence: str) -> Iterator[None]:
        """What the operating system refuses becomes `IndexWriteError`."""
        try:
            yield
        except OSError as error:
            raise IndexWriteError(
                f"{error.filename or self.path} could not be written ({error.strerror}); {consequence}"
            ) from error

    def _published(self) -> bytes:
        """The bytes of manifest.json; data/ is a folder of its own, not a link to another."""
        try:
            with open_regular_file(self.path / MANIFEST) as file:
                content = file.read(LARGEST_MANIFEST + 1)
            if is_link(self.path / DATA) or not (self.path / DATA).is_dir():
                raise CorruptIndexError(f"{self.path / DATA} is not a folder; restore the index from a copy")
        except FileNotFoundError:
            raise IndexNotFound(f"there is no index at {self.path}; make one with Index.create") from None
        return content

    def _remove_orphans(self, manifest: Manifest | None) -> None:
        """Files of a generation that never came to be, left by a writer that died."""
        generation = manifest.generation if manifest else 0
        for path in sorted((self.path / DATA).iterdir()):
            ours = OURS.fullmatch(path.name)
            if ours and int(ours[1]) > generation:
                self.file_system.remove(path)
        if (self.path / TEMPORARY).exists() or (self.path / TEMPORARY).is_symlink():
            self.file_system.remove(self.path / TEMPORARY)


def _check_hash(entry: FileEntry, data: memoryview) -> None:
    """Raise `CorruptIndexError` unless the bytes are those that were committed."""
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise CorruptIndexError(
            f"{DATA}/{entry.name}: expected SHA-256 {entry.sha256}, found {found}; "
            "the index is damaged: restore it from a copy"
        )


def _map(file: BinaryIO, entry: FileEntry) -> mmap.mmap:
    """A file as read-only memory."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CorruptIndexError(
            f"{DATA}/{entry.name}: {entry.bytes} bytes cannot be mapped into memory ({error}); "
            "restore the index, or open it on a machine with more address space"
        ) from error


def _names(manifest: Manifest) -> set[str]:
    return {manifest_copy_name(manifest.generation), *(file.name for file in manifest.files())}


def _content(array: NDArray[Any], dtype: np.dtype[Any]) -> memoryview:
    """The bytes of an array, C-ordered."""
    array = np.ascontiguousarray(array, dtype=dtype)
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
