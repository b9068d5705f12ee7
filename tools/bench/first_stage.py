"""Words as a first stage: recall of candidates from cells, with the best documents by words added to them.

    OPENBLAS_NUM_THREADS=1 python -m tools.bench.first_stage [NAMES ...] --data DIR [--work DIR]

Recall@10 against the exact answer of the same index, and the median time of a query, its encoding left out.
"""

import time
from itertools import pairwise
from pathlib import Path

import click
import numpy as np

from refcolbert import Encoder, Index
from refcolbert.encoding.words import WordTokenizer
from refcolbert.engine.bm25 import best_by_words, query_terms
from refcolbert.engine.search import SearchOptions, best_by_vectors, search
from refcolbert.engine.trace import Trace
from tools.bench.vectors import WORK, gather
from tools.collections import DATA, load

NAMES = ("adi", "medline", "cranfield", "cisi", "xquad_en")
SETTINGS = ((1, 32), (2, 64), (2, 96), (4, 128), (4, 256), (8, 512), (16, 1024))
ADDED, K, QUERIES = (0, 16, 32, 100), 10, 12


@click.command()
@click.argument("names", nargs=-1)
@DATA
@WORK
def main(names: tuple[str, ...], data: Path, work: Path) -> None:
    """Print one row per setting of a search, one column per number of documents that words add."""
    collections = [load(data, name) for name in names or NAMES]
    corpus, path = gather(names or NAMES, data, work).documents, work / "first-stage"
    if not path.exists():
        documents = [{"id": f"{c.name}/{d.id}", "text": d.text} for c in collections for d in c.documents]
        vectors = (corpus.vectors[first:last] for first, last in pairwise(corpus.offsets))
        Index.build(path, documents, vectors=vectors, dim=corpus.dim, words="porter", train_at=1)
    index = Index.open(path, verify="fast").segmented
    texts = [text for collection in collections for text in list(collection.queries.values())[:QUERIES]]
    terms, eligible = [WordTokenizer("porter").terms(text) for text in texts], index.eligible(None)
    queries = list(zip(Encoder.load().encode_queries(texts), terms, strict=True))
    exact = [set(search(q, index, K, SearchOptions(exact=True)).documents.tolist()) for q, _ in queries]
    for nprobe, candidates in SETTINGS:
        options, cells = SearchOptions(nprobe=nprobe, candidates=candidates), []
        for n in ADDED:
            recalls, times = [], []
            for (q, words), best in zip(queries, exact, strict=True):
                start = time.perf_counter()
                also = best_by_words(query_terms(words, index), index, n, eligible)[0] if n else None
                found, scores = best_by_vectors(q, index, K, options, eligible, Trace(), also)
                times.append(1e3 * (time.perf_counter() - start))
                recalls.append(len(best & set(found[np.argsort(-scores, kind="stable")[:K]].tolist())) / K)
            cells.append(f"{np.mean(recalls):.3f} in {np.median(times):.1f} ms")
        click.echo(f"nprobe {nprobe}, candidates {candidates}: " + ", ".join(cells))


if __name__ == "__main__":
    main()
