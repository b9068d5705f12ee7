"""Bytes that are not what was committed: one bit flipped in every byte, every length cut, files swapped and zeroed.

The index is small and opened with full verification. It must answer as before or raise `CorruptIndexError`; another
answer and any other exception are findings.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from unittest import mock

from refcolbert import Index
from refcolbert.errors import CorruptIndexError
from refcolbert.storage.format import FileEntry
from refcolbert.storage.locks import open_regular_file
from refcolbert.storage.store import Store

from .inject import Report
from .scenarios import SCENARIOS, Answer, answer_of

__all__ = ["careless", "cuts", "flips", "small_index", "swaps", "without_sizes"]

Opener = Callable[[Path], Answer]


def full(path: Path) -> Answer:
    """Open with full verification and ask."""
    with Index.open(path, verify="full") as index:
        return answer_of(index)


def careless(path: Path) -> Answer:
    """Open without reading every byte, and ask."""
    with Index.open(path, verify="fast") as index:
        return answer_of(index)


@contextmanager
def without_sizes() -> Iterator[None]:
    """A store that takes a file of any size."""

    @contextmanager
    def opened(self: Store, entry: FileEntry) -> Iterator[BinaryIO]:
        with open_regular_file(self.path / "data" / entry.name) as file:
            yield file

    with mock.patch.object(Store, "opened", opened):
        yield


def small_index(folder: Path, name: str = "compact") -> Path:
    """A small index in a new folder, of its current generation alone, so that every byte matters."""
    scenario = next(s for s in SCENARIOS if s.name == name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scenario.prepare(folder / "from")
    with Index.open(folder / "from") as index:
        index.snapshot(folder / "i")
    (folder / "i" / "writer.lock").unlink()
    return folder / "i"


def files_of(path: Path) -> list[Path]:
    """Every file of the index."""
    return sorted(p for p in path.rglob("*") if p.is_file())


def flips(path: Path, *, every: int = 1, opener: Opener = full) -> Report:
    """Flip one bit in every byte, another one each time; `every` n-th byte only, for a short run."""
    expected, report = opener(path), Report()
    number = 0
    for file in files_of(path):
        whole = file.read_bytes()
        for place in range(len(whole)):
            number += 1
            if number % every:
                continue
            damaged = bytearray(whole)
            damaged[place] ^= 1 << (number // every % 8)
            file.write_bytes(damaged)
            _ask(report, path, expected, opener, f"{file.name}, byte {place}")
        file.write_bytes(whole)
    return report


def cuts(path: Path, *, every: int = 1, opener: Opener = full) -> Report:
    """Cut every file at every length, the longest first; `every` n-th length only, for a short run."""
    expected, report = opener(path), Report()
    for file in files_of(path):
        whole = file.read_bytes()
        for length in range(len(whole) - 1, -1, -every):
            with file.open("r+b") as opened:
                opened.truncate(length)
            _ask(report, path, expected, opener, f"{file.name}, cut to {length}")
        file.write_bytes(whole)
    return report


def swaps(path: Path, opener: Opener = full) -> Report:
    """Swap every two files, fill each with zeros, make it longer, remove it."""
    expected, report = opener(path), Report()
    for file, content, what in _replacements(files_of(path)):
        whole = file.read_bytes()
        file.unlink() if content is None else file.write_bytes(content)
        _ask(report, path, expected, opener, f"{file.name}, {what}")
        file.write_bytes(whole)
    return report


def _replacements(files: list[Path]) -> Iterator[tuple[Path, bytes | None, str]]:
    for file in files:
        whole = file.read_bytes()
        yield file, bytes(len(whole)), "zeros"
        yield file, whole + b"\0", "longer"
        yield file, whole + whole, "twice"
        if file.name != "manifest.json":  # without it there is no index
            yield file, None, "removed"
        for other in files:
            if other != file:
                yield file, other.read_bytes(), f"replaced by {other.name}"


def _ask(report: Report, path: Path, expected: Answer, opener: Opener, what: str) -> None:
    report.cases += 1
    try:
        found = opener(path)
    except CorruptIndexError:
        return
    except Exception as error:  # noqa: BLE001 - any other exception is what this looks for
        report.bad.append(f"{what}: {type(error).__name__}: {error}")
        return
    report.new += 1
    if found != expected:
        report.bad.append(f"{what}: another answer")
