"""Filtered recall: how much of the exact filtered answer a filtered search finds, at several selectivities.

    python -m tools.bench.filtered [--documents 20000] [--queries 100] [--corpus FOLDER]

Each document gets a random number 0 .. 9,999 as metadata; a filter lets through 50 %, 5 % or 0.5 % of them. Recall@10
is the share of the ten best of an exact filtered scan that a search with default parameters also returns; beside it
are the recall of filtering the unfiltered top 1,000 afterwards, and the time of a query. CORPUS is a folder
that `tools.bench.vectors` wrote; without one the vectors are synthetic: documents around a few hundred topics, queries
near a document.
"""

import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from refcolbert import Index, Ragged
from tools.bench.vectors import corpus_in

DIM = 64
SELECTIVITIES = {"100 %": 10_000, "50 %": 5_000, "5 %": 500, "0.5 %": 50}
K, DEEP = 10, 1000
Queries = list[NDArray[np.float32]]


def synthetic(n_docs: int, n_queries: int) -> tuple[Ragged, Queries]:
    """Documents of 20 to 60 tokens, each about a few topics; a query is eight noisy tokens of one document."""
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((400, DIM))
    documents = []
    for n in rng.integers(20, 60, n_docs):
        mine = topics[rng.choice(400, 5, replace=False)]
        rows = mine[rng.integers(0, 5, n)] + 0.7 * rng.standard_normal((n, DIM))
        documents.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    queries = []
    for i in rng.choice(n_docs, n_queries, replace=False):
        rows = documents[i][rng.integers(0, len(documents[i]), 8)] + 0.07 * rng.standard_normal((8, DIM))
        queries.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return Ragged.from_list(documents), queries


def measure(index: Index, queries: Queries, below: int) -> tuple[float, float, float]:
    """(recall of a filtered search, recall of filtering afterwards, milliseconds a query)."""
    where = {"n": {"$lt": below}}
    found, after, times = [], [], []
    for q in queries:
        exact = {hit.id for hit in index.search(q, K, where=where, exact=True)}
        start = time.perf_counter()
        hits = index.search(q, K, where=where)
        times.append(time.perf_counter() - start)
        deep = [hit.id for hit in index.search(q, DEEP) if hit.metadata["n"] < below][:K]
        found.append(len(exact & {hit.id for hit in hits}) / max(len(exact), 1))
        after.append(len(exact & set(deep)) / max(len(exact), 1))
    return statistics.mean(found), statistics.mean(after), 1e3 * statistics.median(times)


@click.command()
@click.option("--documents", default=20_000, show_default=True, help="Synthetic documents.")
@click.option("--queries", "n_queries", default=100, show_default=True)
@click.option("--corpus", type=click.Path(exists=True, path_type=Path), help="Real token vectors.")
def main(documents: int, n_queries: int, corpus: Path | None) -> None:
    """Measure and print one table."""
    if corpus is None:
        vectors, queries = synthetic(documents, n_queries)
    else:
        read = corpus_in(corpus)
        drawn = np.random.default_rng(0).permutation(len(read.queries))[:n_queries]
        vectors, queries = read.documents, list(read.queries[np.sort(drawn)])
    numbers = np.random.default_rng(1).integers(0, 10_000, len(vectors)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "i", dim=vectors.dim)
        index.add([{"id": str(i), "metadata": {"n": n}} for i, n in enumerate(numbers)], vectors=vectors)
        print(f"{len(vectors):,} documents, {len(vectors.vectors):,} tokens, {len(queries)} queries")
        print(f"{'allowed':>8} {'recall@10':>10} {'filtered after':>15} {'ms a query':>11}")
        for name, below in SELECTIVITIES.items():
            recall, after, milliseconds = measure(index, queries, below)
            print(f"{name:>8} {recall:10.3f} {after:15.3f} {milliseconds:11.1f}")


if __name__ == "__main__":
    main()
