"""How well `refcolbert plan` predicts: indexes are built from a sample's prediction and measured.

    python -m tools.bench.plan [NAMES ...] --data DIR [--work DIR] [--timed 4]

For each collection and number of bits a plan is made, and an index of ready-made vectors (`tools.bench.vectors`).
Printed are predicted / measured, so 1 is right and 2 is twice too much: bytes of each part at every number of bits; at
those of --timed seconds of building, milliseconds of a query and the most memory that a build takes. Encoding is
measured on some documents of the collection. The plan is made from all documents, so that lengths are right and what
is seen is the model; what a sample of every eighth one would have said stands beside it. Then the three figures that
`refcolbert.evaluation.calibration` takes for all collections, as they are in this one.
"""

import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from refcolbert import Encoder, Index
from refcolbert.engine import ivf
from refcolbert.engine.search import NPROBE, search
from refcolbert.engine.segments import SegmentedIndex
from refcolbert.evaluation.calibration import DISTINCT, LOADED, UNIQUE
from refcolbert.evaluation.plan import ALL_BITS, Plan, parts_of, plan
from tools.bench.vectors import WORK, Corpus, gather
from tools.collections import DATA, Collection, load

NAMES = ("cranfield", "medline", "scifact")
STEP = 8  # every so many documents are the sample
ENCODED = 64  # documents
ASKED = 40  # queries


def build(folder: Path, bits: int | str, collection: Collection, corpus: Corpus) -> Index:
    """An index of the collection."""
    path = folder / str(bits)
    return Index.build(path, collection.documents, vectors=corpus.documents, dim=corpus.documents.dim, nbits=bits)


def planned(bits: int | str, collection: Collection, encoder: Encoder, step: int = 1, **more: Any) -> Plan:
    """What is predicted from every so many documents."""
    return plan(len(collection.documents), sample=collection.documents[::step], encoder=encoder, nbits=bits, **more)


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it gives."""
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def ratios(predicted: Mapping[str, float], measured: Mapping[str, float]) -> Iterator[str]:
    """name, measured, predicted / measured; and the same of the sums."""
    pairs = {name: (predicted.get(name, 0), size) for name, size in measured.items() if size}
    pairs["total"] = (sum(predicted.values()), sum(measured.values()))
    for name, (guess, size) in pairs.items():
        yield f"    {name:12} {size:14,.6g}  {guess / size:6.3f}"


def asked(index: Index, corpus: Corpus) -> dict[str, float]:
    """Median milliseconds of each stage over some queries, one after the other."""
    stages: dict[str, list[float]] = {}
    for q in corpus.queries[:ASKED]:
        whole, _ = seconds(lambda q=q: index.search(q))  # type: ignore[misc]
        inside, result = seconds(lambda q=q: search(q, index.segmented, 10))  # type: ignore[misc]
        took = {stage.name: stage.milliseconds for stage in result.trace}
        for name, milliseconds in {**took, "answer": 1e3 * (whole - inside)}.items():
            stages.setdefault(name, []).append(milliseconds)
    return {name: statistics.median(found) for name, found in stages.items()}


def shares(collection: SegmentedIndex, queries: Iterable[Any]) -> tuple[float, float, float]:
    """DISTINCT, UNIQUE and LOADED of a collection of one segment."""
    (segment,), codec = collection.segments, collection.codec
    if segment.lists is None or codec is None:
        return (float("nan"),) * 3
    mean = len(segment.lists.documents) / len(codec.centroids)
    asked = list(queries)
    cells = [ivf.probe((codec.centroids @ q.T).T, NPROBE) for q in asked]
    entries = [len(ivf.entries(segment.lists, c)[0]) / len(c) for c in cells]
    unique = [len(c) / min(len(q) * NPROBE, len(codec.centroids)) for c, q in zip(cells, asked, strict=True)]
    return (
        len(segment.lists.documents) / int(segment.offsets[-1]),
        float(np.mean(unique)),
        float(np.mean(entries)) / mean,
    )


def report(collection: Collection, corpus: Corpus, encoder: Encoder, timed: Sequence[str]) -> None:
    """Everything about one collection."""
    tokens = len(corpus.documents.vectors)
    print(f"\n{collection.name}: {len(corpus.documents):,} documents, {tokens:,} tokens")
    with tempfile.TemporaryDirectory() as scratch:
        plans = {bits: planned(bits, collection, encoder) for bits in ALL_BITS if str(bits) in timed}
        first = next(iter(plans.values()))
        sampled = planned(first.nbits, collection, encoder, STEP, calibration=first.calibration)
        off = sampled.tokens_per_document / first.tokens_per_document
        print(f"  every {STEP}th document: {off:.3f} of the tokens, standard error {sampled.standard_error:.3f}")
        for bits in ALL_BITS:
            found = plans.get(bits, first)  # every plan has the bytes at all of them
            took, index = seconds(lambda bits=bits: build(Path(scratch), bits, collection, corpus))  # type: ignore[misc]
            sizes = parts_of(index.info()["bytes_of"])
            print(f"  bytes at {bits} bits: measured, predicted / measured")
            print("\n".join(ratios(found.bytes_of[str(bits)], sizes)))
            if str(bits) in timed:
                report_times(found, took, index, collection, corpus, encoder)
            index.close()
        report_memory(found, Path(scratch), collection, corpus)


def report_times(
    found: Plan, took: float, index: Index, collection: Collection, corpus: Corpus, encoder: Encoder
) -> None:
    """Building, encoding, searching."""
    some = collection.texts[:: max(len(collection.texts) // ENCODED, 1)][:ENCODED]
    encoding, vectors = seconds(lambda: encoder.encode_documents(some))
    n_tokens = len(vectors.vectors)
    rate = found.build["encode"] / found.n_tokens
    print(f"  seconds of building, {found.nbits} bits: measured, predicted / measured")
    print("\n".join(ratios({"encode": rate * n_tokens}, {"encode": encoding})).splitlines()[0])
    rest = sum(found.build.values()) - found.build["encode"]
    print("\n".join(ratios({"the rest": rest}, {"the rest": took})).splitlines()[0])
    print(f"  milliseconds of a query, {found.nbits} bits: measured, predicted / measured")
    texts = list(collection.queries.values())[:ASKED]
    measured = {
        "encode": 1e3 * statistics.median([seconds(lambda t=t: encoder.encode_queries([t]))[0] for t in texts]),  # type: ignore[misc]
        **asked(index, corpus),
    }
    print("\n".join(ratios(found.query, measured)))
    distinct, unique, loaded = shares(index.segmented, corpus.queries[:ASKED])
    print(
        f"  distinct {distinct:.3f} (plan: {DISTINCT}), unique {unique:.3f} ({UNIQUE}), loaded {loaded:.3f} ({LOADED})"
    )


def report_memory(found: Plan, scratch: Path, collection: Collection, corpus: Corpus) -> None:
    """The most that a build held at once."""
    tracemalloc.start()
    build(scratch / "traced", found.nbits, collection, corpus).close()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"  most memory of building, {found.nbits} bits: measured, predicted / measured")
    print(next(ratios({"build": found.memory["build"]}, {"build": most})))


@click.command()
@click.argument("names", nargs=-1)
@DATA
@WORK
@click.option("--timed", multiple=True, default=("4",), show_default=True, help="Numbers of bits to measure times at.")
@click.option("--threads", type=int, help="Of ONNX Runtime; OPENBLAS_NUM_THREADS is NumPy's.")
def main(names: tuple[str, ...], data: Path, work: Path, timed: tuple[str, ...], threads: int | None) -> None:
    """Measure collections NAMES (default: cranfield, medline, scifact) and print."""
    encoder = Encoder.load(threads=threads)
    for name in names or NAMES:
        report(load(data, name), gather([name], data, work), encoder, timed)


if __name__ == "__main__":
    main()
