"""Recall and latency of search on real token vectors, over a grid of parameters, beside brute force.

    OPENBLAS_NUM_THREADS=1 python -m tools.bench.search cranfield cisi medline --data DIR

All collections are indexed together. `own` is recall@10 against the exact scan of the same index, `true` against exact
MaxSim on the float32 vectors; the difference is what compression costs. Times are one query's, in this process.
"""

import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from refcolbert import Encoder, Index, Ragged
from refcolbert.collection import Collection
from refcolbert.maxsim import scores
from refcolbert.ragged import offsets_of
from refcolbert.search import search
from refcolbert.topk import top_k
from tools.collections import DATA, load

K = 10
GRID = [(1, 32), (2, 64), (4, 64), (4, 128), (8, 256), (16, 256), (8, 512), (16, 512), (16, 1024)]

Queries = list[NDArray[np.float32]]


@click.command()
@click.argument("names", nargs=-1, required=True)
@DATA
@click.option("--model", help="Model folder or hub id; default: the default model.")
@click.option("--nbits", default=4, show_default=True)
@click.option("--queries", "n_queries", default=60, show_default=True, help="Sampled from all collections, seeded.")
def main(names: tuple[str, ...], data: Path, model: str | None, nbits: int, n_queries: int) -> None:
    """Index collections NAMES together and search them over the grid."""
    vectors, queries = _encode(names, data, Encoder.load(model), n_queries)
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", dim=vectors.dim, nbits=nbits, train_at=1)
        start = time.perf_counter()
        index.add([{"id": str(i)} for i in range(len(vectors))], vectors=vectors)
        info = index.info()
        click.echo(
            f"{info['documents']:,} documents, {info['tokens']:,} tokens, {info['centroids']:,} centroids; built in "
            f"{time.perf_counter() - start:.1f} s, {info['bytes'] / info['tokens']:.1f} bytes a token"
        )
        _table(index._generation.collection, vectors, queries)


def _encode(names: tuple[str, ...], data: Path, encoder: Encoder, n_queries: int) -> tuple[Ragged, Queries]:
    collections = [load(data, name) for name in names]
    parts = [encoder.encode_documents(collection.texts, progress=True) for collection in collections]
    joined = Ragged(np.concatenate([p.vectors for p in parts]), offsets_of(np.concatenate([p.lengths for p in parts])))
    texts = [text for collection in collections for text in collection.queries.values()]
    chosen = np.random.default_rng(0).permutation(len(texts))[:n_queries]
    return joined, encoder.encode_queries([texts[i] for i in chosen])


def _table(collection: Collection, vectors: Ragged, queries: Queries) -> None:
    start = time.perf_counter()
    true = [set(top_k(scores(q, vectors), K).tolist()) for q in queries]
    click.echo(f"brute force on float32: {(time.perf_counter() - start) / len(queries) * 1e3:.1f} ms a query")
    own = [set(search(q, collection, K, exact=True).documents.tolist()) for q in queries]
    click.echo(f"{'nprobe':>6} {'candidates':>10} {'own':>6} {'true':>6} {'p50 ms':>7} {'p95 ms':>7}  stages (mean ms)")
    for nprobe, candidates in GRID:
        found, times, stages = [], [], Counter[str]()
        for q in queries:
            start = time.perf_counter()
            result = search(q, collection, K, nprobe=nprobe, candidates=candidates)
            times.append((time.perf_counter() - start) * 1e3)
            found.append(set(result.documents.tolist()))
            stages.update({stage.name: stage.milliseconds for stage in result.trace})
        recalls = [np.mean([len(f & t) / K for f, t in zip(found, truth, strict=True)]) for truth in (own, true)]
        shown = ", ".join(f"{name} {total / len(queries):.1f}" for name, total in stages.items())
        p50, p95 = np.percentile(times, [50, 95])
        click.echo(f"{nprobe:>6} {candidates:>10} {recalls[0]:6.3f} {recalls[1]:6.3f} {p50:7.1f} {p95:7.1f}  {shown}")


if __name__ == "__main__":
    main()
