"""Readers in their own processes while one process writes: no answer may mix two generations.

The writer notes for each generation it publishes what that generation answers. Each reader refreshes and asks, and
reports generation and answer; some keep one generation for long and open it again in new threads. Afterwards every
report must be what the writer noted for that generation.
"""

import hashlib
import multiprocessing
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from refcolbert import Index

from .scenarios import DIM, add, vectors

__all__ = ["Mixture", "lying", "read_while_writing"]

FORK = multiprocessing.get_context("fork")
CLAIM = 4  # answers a reader gives for each refresh


@dataclass(slots=True)
class Mixture:
    """The observations of all readers."""

    queries: int = 0
    generations: int = 0  # different ones that readers saw
    commits: int = 0
    bad: list[str] = field(default_factory=list)


def digest(index: Index, query: int) -> str:
    """A hash of an index's answer to one of a few queries: ids, scores and texts."""
    hits = index.search(vectors(1, seed=1000 + query)[0], 5)
    return hashlib.sha256(repr([(h.id, h.score, h.text) for h in hits]).encode()).hexdigest()


def read_while_writing(path: Path, *, readers: int = 8, commits: int = 60, queries: int = 0) -> Mixture:
    """Let `readers` ask until `commits` were written and `queries` answered (by all of them together)."""
    shutil.rmtree(path, ignore_errors=True)
    with Index.create(path, dim=DIM, nbits=4, train_at=60) as index:
        add(index, 0, 10)
        truth = {2: [digest(index, q) for q in range(CLAIM)]}
        stop, pipes, children = FORK.Event(), [], []
        for number in range(readers):
            ours, theirs = FORK.Pipe(duplex=False)
            child = FORK.Process(target=_read, args=(path, number, queries // readers, stop, theirs))
            child.start()
            theirs.close()
            pipes.append(ours)
            children.append(child)
        for _ in _write(index, commits):
            truth[index.info()["generation"]] = [digest(index, q) for q in range(CLAIM)]
        stop.set()
    mixture = Mixture(commits=commits)
    for pipe, child in zip(pipes, children, strict=True):
        _compare(mixture, pipe, truth)
        child.join()
        if child.exitcode:
            mixture.bad.append(f"a reader ended with {child.exitcode}")
    return mixture


@contextmanager
def lying() -> Iterator[None]:
    """Readers that now and then say that they see the generation before."""
    real = Index.info

    def info(self: Index) -> dict[str, Any]:
        real_info = real(self)
        return {**real_info, "generation": real_info["generation"] - int(np.random.default_rng().random() < 0.5)}

    with mock.patch.object(Index, "info", info):
        yield


def _write(index: Index, commits: int) -> Any:
    """Adds, deletes, upserts, compaction, in a seeded order; one step each."""
    rng = np.random.default_rng(5)
    for number in range(commits):
        ids = index.ids()
        kind = int(rng.integers(0, 6))
        if kind < 2 or len(ids) < 8:
            add(index, 1000 + 10 * number, int(rng.integers(1, 6)))
        elif kind == 2:
            index.delete([str(name) for name in rng.choice(ids, 3, replace=False)])
        elif kind == 3:
            index.upsert([{"id": str(rng.choice(ids)), "text": f"again {number}"}], vectors=vectors(1, number))
        else:
            index.compact(refit=kind == 5)
        yield number


def _read(path: Path, number: int, queries: int, stop: Any, pipe: Connection) -> None:
    seen: dict[tuple[int, int, str], int] = {}  # (generation, query, answer) -> how often
    errors: list[str] = []
    index, rounds = Index.open(path), 0
    while not stop.is_set() or rounds * CLAIM < queries:
        rounds += 1
        try:
            if number % 2 == 0 or rounds % 50 == 0:  # the others stay behind for a while
                index.refresh()
            _ask(index, seen) if rounds % 10 else _in_thread(index, seen)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            errors.append(f"{type(error).__name__}: {error}")
            break
    pipe.send((seen, errors))


def _ask(index: Index, seen: dict[tuple[int, int, str], int]) -> None:
    for query in range(CLAIM):
        generation = index.info()["generation"]
        key = (generation, query, digest(index, query))
        seen[key] = seen.get(key, 0) + 1


def _in_thread(index: Index, seen: dict[tuple[int, int, str], int]) -> None:
    """In a thread of its own, which opens the database files anew."""
    thread = threading.Thread(target=_ask, args=(index, seen))
    thread.start()
    thread.join()


def _compare(mixture: Mixture, pipe: Connection, truth: dict[int, list[str]]) -> None:
    try:
        seen, errors = pipe.recv()
    except EOFError:
        mixture.bad.append("a reader died without a report")
        return
    mixture.bad += errors
    mixture.queries += sum(seen.values())
    mixture.generations = max(mixture.generations, len({generation for generation, _, _ in seen}))
    for generation, query, answer in seen:
        if truth.get(generation, [])[query : query + 1] != [answer]:
            mixture.bad.append(f"generation {generation} gave another answer to query {query}")
