"""Compare the estimates of `refcolbert plan` with measurements.

    python -m tools.bench.plan [NAMES ...] --data DIR [--work DIR] [--nbits 4]

Each collection is planned, built from its vectors (`tools.bench.vectors`) and searched. Printed are the estimate, the
measurement and their ratio: 1 is right, 2 is twice too much. The plan counts the tokens of all documents, so that the
model is compared and not the sample; one line says what a sample of every eighth document would have given.
"""

import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from refcolbert import Encoder, Index
from refcolbert.engine.search import search
from refcolbert.evaluation.plan import plan
from tools.bench.vectors import WORK, Corpus, gather
from tools.collections import DATA, Collection, load

NAMES = ("cranfield", "medline")
STEP = 8  # every so many documents are the sample
ENCODED = 64  # documents
QUERIES = 40


def seconds(call: Callable[[], Any]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(collection: Collection, corpus: Corpus, encoder: Encoder, nbits: int) -> Iterator[tuple[str, float, float]]:
    """Yield quantity, estimate, measurement."""
    n_docs, vectors = len(collection.documents), corpus.documents
    estimate = plan(n_docs, sample=collection.documents, encoder=encoder, nbits=nbits)
    sample = collection.documents[::STEP]
    sampled = plan(n_docs, sample=sample, encoder=encoder, nbits=nbits, rates=estimate.rates)
    with tempfile.TemporaryDirectory() as folder:

        def build(name: str) -> None:
            path = Path(folder) / name
            Index.build(path, collection.documents, vectors=vectors, dim=vectors.dim, nbits=nbits).close()

        took = seconds(lambda: build("timed"))
        tracemalloc.start()
        build("traced")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        with Index.open(Path(folder) / "timed") as index:
            size = index.info()["bytes"]
            searched = [seconds(lambda q=q: search(q, index.segmented, 10)) for q in corpus.queries[:QUERIES]]  # type: ignore[misc]
    yield "bytes", sum(estimate.bytes_of[str(nbits)].values()), size
    yield f"bytes, by every {STEP}th document", sum(sampled.bytes_of[str(nbits)].values()), size
    yield "build, peak bytes of memory", estimate.memory["build"], peak
    yield "build without encoding, s", estimate.build["compress"], took
    texts = collection.texts[:: max(n_docs // ENCODED, 1)]
    n_tokens = sum(len(tokens.ids) for tokens in encoder.tokenizer.documents(texts))
    encoded = seconds(lambda: encoder.encode_documents(texts))
    yield f"encode {len(texts)} documents, s", n_tokens / (estimate.rates.encode or 1), encoded
    queries = list(collection.queries.values())[:QUERIES]
    asked = [seconds(lambda text=text: encoder.encode_queries([text])) for text in queries]  # type: ignore[misc]
    yield "encode a query, ms", estimate.query["encode"], 1e3 * statistics.median(asked)
    yield "search, ms", estimate.query["search"], 1e3 * statistics.median(searched)


@click.command()
@click.argument("names", nargs=-1)
@DATA
@WORK
@click.option("--nbits", default=4, show_default=True)
@click.option("--threads", type=int, help="Of ONNX Runtime; OPENBLAS_NUM_THREADS is NumPy's.")
def main(names: tuple[str, ...], data: Path, work: Path, nbits: int, threads: int | None) -> None:
    """Compare collections NAMES (default: cranfield, medline)."""
    encoder = Encoder.load(threads=threads)
    for name in names or NAMES:
        collection, corpus = load(data, name), gather([name], data, work)
        print(f"{name}: {len(corpus.documents):,} documents, {len(corpus.documents.vectors):,} tokens")
        for quantity, predicted, measured in compare(collection, corpus, encoder, nbits):
            print(f"  {quantity:32}{predicted:16,.6g}{measured:16,.6g}{predicted / measured:8.3f}")


if __name__ == "__main__":
    main()
