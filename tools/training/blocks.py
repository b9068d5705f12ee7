"""Training lines in blocks: related queries that share their documents, each with the teacher's score of each of them.

A step's time goes into encoding documents. Here eight queries of one topic share the same sixteen
documents: their positives, documents that the teacher ranks high for one of them, and two at random. A document is
encoded once and learnt from eight times, and what answers one query is a hard negative of its neighbours (topic-aware
sampling; Hofstätter et al. 2021). Nothing has to be denoised: no label says "negative", only the teacher's scores do.

`distil` describes the teacher, its vectors in the work folder and the meaning of "scores".
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from tqdm import tqdm

from refcolbert.arrays import Floats
from refcolbert_export.mining.choice import rank_of
from refcolbert_export.mining.teachers import BM25, ensemble
from tools.training.distil import DOCUMENTS, FOUND, SCALE, SCORES, WEIGHT, Pool, embed_pool, read_pool
from tools.training.pairs import write_lines, write_report

__all__ = ["BLOCK", "Topics", "blocks", "write_blocks"]

Line = dict[str, object]

BLOCK = 8  # queries
SHARED = 16  # documents of a block
RANDOM = 2  # of them drawn from all documents
NEAREST = 40  # queries among which a block's are drawn
SEARCHED = 200  # the nearest queries that are looked at before a block is given up
HARD = 20  # a query's first documents, among which one is drawn


class Topics:
    """Related queries that are not yet in a block."""

    def __init__(self, queries: Floats, positives: Floats) -> None:
        """Unit rows of the queries and of their positives, [n_pairs, dim] twice: a topic is both together."""
        both = queries + positives  # [n_pairs, dim]
        self._rows = both / np.linalg.norm(both, axis=1, keepdims=True)
        self.unused = np.ones(len(both), np.bool_)  # [n_pairs]

    def around(self, pair: int, draw: Generator) -> list[int]:
        """The pair, then unused ones near it: the nearest shuffled, those further away in order."""
        similarity = np.where(self.unused, self._rows @ self._rows[pair], -np.inf)  # [n_pairs]
        similarity[pair] = -np.inf
        near = np.argsort(-similarity, kind="stable")[: min(SEARCHED, int(self.unused.sum()) - 1)]
        return [pair, *draw.permutation(near[:NEAREST]).tolist(), *near[NEAREST:].tolist()]


def blocks(pool: Pool, queries: Floats, documents: Floats, seed: int, counts: Counter[str]) -> Iterator[list[Line]]:
    """Blocks of `BLOCK` lines, given unit rows of queries and documents: [n_pairs, dim], [n_docs, dim]."""
    draw, bm25 = np.random.default_rng(seed), BM25(pool.documents)
    topics = Topics(queries, documents[pool.positives])
    for pair in tqdm(draw.permutation(len(pool.pairs)).tolist(), desc="blocks"):
        if not topics.unused[pair]:
            continue
        members: dict[int, Floats] = {}  # pair -> the teacher's scores [n_docs]
        for other in topics.around(pair, draw):
            if len(members) == BLOCK:
                break
            if _repeats(pool, other, members):
                continue
            topics.unused[other] = False
            scores = ensemble(queries[other] @ documents.T, bm25.scores(pool.pairs[other].query), WEIGHT)
            if rank_of(scores, int(pool.positives[other])) > FOUND:
                counts["left out: positive not found"] += 1
            else:
                members[other] = scores
        if len(members) == BLOCK:
            counts.update(f"{pool.pairs[i].source}: {pool.pairs[i].kind}" for i in members)
            yield _lines(pool, members, draw)
        else:
            counts["left out: too few related"] += len(members)


def _repeats(pool: Pool, pair: int, members: dict[int, Floats]) -> bool:
    """True if a block already has this query or this positive."""
    query, positive = pool.pairs[pair].query, pool.positives[pair]
    return any(pool.pairs[i].query == query or pool.positives[i] == positive for i in members)


def _lines(pool: Pool, members: dict[int, Floats], draw: Generator) -> list[Line]:
    shared = _shared([int(pool.positives[i]) for i in members], list(members.values()), draw)
    lines: list[Line] = []
    for pair, scores in members.items():
        positive = int(pool.positives[pair])
        columns = [positive, *(n for n in shared if n != positive)]
        lines.append(
            {
                "query": pool.pairs[pair].query,
                "positive": pool.documents[positive],
                "negatives": [pool.documents[n] for n in columns[1:]],
                "scores": [round(SCALE * float(scores[n]), 3) for n in columns],
            }
        )
    return lines


def _shared(positives: list[int], teacher: list[Floats], draw: Generator) -> list[int]:
    """The positives, one of each query's first documents until there are enough, and some at random."""
    shared = list(positives)
    while len(shared) < SHARED - RANDOM:
        scores = teacher[len(shared) % len(teacher)]  # [n_docs]
        first = np.argpartition(-scores, HARD + SHARED)[: HARD + SHARED]
        first = first[np.lexsort((first, -scores[first]))]
        shared.append(int(draw.choice([n for n in first.tolist() if n not in shared][:HARD])))
    others = draw.choice(len(teacher[0]), 2 * SHARED, replace=False).tolist()
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
