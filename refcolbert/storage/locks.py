"""Opening and locking files: the few calls in which operating systems differ.

Every lock is a kernel lock. It ends with the process that holds it, so a crash leaves no stale lock. POSIX has `flock`,
which belongs to the open file, so a forked child shares the lock of its parent. Windows does not delete a file while a
process has it open; there, the open file itself is the shared lock.
"""

import errno
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from ..errors import CorruptIndexError, IndexFileError, IndexLocked

__all__ = ["Pin", "create_new", "is_link", "open_regular_file", "overwrite_note", "remove_unpinned", "writer_lock"]

BINARY = getattr(os, "O_BINARY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for its other end
REPARSE_POINT = 0x400  # FILE_ATTRIBUTE_REPARSE_POINT of Windows: symbolic links and junctions
NOTE_OFFSET = 1  # the note of the holder comes after the first byte, which Windows locks against readers too
MAX_NOTE_BYTES = 1024

if sys.platform == "win32":

    def _lock(descriptor: int, *, shared: bool) -> bool:
        """Return True: the open file is the lock, because Windows does not delete it."""
        return True

else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool) -> bool:
        """Lock an open file without waiting. Returns False if another process has the lock."""
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def open_regular_file(path: Path) -> BinaryIO:
    """Open a regular file for reading, without following a link or waiting for a pipe.

    Raises `FileNotFoundError`, and `CorruptIndexError` for anything but a regular file. A hard link looks like the file
    it links to, so it is read; nothing is ever written through one.
    """
    try:
        if sys.platform == "win32" and is_link(path):
            raise OSError(errno.ELOOP, "it is a link", str(path))
        descriptor = os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT | BINARY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptIndexError(
            f"{path}: expected a plain file, found one that cannot be opened: {error.strerror}; restore the index"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptIndexError(f"{path}: expected a plain file, found something else; restore the index from a copy")
    return os.fdopen(descriptor, "rb")


def is_link(path: Path) -> bool:
    """Return True if a path is a symbolic link, or on Windows a junction."""
    status = path.lstat()
    return stat.S_ISLNK(status.st_mode) or bool(getattr(status, "st_file_attributes", 0) & REPARSE_POINT)


def create_new(path: Path) -> BinaryIO:
    """Create a file and open it for writing. Raises `FileExistsError` if anything is there, also for a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK | BINARY
    return os.fdopen(os.open(path, flags, 0o666), "wb", buffering=0)


class Pin:
    """A shared lock on one file, which `remove_unpinned` respects. It ends with the object, or with the process."""

    __slots__ = ("_file", "content")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.content = file.read()

    @classmethod
    def take(cls, path: Path) -> "Pin | None":
        """Pin the file at `path`. Returns None if it was removed, or is just being removed.

        Raises `IndexFileError` where the file system has no kernel locks.
        """
        try:
            file = open_regular_file(path)
        except FileNotFoundError:
            return None
        try:
            # A file without links was removed between opening and locking it.
            if _lock(file.fileno(), shared=True) and os.fstat(file.fileno()).st_nlink:
                return cls(file)
        except OSError as error:
            file.close()
            raise IndexFileError(
                f"{path} cannot be locked ({error.strerror}); an index needs a file system with kernel locks"
            ) from error
        file.close()
        return None

    def release(self) -> None:
        """End the lock of this object. The file is closed, not unlocked: a child forked meanwhile keeps its lock."""
        self._file.close()

    def __del__(self) -> None:
        self.release()


def remove_unpinned(path: Path, remove: Callable[[Path], None]) -> bytes | None:
    """Remove a file, unless it is pinned; then return its content.

    An exclusive lock keeps other processes from pinning the file while it is removed.
    """
    with open_regular_file(path) as file:
        if _lock(file.fileno(), shared=False):
            if sys.platform == "win32":
                # An open handle of this process, too, would keep the file from being deleted.
                file.close()
            try:
                remove(path)
            except PermissionError:
                return path.read_bytes()
            return None
        return file.read()


@contextmanager
def writer_lock(path: Path, write_note: Callable[[Path, bytes], None]) -> Iterator[None]:
    """Hold the lock file at `path`.

    Raises `IndexLocked` without waiting if another writer has it, naming that one if possible, and `IndexFileError`
    where the file cannot be locked. `write_note` writes who holds the lock; nothing depends on that.
    """
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise IndexLocked(f"{path.parent} is being written by {_holder(path)}; try again later") from None
    except OSError as error:
        raise IndexFileError(
            f"{path} cannot be locked ({error.strerror}); an index is written on a file system with kernel locks, "
            "in a folder where you may write"
        ) from error
    try:
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        with suppress(OSError):
            write_note(path, json.dumps(note).encode())
        yield
    finally:
        with suppress(OSError):
            write_note(path, b"")
        lock.release()


def overwrite_note(path: Path, note: bytes) -> None:
    """Replace the note in a lock file, unless the file is a link. Nothing depends on the note."""
    # Windows has no O_NOFOLLOW.
    if is_link(path):
        return
    descriptor = os.open(path, os.O_WRONLY | NO_LINK | BINARY)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            os.ftruncate(descriptor, NOTE_OFFSET)
            os.lseek(descriptor, NOTE_OFFSET, os.SEEK_SET)
            os.write(descriptor, note)
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    """Return who holds a lock file, as its note says."""
    try:
        with open_regular_file(path) as file:
            file.seek(NOTE_OFFSET)
            note = json.loads(file.read(MAX_NOTE_BYTES))
        return f"process {int(note['pid'])} on {str(note['host'])[:80]} since {str(note['since'])[:30]}"
    except (OSError, ValueError, KeyError, TypeError, CorruptIndexError):
        return "another process or thread"
