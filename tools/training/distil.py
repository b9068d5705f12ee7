"""Training lines with hard negatives and a teacher's scores, from pairs.

For every query BM25 and two bi-encoders rank one pool of documents, a seeded sample of each source. The teacher is
their ensemble (`refcolbert_export.mining.teachers`). A pair is left out if the teacher does not find its positive among
the first `FOUND`. Candidates near or above the positive are not used as negatives (`refcolbert_export.mining.choice`).
"scores" are SCALE times the ensemble, the positive's first: natural logarithms, so softmax(scores) is the teacher's
distribution.

The bi-encoders read LENGTH tokens of a text. The work folder keeps its vectors, so an interrupted run continues. The
same input and seed give the same bytes.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from refcolbert.arrays import Floats
from refcolbert_export.mining.choice import Choice, candidates, choose, denoise, rank_of
from refcolbert_export.mining.teachers import BM25, ensemble
from tools.training.embeddings import embed_teacher
from tools.training.pairs import Pair, write_lines, write_report
from tools.training.sources import read_gzip

__all__ = ["MARGIN", "SCALE", "SCORES", "WEIGHT", "Pool", "distil", "embed_pool", "read_pool", "write_distilled"]


# Documents of each source in the pool: as many as one core embeds in two hours. Half of them are of science.
DOCUMENTS = {
    "acl_title_abstract": 10000,
    "arxiv_title_abstract": 5000,
    "article_abstracts": 5000,
    "article_sections": 8000,
    "medquad": 7000,
    "debian_synopsis_description": 6000,
    "debian_manuals": 5000,
    "python_docstrings": 1500,
    "python_documentation": 2500,
    "python_peps": 1500,
    "package_docstrings": 4000,
}
LENGTH = 128  # tokens
# Of BM25 in the ensemble; `embeddings.SHARES` are those of the bi-encoders. Both were chosen by nDCG@10 on
# Cranfield and MEDLINE (`tools.training.quality --teacher`).
WEIGHT = 0.3
SCALE = 20.0  # as in the bi-encoder's own training; the labels of the pairs are likeliest under 10
SCORES = f"{SCALE} * (cosine + {WEIGHT} * BM25 / the query's largest)"
DEPTH = 50  # candidates from each ranking
FOUND = 20  # a positive further down is no answer that can be taught
MARGIN = 0.05  # of the ensemble, below the positive
AT_ONCE = 256  # queries whose scores are in memory at a time


@dataclass(frozen=True, slots=True)
class Pool:
    """Documents, and the pairs whose positives are among them."""

    documents: list[str]
    pairs: list[Pair]
    positives: NDArray[np.int64]  # [n_pairs] which document

    @property
    def queries(self) -> list[str]:
        """The pairs' queries."""
        return [pair.query for pair in self.pairs]


def read_pool(path: Path, documents: dict[str, int], seed: int) -> Pool:
    """A sample of each source's documents, by the order of their hashes, and their pairs in the file's order."""
    pairs = [Pair(**record) for _, record in read_gzip(path)]
    by_source: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        by_source[pair.source].add(pair.positive)
    kept = [
        text
        for source, texts in by_source.items()
        for text in sorted(texts, key=lambda text: hashlib.sha256(f"{seed}{text}".encode()).digest())[
            : documents.get(source, 0)
        ]
    ]
    places = {text: i for i, text in enumerate(kept)}
    chosen = [pair for pair in pairs if pair.positive in places]
    return Pool(kept, chosen, np.array([places[pair.positive] for pair in chosen], np.int64))


def _scored(pool: Pool, queries: Floats, documents: Floats) -> Iterator[tuple[int, Floats, Floats]]:
    """(number of a pair, its cosines [n_docs], its BM25 [n_docs])."""
    bm25 = BM25(pool.documents)
    for first in tqdm(range(0, len(queries), AT_ONCE), desc="mine"):
        cosines = queries[first : first + AT_ONCE] @ documents.T  # [n_block, n_docs]
        for i in range(len(cosines)):
            yield first + i, cosines[i], bm25.scores(pool.pairs[first + i].query)


def distil(
    pool: Pool, queries: Floats, documents: Floats, seed: int, counts: Counter[str], choice: Choice
) -> Iterator[dict[str, object]]:
    """The training lines of a pool, given unit rows of its queries and documents: [n_pairs, dim], [n_docs, dim]."""
    for i, cosines, bm25 in _scored(pool, queries, documents):
        pair, positive = pool.pairs[i], int(pool.positives[i])
        teacher = ensemble(cosines, bm25, WEIGHT)  # [n_docs]
        if rank_of(teacher, positive) > FOUND:
            counts[f"{pair.source}: positive not found"] += 1
            continue
        found = denoise(candidates([cosines, bm25], DEPTH), teacher, positive, MARGIN)
        draw = np.random.default_rng([seed, i])
        chosen = choose(found, teacher, positive, draw, choice)
        counts[f"{pair.source}: {pair.kind}"] += 1
        yield {
            "query": pair.query,
            "positive": pair.positive,
            "negatives": [pool.documents[n] for n in chosen],
            "scores": [round(SCALE * float(teacher[n]), 3) for n in (positive, *chosen)],
            "source": pair.source,
            "kind": pair.kind,
        }


def embed_pool(pool: Pool, work: Path) -> tuple[Floats, Floats]:
    """Unit rows of queries [n_pairs, dim] and documents [n_docs, dim], kept in `work`."""
    return embed_teacher(pool.queries, LENGTH, work), embed_teacher(pool.documents, LENGTH, work)


def write_distilled(pairs: Path, out: Path, work: Path, seed: int = 0) -> None:
    """Write the training lines of the pairs in a seeded order, and their report."""
    torch.set_num_threads(1)
    pool = read_pool(pairs, DOCUMENTS, seed)
    queries, documents = embed_pool(pool, work)
    counts: Counter[str] = Counter()
    lines = list(distil(pool, queries, documents, seed, counts, Choice()))
    # Sources are mixed, because a trainer may read the first lines alone.
    write_lines(out, [lines[i] for i in np.random.default_rng(seed).permutation(len(lines))])
    sizes = {"lines": len(lines), "documents": len(pool.documents)}
    write_report(out, {**sizes, "scores": SCORES, "seed": seed, "counts": dict(sorted(counts.items()))})
