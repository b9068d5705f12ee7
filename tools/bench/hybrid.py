"""Costs of words in an index: bytes, build time, and the latency of a hybrid search beside one by vectors alone.

    python -m tools.bench.hybrid NAME --data DIR [--work DIR] [--documents 100000] [--queries 60]

The collection NAME is encoded once and built twice, with words and without. With --documents, it is also grown: texts
are made of random sentences of its documents, and vectors by `grown`, independently of the texts. So a hybrid search
of the grown collection ranks two disjoint sets of documents, which is its worst case. Latencies are of one query after
the other, modes in turns, without encoding the query.
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import numpy as np

from refcolbert import Document, Encoder, Index
from refcolbert.arrays import Floats
from tools.bench.grown import Grown
from tools.bench.vectors import WORK, corpus_in, write_corpus
from tools.collections import DATA, Collection, load

__all__ = ["sentences"]

SENTENCES = 4  # of a grown document: about as many words as `grown` gives it tokens
MODES = ("late", "words", "hybrid")


@dataclass(frozen=True, slots=True)
class Cost:
    """One index: its seconds and bytes."""

    seconds: float
    size: int


def sentences(texts: Iterable[str]) -> list[str]:
    """The sentences of all texts."""
    found = (sentence.strip() for text in texts for sentence in re.split(r"(?<=[.!?])\s+", text))
    return [sentence for sentence in found if sentence]


def _grown_documents(collection: Collection, n_docs: int) -> Iterator[Document]:
    pool, rng = sentences(collection.texts), np.random.default_rng(0)
    for i in range(n_docs):
        yield Document(id=str(i), text=" ".join(pool[j] for j in rng.integers(0, len(pool), SENTENCES).tolist()))


def _build(path: Path, documents: Iterable[Document], vectors: Iterable[Floats], dim: int, words: str | None) -> Cost:
    start = time.perf_counter()
    index = Index.build(path, documents, vectors=vectors, dim=dim, words=words)
    return Cost(time.perf_counter() - start, index.info()["bytes"])


def _latencies(path: Path, queries: Sequence[tuple[str, Floats]]) -> dict[str, list[float]]:
    """Milliseconds of each query by mode; the modes take turns, after one untimed round."""
    index = Index.open(path, verify="fast")
    times: dict[str, list[float]] = {mode: [] for mode in MODES}
    for warm in (True, False):
        for text, q in queries:
            for mode in MODES:
                start = time.perf_counter()
                index.search(text, vectors=None if mode == "words" else q, mode=mode)
                if not warm:
                    times[mode].append(1e3 * (time.perf_counter() - start))
    return times


def _show(name: str, times: dict[str, list[float]]) -> None:
    click.echo(f"\n{name}\n| mode | p50 ms | p95 ms | p50 / late's p50 |\n|---|--:|--:|--:|")
    for mode, values in times.items():
        p50, p95 = np.percentile(values, [50, 95])
        click.echo(f"| {mode} | {p50:.1f} | {p95:.1f} | {p50 / np.median(times['late']):.2f} |")


@click.command()
@click.argument("name")
@DATA
@WORK
@click.option("--documents", default=0, help="Also grow the collection to this many documents.")
@click.option("--queries", "n_queries", default=60, show_default=True)
def main(name: str, data: Path, work: Path, documents: int, n_queries: int) -> None:
    """Measure the costs of words in collection NAME."""
    collection, encoder = load(data, name), Encoder.load()
    folder = work / f"hybrid-{name}"
    texts = [collection.queries[key] for key in list(collection.queries)[:n_queries]]
    queries = list(zip(texts, encoder.encode_queries(texts), strict=True))
    if not (folder / "corpus.json").is_file():
        start = time.perf_counter()
        vectors = encoder.encode_documents(collection.texts)
        (folder / "seconds").parent.mkdir(parents=True, exist_ok=True)
        (folder / "seconds").write_text(str(time.perf_counter() - start))
        write_corpus(folder, vectors, np.empty((0, 0, vectors.dim), np.float32), [])
    corpus, encoding = corpus_in(folder), float((folder / "seconds").read_text())
    arrays = [corpus.documents.vectors[first:last] for first, last in pairwise(corpus.documents.offsets)]
    costs = {}
    for words in (None, "porter"):
        path = folder / f"index-{words}-{time.time_ns()}"
        costs[words] = _build(path, collection.documents, arrays, encoder.dim, words)
    plain, worded = costs[None], costs["porter"]
    n = len(collection.documents)
    click.echo(f"{name}: {n:,} documents, encoded in {encoding:.1f} s")
    click.echo(f"words: {(worded.size - plain.size) / n:.0f} bytes per document, size x {worded.size / plain.size:.3f}")
    whole = (encoding + worded.seconds) / (encoding + plain.seconds)
    click.echo(
        f"build after encoding {plain.seconds:.1f} s and {worded.seconds:.1f} s; encoding included x {whole:.3f}"
    )
    _show(f"{n:,} documents", _latencies(path, queries))
    if documents:
        path = folder / f"grown-{documents}"
        if not path.exists():
            grown = Grown(corpus, documents).vectors()
            _build(path, _grown_documents(collection, documents), grown, encoder.dim, "porter")
        _show(f"{documents:,} grown documents", _latencies(path, queries))


if __name__ == "__main__":
    main()
