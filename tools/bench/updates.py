"""Small updates of a large index: their time, the bytes that they write, and what the next search of a reader costs.

    python -m tools.bench.updates [--documents 200000] [--times 10] [--work DIR] [--record]

Documents have TOKENS random vectors of DIM columns, a short text and metadata: small ones, so that a million can be
built here, as an update costs no more where documents are longer. The index is built once per size and kept in the work
folder; updates change a copy. Each kind of update is made --times times, of documents all over the index. After each, a
reader that had the index open moves to the new generation and searches, in the mode "hybrid". Bytes are all that a
`FileSystem` was given to write. --record writes the table to benchmarks/19-updates.json.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np

from refcolbert import Index
from refcolbert.arguments import EncoderOnDemand
from refcolbert.arrays import Floats
from refcolbert.storage.durable import FileSystem
from refcolbert.storage.store import Store
from tools.bench.pages import record
from tools.bench.vectors import WORK

__all__ = ["COLUMNS", "build", "measure"]

DIM, TOKENS, BLOCK, MANY = 32, 4, 1000, 1000
WORDS = ["time", "flies", "like", "an", "arrow", "and", "fruit", "flies", "like", "a", "banana"]
COLUMNS = [
    "update",
    "documents",
    "p50, ms",
    "slowest, ms",
    "processor p50, ms",
    "KiB written, p50",
    "most",
    "reader: refresh, ms",
    "first search, ms",
    "next search, ms",
]


class Counting(FileSystem):
    """The real file system, and the number of bytes written through it."""

    written = 0

    def append(self, file: BinaryIO, data: bytes | memoryview) -> None:
        """Write and count."""
        self.written += memoryview(data).nbytes
        super().append(file, data)

    def fill(self, path: Path, write: Callable[[Path], None]) -> None:
        """Write and count."""
        super().fill(path, write)
        self.written += path.stat().st_size


def _vectors(n: int) -> Iterator[Floats]:
    for number in range(-(-n // BLOCK)):
        block = np.random.default_rng(number).standard_normal((min(BLOCK, n - number * BLOCK), TOKENS, DIM), np.float32)
        yield from block / np.linalg.norm(block, axis=2, keepdims=True)


def _document(name: str, number: int) -> dict[str, Any]:
    return {"id": name, "text": f"{WORDS[number % len(WORDS)]} w{number % 5000}", "metadata": {"number": number}}


def build(path: Path, n: int) -> None:
    """Index `n` documents, unless that is done."""
    if not path.exists():
        documents = (_document(f"d{i}", i) for i in range(n))
        Index.build(path, documents, vectors=_vectors(n), dim=DIM, train_at=1, words="porter").close()


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def measure(path: Path, times: int) -> list[list[Any]]:
    """Make every kind of update `times` times in the index at `path`, and return the rows of the table."""
    files = Counting()
    writer = Index(Store(path, files), EncoderOnDemand(None, path), verify="auto")
    reader = Index.open(path)
    n = len(writer)
    drawn = iter(np.random.default_rng(0).permutation(n).tolist())  # no document is deleted twice
    (vectors,) = _vectors(1)

    def search() -> None:
        reader.search(_document("", 0)["text"], mode="hybrid", vectors=vectors)

    updates: dict[str, Callable[[int], object]] = {
        "add": lambda i: writer.add([_document(f"new{i}", i)], vectors=[vectors]),
        "upsert": lambda i: writer.upsert([_document(f"d{next(drawn)}", i)], vectors=[vectors]),
        "delete": lambda _: writer.delete([f"d{next(drawn)}"]),
        f"delete {MANY:,}": lambda _: writer.delete([f"d{next(drawn)}" for _ in range(min(MANY, n // 2 // times))]),
    }
    rows: list[list[Any]] = []
    search()
    for name, update in updates.items():
        took: list[list[float]] = []
        for i in range(times):
            before, processor = files.written, time.process_time()
            milliseconds = _milliseconds(lambda i=i, update=update: update(i))  # type: ignore[misc]
            processor, kib = 1e3 * (time.process_time() - processor), (files.written - before) / 1024
            after = [_milliseconds(call) for call in (reader.refresh, search, search)]
            took.append([milliseconds, processor, kib, *after])
        updating, processors, written, *reading = zip(*took, strict=True)
        figures = [statistics.median(updating), max(updating), statistics.median(processors)]
        figures += [statistics.median(written), max(written), *map(statistics.median, reading)]
        rows.append([name, n, *(round(x, 1) for x in figures)])
    return rows


@click.command()
@click.option("--documents", default=200_000, show_default=True)
@click.option("--times", default=10, show_default=True)
@WORK
@click.option("--record", "recorded", is_flag=True, help="Write the table to benchmarks/.")
def main(documents: int, times: int, work: Path, recorded: bool) -> None:
    """Build, update a copy, print."""
    kept = work / f"updates-{documents}"
    work.mkdir(parents=True, exist_ok=True)
    click.echo(f"built in {_milliseconds(lambda: build(kept, documents)) / 1e3:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(shutil.copytree(kept, Path(folder) / "index"), times)
    click.echo(f"| {' | '.join(COLUMNS)} |\n|---|{'--:|' * (len(COLUMNS) - 1)}")
    for row in rows:
        click.echo(f"| {' | '.join(map(str, row))} |")
    if recorded:
        record("19-updates.json", rows)


if __name__ == "__main__":
    main()
