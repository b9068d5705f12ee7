"""The few operations that change a disk, and a file that is being written.

Every change that the store makes goes through a `FileSystem`, so that a test can record, crash or fail any of them.
Nothing else in the package changes an index folder, and only the store uses this module.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from .format import FileEntry
from .locks import create_new, open_regular_file, overwrite_note

__all__ = ["FileSystem", "NewFile"]

READ_BYTES = 1 << 20  # at a time
RENAME_ATTEMPTS, RENAME_WAIT_SECONDS = 50, 0.02  # on Windows
Bytes = bytes | memoryview


class FileSystem:
    """The operations that change a disk. Tests replace it to crash, fail or record any of them."""

    def create(self, path: Path) -> BinaryIO:
        """Open a new file for writing. Raises `FileExistsError`."""
        return create_new(path)

    def append(self, file: BinaryIO, data: Bytes) -> None:
        """Write all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]

    def fill(self, path: Path, write: Callable[[Path], None]) -> None:
        """Let `write` fill a new, empty file by its path, as SQLite does."""
        write(path)

    def sync(self, file: BinaryIO) -> None:
        """Make a file's content durable."""
        os.fsync(file.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Rename `source` over `target`, in one step.

        Windows refuses while another process has the target open. Readers have it open for a moment, so try again.
        """
        for attempt in range(1, RENAME_ATTEMPTS + 1):
            try:
                os.replace(source, target)  # noqa: PTH105 - a commit rests on this one call
            except PermissionError:
                if sys.platform != "win32" or attempt == RENAME_ATTEMPTS:
                    raise
                time.sleep(RENAME_WAIT_SECONDS)
            else:
                return

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable. Windows has no such call and orders renames itself."""
        if sys.platform == "win32":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, path: Path) -> None:
        """Create a folder, unless it exists."""
        path.mkdir(exist_ok=True)

    def remove(self, path: Path) -> None:
        """Delete a file."""
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """Delete a folder and everything in it, as far as possible."""
        shutil.rmtree(path, ignore_errors=True)

    def note(self, path: Path, text: bytes) -> None:
        """Overwrite the note in a lock file about its holder. It is not made durable; nothing depends on it."""
        overwrite_note(path, text)


class NewFile:
    """A file that is being written. Its size and SHA-256 are computed on the way."""

    def __init__(self, files: FileSystem, path: Path, stack: ExitStack) -> None:
        self._files, self._path = files, path
        self._file = stack.enter_context(files.create(path))
        self._size, self._digest = 0, hashlib.sha256()

    def append(self, data: Bytes) -> None:
        """Write all of `data`."""
        self._files.append(self._file, data)
        self._count(data)

    def fill(self, write: Callable[[Path], None]) -> None:
        """Let `write` make the content, then read it once for its size and SHA-256."""
        self._files.fill(self._path, write)
        with open_regular_file(self._path) as file:
            while block := file.read(READ_BYTES):
                self._count(block)

    def finish(self) -> FileEntry:
        """Make the file durable and return its entry."""
        self._files.sync(self._file)
        return FileEntry(self._path.name, self._size, self._digest.hexdigest())

    def _count(self, data: Bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
