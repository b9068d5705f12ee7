"""The operations that are crashed, killed and starved, and how to tell what an index answers."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from refcolbert import Index
from refcolbert.errors import IndexNotFound
from refcolbert.storage.durable import FileSystem

__all__ = ["DIM", "NOTHING", "SCENARIOS", "Answer", "Scenario", "answer_of", "answers", "fresh", "on", "proceed"]

DIM = 4
NOTHING = "no index"  # what a folder without one answers
Answer = Any


@dataclass(frozen=True, slots=True)
class Scenario:
    """One operation on the index at a path, and how that comes about."""

    name: str
    prepare: Callable[[Path], None]
    change: Callable[[Index], Any]  # of the index that was prepared
    make: Callable[[Path], Any] | None = None  # or an index where there was none

    def operate(self, path: Path) -> None:
        """Do it, from opening to the end."""
        if self.make is not None:
            self.make(path)
            return
        with Index.open(path) as index:
            self.change(index)


@contextmanager
def on(file_system: FileSystem) -> Iterator[None]:
    """Every index that is created or opened meanwhile writes through `file_system`."""
    with mock.patch("refcolbert.storage.store.FileSystem", return_value=file_system):
        yield


def vectors(n_docs: int, seed: int) -> list[NDArray[np.float32]]:
    """A few unit rows for each document."""
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal((3, DIM)).astype(np.float32) for _ in range(n_docs)]
    return [r / np.linalg.norm(r, axis=1, keepdims=True) for r in rows]


def answer_of(index: Index) -> Answer:
    """Everything an index says: ids, texts, metadata, and hits with their scores, by vectors and by words."""
    hits = index.search(vectors(1, seed=99)[0], 50)
    if index.view.manifest.words:
        hits += index.search("text 4 changed", 50, mode="words")
    return tuple((h.id, h.score, h.text, str(h.metadata)) for h in hits), tuple(index.ids())


def answers(path: Path) -> Answer:
    """Generation and `answer_of` of the index at `path`, every byte verified."""
    try:
        with Index.open(path, verify="full") as index:
            return index.info()["generation"], answer_of(index)
    except IndexNotFound:
        return NOTHING


def _again(path: Path) -> Index:
    """The index at `path`, or what takes its place: the same build once more, or a new one."""
    if answers(path) != NOTHING:
        return Index.open(path)
    return _build(path) if path.with_name(f"{path.name}.building").exists() else Index.create(path, dim=DIM)


def proceed(path: Path) -> None:
    """The next writer, with nothing cleaned up for it: it must succeed, and leave a sound index without orphans."""
    with _again(path) as index:
        index.add([{"id": "next"}], vectors=vectors(1, seed=7))
        index.compact()
        index.check()
        named = {file.name for file in index.view.manifest.files()}
    newest = max(p.name for p in (path / "data").glob("*-manifest.json"))[:8]
    orphans = [p for p in (path / "data").iterdir() if p.name[:8] > newest]
    if orphans or not named or (path / "manifest.json.tmp").exists():
        raise AssertionError(f"{path} holds orphans after a write: {orphans}")


def add(index: Index, first: int, n_docs: int) -> None:
    """Documents `first`, `first` + 1, ... with text and metadata."""
    index.add(_records(first, n_docs), vectors=vectors(n_docs, first))


def _records(first: int, n_docs: int) -> list[dict[str, Any]]:
    return [{"id": f"d{i}", "text": f"text {i}", "metadata": {"n": i}} for i in range(first, first + n_docs)]


def _raw(path: Path) -> None:
    with Index.create(path, dim=DIM, nbits=4, train_at=40) as index:
        add(index, 0, 5)


def _encoded(path: Path) -> None:
    with Index.create(path, dim=DIM, nbits=4, train_at=40, words="porter") as index:
        add(index, 0, 14)
        add(index, 14, 4)
        add(index, 18, 1)
        index.delete(["d3", "d15"])


def _littered(path: Path) -> None:
    """Old generations that a reader, now gone, kept; and what a dead writer left."""
    _encoded(path)
    with Index.open(path):
        for first in (20, 22):
            with Index.open(path) as index:
                add(index, first, 2)
    (path / "data" / "00000099-000-codes.npy").write_bytes(b"half a file")
    (path / "manifest.json.tmp").write_bytes(b"half a manifest")


def _snapshot(path: Path) -> None:
    with Index.open(path.with_name("source")) as index:
        index.snapshot(path)


def _upsert(index: Index) -> None:
    index.upsert([{"id": "d1", "text": "changed"}], vectors=vectors(1, seed=50))


def _create(path: Path) -> None:
    Index.create(path, dim=DIM, nbits=4, train_at=40).close()


def _build(path: Path) -> Index:
    """In three batches beside its place, then fitted, encoded and moved."""
    with mock.patch("refcolbert.index.BUILD_BATCH", 6):
        return Index.build(path, _records(0, 16), vectors=vectors(16, 0), dim=DIM, nbits=4, train_at=40)


SCENARIOS = (
    Scenario("create", lambda path: None, Index.check, _create),
    Scenario("add", _raw, lambda index: add(index, 5, 3)),
    Scenario("fit the codec", _raw, lambda index: add(index, 5, 20)),
    Scenario("upsert", _encoded, _upsert),
    Scenario("delete", _encoded, lambda index: index.delete(["d1", "d16"])),
    Scenario("compact", _encoded, Index.compact),
    Scenario("refit", _encoded, lambda index: index.compact(refit=True)),
    Scenario("collect", _littered, Index.compact),
    Scenario("snapshot", lambda path: _encoded(path.with_name("source")), Index.check, _snapshot),
    Scenario("build", lambda path: None, Index.check, lambda path: _build(path).close()),
)


def fresh(scenario: Scenario, prepared: Path, folder: Path) -> Path:
    """A new copy of a prepared folder, in which `i` is the index."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared, folder)
    return folder / "i"
