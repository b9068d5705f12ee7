"""Training lines in blocks: related queries that share their documents, each with the teacher's score of each of them.

A step's time goes into encoding documents. Here eight queries of one topic share the same sixteen
documents: their positives, documents that the teacher ranks high for one of them, and two at random. A document is
encoded once and learnt from eight times, and what answers one query is a hard negative of its neighbours (topic-aware
sampling; Hofstätter et al. 2021). Nothing has to be denoised: no label says "negative", only the teacher's scores do.

`distil` describes the teacher, its vectors in the work folder and the meaning of "scores".
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from tqdm import tqdm

from refcolbert.arrays import Bools, Floats, Ints
from refcolbert.engine.topk import top_k
from refcolbert_export.mining.teachers import BM25, ensemble
from tools.training.distil import DOCUMENTS, FOUND, SCALE, SCORES, WEIGHT, Pool, embed_pool, read_pool
from tools.training.pairs import write_lines, write_report

__all__ = ["BLOCK", "blocks", "write_blocks"]

Line = dict[str, object]

BLOCK = 8  # queries
SHARED = 16  # documents of a block
RANDOM = 2  # of them drawn from all documents
NEAREST = 40  # queries among which a block's are drawn
SEARCHED = 200  # the nearest queries that are looked at before a block is given up
HARD = 20  # a query's first documents, among which one is drawn
AT_ONCE = 128  # queries that are compared with everything at a time


class Teacher:
    """The teacher's ranking of all documents for every query, of which it keeps what the blocks need."""

    def __init__(self, pool: Pool, queries: Floats, documents: Floats) -> None:
        """Rank, given unit rows of queries and documents: [n_pairs, dim], [n_docs, dim]."""
        self._pool, self._queries, self._documents = pool, queries, documents
        self._bm25 = BM25(pool.documents)
        batches = tqdm(range(0, len(queries), AT_ONCE), desc="rank")
        ranked = [self._rank(np.arange(first, min(first + AT_ONCE, len(queries)))) for first in batches]
        self.finds = np.concatenate([finds for finds, _ in ranked])  # [n_pairs] the positive is among the first FOUND
        self.first = np.concatenate([first for _, first in ranked])  # [n_pairs, HARD + SHARED] best documents first

    def _rank(self, pairs: Ints) -> tuple[Bools, Ints]:
        bm25 = self._bm25.many(self._pool.pairs[i].query for i in pairs)  # [n, n_docs]
        scores = ensemble(self._queries[pairs] @ self._documents.T, bm25, WEIGHT)  # [n, n_docs]
        own = np.take_along_axis(scores, self._pool.positives[pairs, None], axis=1)  # [n, 1]
        return (scores > own).sum(axis=1) < FOUND, np.stack([top_k(row, HARD + SHARED) for row in scores])

    def scores(self, pair: int, documents: Sequence[int]) -> Floats:
        """[n] its scores of some documents for a query."""
        bm25 = self._bm25.scores(self._pool.pairs[pair].query)  # [n_docs]
        cosines = self._documents[documents] @ self._queries[pair]  # [n]
        return ensemble(cosines, bm25[documents], WEIGHT, largest=float(bm25.max()))


class Topics:
    """Related queries that are not yet in a block."""

    def __init__(self, queries: Floats, positives: Floats) -> None:
        """Unit rows of the queries and of their positives, [n_pairs, dim] twice: a topic is both together."""
        both = queries + positives  # [n_pairs, dim]
        self._rows = both / np.linalg.norm(both, axis=1, keepdims=True)
        self.unused = np.ones(len(both), np.bool_)  # [n_pairs]

    def visit(self, order: Ints, draw: Generator) -> Iterator[list[int]]:
        """For each pair in `order` that is still unused then: the pair, and unused ones near it.

        The nearest come shuffled, those further away in order.
        """
        while len(order := order[self.unused[order]]):
            pairs, order = order[:AT_ONCE], order[AT_ONCE:]
            # Most of these are still unused when it is their turn, so one product for all wastes little.
            similarities = self._rows[pairs] @ self._rows.T  # [n, n_pairs]
            for pair, row in zip(pairs.tolist(), similarities, strict=True):
                if self.unused[pair]:
                    row[~self.unused] = row[pair] = -np.inf
                    near = top_k(row, SEARCHED)
                    near = near[row[near] > -np.inf]
                    yield [pair, *draw.permutation(near[:NEAREST]).tolist(), *near[NEAREST:].tolist()]


def blocks(pool: Pool, queries: Floats, documents: Floats, seed: int, counts: Counter[str]) -> Iterator[list[Line]]:
    """Blocks of `BLOCK` lines, given unit rows of queries and documents: [n_pairs, dim], [n_docs, dim]."""
    teacher, draw = Teacher(pool, queries, documents), np.random.default_rng(seed)
    topics = Topics(queries, documents[pool.positives])
    for related in topics.visit(draw.permutation(len(pool.pairs)), draw):
        members: list[int] = []  # pairs
        for pair in related:
            if len(members) == BLOCK:
                break
            if _repeats(pool, pair, members):
                continue
            topics.unused[pair] = False
            if teacher.finds[pair]:
                members.append(pair)
            else:
                counts["left out: positive not found"] += 1
        if len(members) == BLOCK:
            counts.update(f"{pool.pairs[i].source}: {pool.pairs[i].kind}" for i in members)
            yield _lines(pool, members, teacher, draw)
        else:
            counts["left out: too few related"] += len(members)


def _repeats(pool: Pool, pair: int, members: list[int]) -> bool:
    """True if a block already has this query or this positive."""
    query, positive = pool.pairs[pair].query, pool.positives[pair]
    return any(pool.pairs[i].query == query or pool.positives[i] == positive for i in members)


def _lines(pool: Pool, members: list[int], teacher: Teacher, draw: Generator) -> list[Line]:
    shared = _shared(pool.positives[members].tolist(), teacher.first[members], len(pool.documents), draw)
    lines: list[Line] = []
    for pair in members:
        positive = int(pool.positives[pair])
        columns = [positive, *(n for n in shared if n != positive)]
        lines.append(
            {
                "query": pool.pairs[pair].query,
                "positive": pool.documents[positive],
                "negatives": [pool.documents[n] for n in columns[1:]],
                "scores": [round(SCALE * float(score), 3) for score in teacher.scores(pair, columns)],
            }
        )
    return lines


def _shared(positives: list[int], first: Ints, n_docs: int, draw: Generator) -> list[int]:
    """The positives, one of each query's first documents [n, HARD + SHARED] until there are enough, some at random."""
    shared = list(positives)
    while len(shared) < SHARED - RANDOM:
        best = first[len(shared) % len(first)].tolist()
        shared.append(int(draw.choice([n for n in best if n not in shared][:HARD])))
    others = draw.choice(n_docs, 2 * SHARED, replace=False).tolist()
    return shared + [n for n in others if n not in shared][:RANDOM]


def write_blocks(pairs: Path, out: Path, work: Path, seed: int = 0) -> None:
    """Write the blocks of the pairs and their report; the bi-encoder's vectors are kept in `work`."""
    torch.set_num_threads(1)
    pool = read_pool(pairs, DOCUMENTS, seed)
    queries, documents = embed_pool(pool, work)
    counts: Counter[str] = Counter()
    lines = [line for block in blocks(pool, queries, documents, seed, counts) for line in block]
    write_lines(out, lines)
    sizes = {"lines": len(lines), "pool": {"documents": len(pool.documents), "pairs": len(pool.pairs)}}
    write_report(out, {**sizes, "scores": SCORES, "seed": seed, "counts": dict(sorted(counts.items()))})
