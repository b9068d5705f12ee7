"""The only writer of index files: one folder, immutable files, one manifest published by rename.

A commit takes these steps, in this order. `format` gives the reason.

    1. Write and sync each data file.
    2. Write and sync the generation's own copy of the manifest.
    3. Sync data/.
    4. Write and sync the manifest under a temporary name.
    5. Rename it over manifest.json.
    6. Sync the folder of the index.
    7. Remove the files that no generation needs any more: not the new one, not the one before it, not a pinned one.

Every change of the disk goes through a `FileSystem`, so that a test can crash or fail any of them.

A failed sync is never repeated. The kernel may have dropped the data, and would report success the second time. That
generation is abandoned, and the next writer removes its files.

There is no guarantee on network file systems, or on hardware that acknowledges a sync without doing it.
"""

import hashlib
import logging
import mmap
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
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

__all__ = ["LOCK", "MANIFEST", "SHARDS", "NewArrays", "Store", "Writer"]

log = logging.getLogger("refcolbert")

MANIFEST, TEMPORARY, DATA, LOCK = "manifest.json", "manifest.json.tmp", "data", "writer.lock"
SHARDS = "shards.json"  # see `shards`
# In data/; the generation comes first. A file that is being received has one more ending.
DATA_FILE = re.compile(r"([0-9]{8,})-[0-9a-z-]+\.(npy|sqlite|json)(\.part)?")
PIN_ATTEMPTS = 16  # an attempt fails only if others commit twice between two lines of `Store.pin`
ABANDONED = "nothing was published and the index is as it was"


class NewArrays:
    """Array files that are being written together, one per role."""

    def __init__(self, files: Mapping[str, NewFile], types: Mapping[str, ArrayType]) -> None:
        self._files, self._types = files, types
        for role, file in files.items():
            file.append(npy_header(types[role]))

    def append(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the next rows of each role."""
        for role, rows in arrays.items():
            self._files[role].append(_content(rows, self._types[role][0]))

    def finish(self) -> dict[str, FileEntry]:
        """Make the files durable and return them by role."""
        return {role: file.finish() for role, file in self._files.items()}


class Writer:
    """One write operation in progress. It stages files, then commits a manifest that names them."""

    def __init__(self, store: "Store", manifest: Manifest | None) -> None:
        self._store, self._files = store, store.file_system
        self.manifest = manifest  # of the generation before this one
        self.generation = manifest.generation + 1 if manifest else 1
        self._count = 0

    @contextmanager
    def arrays(self, types: Mapping[str, ArrayType]) -> Iterator[NewArrays]:
        """Stage one .npy file per role, to which the caller appends rows. So only some rows are in memory at a time."""
        with self._store.as_write_errors(ABANDONED), ExitStack() as stack:
            files = {role: self._open(f"{role.replace('_', '-')}.npy", stack) for role in types}
            yield NewArrays(files, types)

    def array(self, role: str, array: NDArray[Any]) -> FileEntry:
        """Stage one array as a .npy file."""
        with self.arrays({role: (array.dtype.newbyteorder("<"), array.shape)}) as new:
            new.append({role: array})
            return new.finish()[role]

    def documents(self, documents: Iterable[Document]) -> FileEntry:
        """Stage a document database. `documents` are consumed one at a time."""
        with self._store.as_write_errors(ABANDONED), ExitStack() as stack:
            file = self._open("documents.sqlite", stack)
            file.fill(partial(pack, documents))
            return file.finish()

    def copy(self, entry: FileEntry, source: "Store") -> None:
        """Stage a file of another index under the same name, after checking its SHA-256."""
        with (
            source.opened(entry) as file,
            _map(file, entry) as mapped,
            memoryview(mapped) as view,
        ):
            _check_hash(entry, view)
            self._store.write(self._store.path / DATA / entry.name, view)

    def receive(self, entry: FileEntry, fetch: Callable[[Path], None]) -> None:
        """Stage a file of another index under the same name. `fetch` fills an empty file by its path.

        The file gets its name when it is complete and its SHA-256 is checked. One that an interrupted call received is
        kept. Raises `CorruptIndexError` for other bytes. Several threads may receive files at a time.
        """
        path = self._store.path / DATA / entry.name
        if self.manifest and entry in self.manifest.files():
            return
        if path.exists():
            with suppress(CorruptIndexError):
                self._store.file_path(entry, verify=True)
                return
        with self._store.as_write_errors(ABANDONED), ExitStack() as stack:
            part = path.with_name(f"{path.name}.part")
            if part.exists():
                self._files.remove(part)
            file = NewFile(self._files, part, stack)
            file.fill(fetch)
            found = file.finish()
        if (found.bytes, found.sha256) != (entry.bytes, entry.sha256):
            raise CorruptIndexError(
                f"{DATA}/{entry.name}: expected {entry.bytes} bytes with SHA-256 {entry.sha256}, "
                f"found {found.bytes} with {found.sha256}; the published index is damaged: remove and publish it again"
            )
        with self._store.as_write_errors(ABANDONED):
            self._files.replace(part, path)

    def commit(self, manifest: Manifest) -> None:
        """Publish `manifest`. When this returns, every reader finds the new generation.

        Raises `InvalidInput` for a manifest that no reader accepts, `IndexWriteError` when a write fails.
        """
        store, files = self._store, self._files
        content = manifest.to_bytes()
        try:
            Manifest.from_bytes(content)
        except CorruptIndexError as error:
            raise InvalidInput(f"{store.path}: no reader would accept this manifest: {error}") from error
        store.write(store.path / DATA / manifest_copy_name(manifest.generation), content)
        with store.as_write_errors(ABANDONED):
            files.sync_folder(store.path / DATA)
        store.publish(MANIFEST, content)
        store.collect([m for m in (manifest, self.manifest) if m])

    def _open(self, suffix: str, stack: ExitStack) -> NewFile:
        name = f"{self.generation:08d}-{self._count:03d}-{suffix}"
        self._count += 1
        return NewFile(self._files, self._store.path / DATA / name, stack)


class Store:
    """An index folder."""

    def __init__(self, path: Path, file_system: FileSystem | None = None) -> None:
        # Absolute, because a process may change its current folder while it has an index open.
        self.path = path.absolute()
        self.file_system = file_system or FileSystem()

    @property
    def source(self) -> str | Path:
        """The path or URL at which another process opens the index."""
        return self.path

    def create(self) -> None:
        """Make an empty folder for an index. Raises `IndexExists` if something is there already.

        A folder that a crashed `create` left counts as empty: it has no manifest and no foreign files.
        """
        if self.path.exists() or self.path.is_symlink():
            foreign = not self.path.is_dir() or {p.name for p in self.path.iterdir()} - {DATA, LOCK, TEMPORARY}
            if foreign:
                raise self._exists()
        folder = (self.path / DATA).absolute()
        new = [f for f in (folder, *folder.parents) if f == folder or f == self.path.absolute() or not f.exists()]
        with self.as_write_errors("there is no index yet"):
            for parent in reversed(new):
                self.file_system.make_folder(parent)
                self.file_system.sync_folder(parent.parent)

    def move(self, target: Path) -> "Store":
        """Rename the whole folder, durably, and return the store at its new path.

        That publishes in one step an index that was built in another folder.
        """
        with self.as_write_errors(f"{target} does not exist, or is the complete index"):
            self.file_system.replace(self.path, target)
            self.file_system.sync_folder(target.absolute().parent)
        return Store(target, self.file_system)

    def discard(self) -> None:
        """Remove the whole folder of an index that was never published."""
        self.file_system.remove_folder(self.path)

    def write(self, path: Path, content: Bytes) -> None:
        """Write a new file and make it durable."""
        with self.as_write_errors(ABANDONED), ExitStack() as stack:
            file = NewFile(self.file_system, path, stack)
            file.append(content)
            file.finish()

    def publish(self, name: str, content: Bytes) -> None:
        """Write a file of the folder under a temporary name, then rename it to `name`, durably."""
        temporary = self.path / f"{name}.tmp"
        if temporary.exists() or temporary.is_symlink():
            # Of a writer that crashed.
            with self.as_write_errors(ABANDONED):
                self.file_system.remove(temporary)
        self.write(temporary, content)
        with self.as_write_errors("the index is unchanged, or has this change in full; call refresh() to see which"):
            self.file_system.replace(temporary, self.path / name)
            self.file_system.sync_folder(self.path)

    def read(self) -> Manifest:
        """Return the manifest of the current generation.

        Raises `IndexNotFound`, `CorruptIndexError`, `IndexTooNewError`.
        """
        return Manifest.from_bytes(self._published())

    def pin(self) -> tuple[Manifest, Pin]:
        """Return the manifest of the current generation, and a pin: no writer removes its files while the pin exists.

        A generation is pinned by a lock on its own copy of its manifest. Between reading manifest.json and pinning, a
        writer may have committed twice and removed that copy. Then there is a newer generation, and that one is pinned.
        """
        for _ in range(PIN_ATTEMPTS):
            content = self._published()
            manifest = Manifest.from_bytes(content)
            name = manifest_copy_name(manifest.generation)
            pin = Pin.take(self.path / DATA / name)
            if pin is not None:
                if pin.content != content:
                    raise CorruptIndexError(
                        f"{DATA}/{name}: expected the bytes of {MANIFEST}, found others; restore the index from a copy"
                    )
                return manifest, pin
        raise CorruptIndexError(f"{DATA}/{name}: expected the copy of {MANIFEST}, found it missing; restore the index")

    def array(self, entry: FileEntry, array_type: ArrayType, *, verify: bool) -> NDArray[Any]:
        """Map one array, read-only. Header and size are always checked, the SHA-256 only if `verify`."""
        dtype, shape = array_type
        header = npy_header(array_type)
        with self.opened(entry) as file:
            mapped = _map(file, entry)
        if verify:
            _check_hash(entry, memoryview(mapped))
        if mapped[: len(header)] != header:
            raise CorruptIndexError(
                f"{DATA}/{entry.name}: expected the header of {dtype} {shape}, found another; restore the index"
            )
        return np.frombuffer(mapped, dtype, offset=len(header)).reshape(shape)

    def file_path(self, entry: FileEntry, *, verify: bool) -> Path:
        """Return the path of a data file, after checking its size and, if `verify`, its SHA-256."""
        with self.opened(entry) as file:
            if verify:
                with _map(file, entry) as mapped, memoryview(mapped) as view:
                    _check_hash(entry, view)
        return self.path / DATA / entry.name

    @contextmanager
    def writing(self, *, new: bool = False) -> Iterator[Writer]:
        """Hold the writer lock for one operation, and yield its `Writer`.

        `new` is for a folder that has no manifest yet. Raises `IndexLocked` without waiting if another writer has the
        lock, `IndexNotFound`, `IndexExists`, `IndexTooNewError` when writing needs a feature that is unknown here.
        """
        if not self.path.is_dir():
            raise self._not_found()
        with writer_lock(self.path / LOCK, self.file_system.note):
            if new and (self.path / MANIFEST).exists():
                raise self._exists()
            writer = Writer(self, None if new else self.read())
            if writer.manifest and writer.manifest.writer_features:
                names = ", ".join(writer.manifest.writer_features)
                raise IndexTooNewError(
                    f"{self.path}: expected no writer features, found {names}; upgrade refcolbert to write to it"
                )
            with self.as_write_errors("nothing was changed"):
                self._remove_orphans(writer.manifest)
            yield writer

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder unless it is there, and hold its writer lock. A build of several indexes in it is one writer.

        Raises `IndexLocked` without waiting if another writer has the lock.
        """
        with self.as_write_errors("there is no index yet"):
            for folder in reversed([f for f in (self.path, *self.path.parents) if not f.exists()]):
                self.file_system.make_folder(folder)
        with writer_lock(self.path / LOCK, self.file_system.note):
            yield

    @contextmanager
    def receiving(self, manifest: Manifest) -> Iterator[Writer]:
        """Hold the writer lock to make this folder a copy of a generation that is published elsewhere.

        The writer receives the files of `manifest`, and commits it. If this folder holds an index that `manifest` does
        not follow, it is removed first. Raises `IndexLocked` without waiting if another writer has the lock.
        """
        with writer_lock(self.path / LOCK, self.file_system.note):
            try:
                old = Manifest.from_bytes(self._published())
            except (IndexNotFound, CorruptIndexError):
                old = None
            with self.as_write_errors("nothing was changed"):
                if not (old and (old == manifest or manifest.follows(old))):
                    old = None
                    if (self.path / MANIFEST).exists():
                        self.file_system.remove(self.path / MANIFEST)
                        self.file_system.sync_folder(self.path)
                self._remove_orphans(old, keep={file.name for file in manifest.files()})
            yield Writer(self, old)

    def collect(self, reachable: Iterable[Manifest]) -> None:
        """Remove the files of generations that are neither `reachable` nor pinned by a reader.

        The new generation is durable by now. So a file that cannot be removed is left for a later write.
        """
        keep = {name for manifest in reachable for name in _names(manifest)}
        paths = [path for path in sorted((self.path / DATA).iterdir()) if DATA_FILE.fullmatch(path.name)]
        try:
            for path in paths:
                if path.suffix == ".json" and path.name not in keep:
                    pinned = remove_unpinned(path, self.file_system.remove)
                    keep |= _names(Manifest.from_bytes(pinned)) if pinned else {path.name}
            for path in paths:
                if path.name not in keep:
                    self.file_system.remove(path)
        except (OSError, CorruptIndexError) as error:
            log.info("%s: unused files stay until a later write (%s)", self.path, error)

    @contextmanager
    def opened(self, entry: FileEntry) -> Iterator[BinaryIO]:
        """Open a file of the index for reading, after checking its size. Raises `CorruptIndexError`."""
        try:
            with open_regular_file(self.path / DATA / entry.name) as file:
                size = os.fstat(file.fileno()).st_size
                if size != entry.bytes:
                    raise CorruptIndexError(
                        f"{DATA}/{entry.name}: expected {entry.bytes} bytes, found {size}; restore it from a copy"
                    )
                yield file
        except FileNotFoundError:
            raise CorruptIndexError(
                f"{DATA}/{entry.name}: expected {entry.bytes} bytes, found it missing; restore the index from a copy"
            ) from None

    @contextmanager
    def as_write_errors(self, consequence: str) -> Iterator[None]:
        """Turn an `OSError` into `IndexWriteError`, whose message ends with `consequence`."""
        try:
            yield
        except OSError as error:
            raise IndexWriteError(
                f"{error.filename or self.path} could not be written ({error.strerror}); {consequence}"
            ) from error

    def _published(self) -> bytes:
        """Return the bytes of manifest.json. Raises `CorruptIndexError` if data/ is not a folder, or a link to one."""
        try:
            with open_regular_file(self.path / MANIFEST) as file:
                content = file.read(LARGEST_MANIFEST + 1)
            if is_link(self.path / DATA) or not (self.path / DATA).is_dir():
                raise CorruptIndexError(
                    f"{self.path / DATA}: expected a folder, found something else; restore the index from a copy"
                )
        except FileNotFoundError:
            raise self._not_found() from None
        return content

    def _exists(self) -> IndexExists:
        return IndexExists(f"{self.path} exists already; choose another path or remove it first")

    def _not_found(self) -> IndexNotFound:
        if (self.path / SHARDS).is_file():
            return IndexNotFound(
                f"expected one index at {self.path}, found a sharded one; use refcolbert.open_index, or open one shard"
            )
        return IndexNotFound(f"there is no index at {self.path}; make one with Index.create")

    def _remove_orphans(self, manifest: Manifest | None, keep: Collection[str] = ()) -> None:
        """Remove files above the current generation: a writer that crashed before its commit left them.

        Those with a name in `keep` stay.
        """
        generation = manifest.generation if manifest else 0
        for path in sorted((self.path / DATA).iterdir()):
            match = DATA_FILE.fullmatch(path.name)
            if match and int(match[1]) > generation and path.name not in keep:
                self.file_system.remove(path)
        if (self.path / TEMPORARY).exists() or (self.path / TEMPORARY).is_symlink():
            self.file_system.remove(self.path / TEMPORARY)


def _check_hash(entry: FileEntry, data: memoryview) -> None:
    """Raise `CorruptIndexError` unless the bytes are those that were committed."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise CorruptIndexError(
            f"{DATA}/{entry.name}: expected SHA-256 {entry.sha256}, found {digest}; "
            "the index is damaged: restore it from a copy"
        )


def _map(file: BinaryIO, entry: FileEntry) -> mmap.mmap:
    """Map a file as read-only memory."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CorruptIndexError(
            f"{DATA}/{entry.name}: expected to map {entry.bytes} bytes into memory, found {error}; "
            "restore the index, or open it on a machine with more address space"
        ) from error


def _names(manifest: Manifest) -> set[str]:
    """Return the names in data/ of all files of a generation, its copy of the manifest included."""
    return {manifest_copy_name(manifest.generation), *(file.name for file in manifest.files())}


def _content(array: NDArray[Any], dtype: np.dtype[Any]) -> memoryview:
    """Return the bytes of an array, C-ordered."""
    array = np.ascontiguousarray(array, dtype=dtype)
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
