"""A large synthetic corpus made from real token vectors, never stored, and the exact answer over it, block by block.

A document has TOKENS tokens of two real documents, three of four from the first. All of them are turned alike, so that
documents of the same parents differ as a whole, and each by noise of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refcolbert import Document
from refcolbert.arrays import Floats
from refcolbert.engine.topk import top_k
from tools.bench.vectors import Corpus

__all__ = ["BLOCK", "TOKENS", "Grown", "Scan"]

BLOCK, TOKENS = 1000, 80  # documents made at a time, tokens of each
SHARE = 0.75  # of the tokens that come from a document's first parent
SHIFT, NOISE = (
    0.3,
    0.2,
)  # lengths of the vectors that are added to unit vectors: a cosine of about .94 with the real token
DEPTH, SAVE_EVERY = 100, 20  # documents of the exact answer, blocks between two of its checkpoints


@dataclass(frozen=True, slots=True)
class Grown:
    """`n_docs` synthetic documents, the same ones at every call."""

    corpus: Corpus
    n_docs: int
    seed: int = 0

    def block(self, number: int) -> Floats:
        """[n, TOKENS, dim] the documents of one block; BLOCK of them, fewer in the last."""
        rng = np.random.default_rng([self.seed, number])
        pool, n = self.corpus.documents, min(BLOCK, self.n_docs - number * BLOCK)
        parents = rng.integers(0, len(pool), (n, 2))  # [n, 2]
        chosen = np.where(rng.random((n, TOKENS)) < SHARE, parents[:, :1], parents[:, 1:])  # [n, TOKENS]
        places = (rng.random((n, TOKENS)) * pool.lengths[chosen]).astype(np.int64)
        real = pool.vectors[pool.offsets[chosen] + places]  # [n, TOKENS, dim]
        shift = rng.standard_normal((n, 1, pool.dim), np.float32) * np.float32(SHIFT / np.sqrt(pool.dim))
        noise = rng.standard_normal(real.shape, np.float32) * np.float32(NOISE / np.sqrt(pool.dim))
        mixed: Floats = real + shift + noise
        mixed /= np.linalg.norm(mixed, axis=2, keepdims=True)
        return mixed

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return -(-self.n_docs // BLOCK)

    def vectors(self) -> Iterator[Floats]:
        """[TOKENS, dim] of each document, one block in memory."""
        for number in range(self.n_blocks):
            yield from self.block(number)

    def documents(self) -> Iterator[Document]:
        """Ids alone."""
        return (Document(id=str(i)) for i in range(self.n_docs))


class Scan:
    """The best DEPTH documents of each query by exact MaxSim, found block by block."""

    def __init__(self, grown: Grown, queries: Floats, path: Path) -> None:
        """Begin, or go on from the checkpoint at `path`. queries [n_queries, n_q, dim]."""
        self.grown, self.queries, self.path = grown, queries, path
        self.done = 0
        self.best = np.empty((len(queries), 0), np.int64)  # [n_queries, up to DEPTH]
        self.scores = np.empty((len(queries), 0))  # [n_queries, up to DEPTH]
        if path.is_file():
            kept = np.load(path)
            self.done, self.best, self.scores = int(kept["done"]), kept["best"], kept["scores"]

    def add(self, number: int) -> None:
        """Look at one block."""
        block = self.grown.block(number)  # [n, TOKENS, dim]
        rows = block.reshape(-1, block.shape[2])  # [n * TOKENS, dim]
        numbers = np.arange(len(block)) + number * BLOCK
        best, scores = [], []
        for i, q in enumerate(self.queries):
            found = (q @ rows.T).reshape(len(q), len(block), TOKENS).max(axis=2).sum(axis=0, dtype=np.float64)  # [n]
            both = np.concatenate([self.scores[i], found])
            order = top_k(both, DEPTH)
            best.append(np.concatenate([self.best[i], numbers])[order])
            scores.append(both[order])
        self.best, self.scores, self.done = np.stack(best), np.stack(scores), number + 1

    def run(self) -> NDArray[np.int64]:
        """[n_queries, DEPTH] the exact answer."""
        for number in range(self.done, self.grown.n_blocks):
            self.add(number)
            if self.done % SAVE_EVERY == 0 or self.done == self.grown.n_blocks:
                part = self.path.with_name("part-" + self.path.name)
                np.savez(part, done=self.done, best=self.best, scores=self.scores)
                part.rename(self.path)
        return self.best
