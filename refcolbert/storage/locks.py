"""Opening and locking files: the few calls in which operating systems differ.

Every lock is the kernel's: it ends with the process that holds it, and no stale one can remain. POSIX has `flock`,
which belongs to the open file, so a forked child shares its parent's. Windows keeps a file from being deleted while
anyone has it open, and that alone is the shared lock there.
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
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # for a pipe
REPARSE_POINT = 0x400  # FILE_ATTRIBUTE_REPARSE_POINT: symbolic links and junctions
NOTE_AT = 1  # Windows locks the first byte against readers too
LONGEST_NOTE = 1024

if sys.platform == "win32":

    def _lock(descriptor: int, *, shared: bool) -> bool:
        """Having the file open is the lock; deleting it is refused meanwhile."""
        return True

else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool) -> bool:
        """Lock an open file without waiting; False if another has it."""
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def open_regular_file(path: Path) -> BinaryIO:
    """Open a file for reading if it is a plain one: no link is followed, no pipe waited for.

    A hard link cannot be told from the file it links to and is read like it; nothing is ever written through one.
    """
    try:
        if sys.platform == "win32" and is_link(path):
            raise OSError(errno.ELOOP, "it is a link", str(path))
        descriptor = os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT | BINARY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptIndexError(f"{path} cannot be opened as a plain file: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptIndexError(f"{path} is not a plain file; restore the index from a copy")
    return os.fdopen(descriptor, "rb")


def is_link(path: Path) -> bool:
    """Whether a path leads elsewhere: a symbolic link, or what Windows has of that kind."""
    found = path.lstat()
    return stat.S_ISLNK(found.st_mode) or bool(getattr(found, "st_file_attributes", 0) & REPARSE_POINT)


def create_new(path: Path) -> BinaryIO:
    """Open a file for writing that must not exist: whatever stands there, a link too, is never written to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK | BINARY
    return os.fdopen(os.open(path, flags, 0o666), "wb", buffering=0)


class Pin:
    """A shared lock on one file that `remove_unpinned` respects. It ends with the object, or with the process."""

    __slots__ = ("_file", "content")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.content = file.read()

    @classmethod
    def take(cls, path: Path) -> "Pin | None":
        """Pin the file at `path`; None if it is gone or going."""
        try:
            file = open_regular_file(path)
        except FileNotFoundError:
            return None
        try:
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
        """End the lock of this object. The file is closed, not unlocked: a child forked meanwhile keeps its pin."""
        self._file.close()

    def __del__(self) -> None:
        self.release()


def remove_unpinned(path: Path, remove: Callable[[Path], None]) -> bytes | None:
    """Remove a file that nobody has pinned, under a lock that keeps everybody from pinning it; else its content."""
    with open_regular_file(path) as file:
        if _lock(file.fileno(), shared=False):
            if sys.platform == "win32":
                file.close()  # our own handle, too, would keep the file from being deleted
            try:
                remove(path)
            except PermissionError:
                return path.read_bytes()
            return None
        return file.read()


@contextmanager
def writer_lock(path: Path, write_note: Callable[[Path, bytes], None]) -> Iterator[None]:
    """Hold the lock file at `path`. Raises `IndexLocked` at once if another has it, naming it where it can be known."""
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
    """Replace the note in a lock file, which nothing depends on; never through a link."""
    if is_link(path):  # for Windows, which has no O_NOFOLLOW
        return
    descriptor = os.open(path, os.O_WRONLY | NO_LINK | BINARY)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            os.ftruncate(descriptor, NOTE_AT)
            os.lseek(descriptor, NOTE_AT, os.SEEK_SET)
            os.write(descriptor, note)
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    """Who holds a lock file, as its note tells."""
    try:
        with open_regular_file(path) as file:
            file.seek(NOTE_AT)
            note = json.loads(file.read(LONGEST_NOTE))
        return f"process {int(note['pid'])} on {str(note['host'])[:80]} since {str(note['since'])[:30]}"
    except (OSError, ValueError, KeyError, TypeError, CorruptIndexError):
        return "another process or thread"
