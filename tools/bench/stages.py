"""The time of each stage of a search, beside the least time that this machine could take for it.

    python -m tools.bench.stages CORPUS INDEX [--nprobe 16] [--candidates 1024] [--truth FOLDER]

CORPUS is a folder that `tools.bench.vectors` wrote, INDEX an index of it. The stages are those that a search's trace
tells, one query after the other in one thread. What a stage must do is counted: multiplications of its matrix products,
and bytes of what it reads, once each (of refining without the codes among which it chooses). The machine's rates are
measured beside it: a matrix product of ranking's shape in the cache, and copying memory that does not fit there. The
bound is the larger of the two times; a stage that is far above it does something else, mostly passes over arrays that
lie in the cache.

FOLDER has queries and their exact answers, queries.npy and truth.npy, as `tools.bench.search` and `tools.bench.growth`
keep them. Then these queries are asked, and the share of their answers that is left after each stage is printed too.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from refcolbert import Index
from refcolbert.arrays import Floats, Ints
from refcolbert.engine import ivf
from refcolbert.engine.candidates import candidates_from_lists, generate_candidates, refine
from refcolbert.engine.codec import Codec, row_bytes
from refcolbert.engine.ranking import CHUNK_TOKENS
from refcolbert.engine.search import CANDIDATES, NPROBE, SearchOptions, search
from refcolbert.engine.segments import SegmentedIndex
from refcolbert.engine.trace import Trace
from tools.bench.vectors import corpus_in

__all__ = ["Work", "counted", "left", "measured"]

COPIED = 1 << 26  # bytes of the copy that measures memory
K, RUNS = 10, 7
SCANNED = "the index has no codec: it is scanned, and has no stages"


@dataclass(slots=True)
class Work:
    """What one stage did for some queries: milliseconds of each, things that came out, multiplications, bytes."""

    milliseconds: list[float] = field(default_factory=list)
    out: list[int] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)


def measured(queries: Floats, collection: SegmentedIndex, nprobe: int, candidates: int) -> dict[str, Work]:
    """The stages of a search for each of the queries [n, n_q, dim], in order: name -> what it did."""
    if collection.codec is None:
        raise click.ClickException(SCANNED)
    work: dict[str, Work] = {}
    for q in queries:
        sizes = _sizes(collection.codec, len(q))
        for stage in search(q, collection, K, SearchOptions(nprobe=nprobe, candidates=candidates)).trace:
            did, (size, multiplied) = work.setdefault(stage.name, Work()), sizes[stage.name]
            did.milliseconds.append(stage.milliseconds)
            did.out.append(stage.count)
            did.products.append(stage.read * collection.dim * len(q) * multiplied)
            did.moved.append(stage.read * size)
    return work


def left(queries: Floats, collection: SegmentedIndex, truth: Ints, options: SearchOptions) -> dict[str, float]:
    """The share of the exact answers [n, >= K] that each stage of a search for the queries [n, n_q, dim] leaves."""
    if collection.codec is None:
        raise click.ClickException(SCANNED)
    shares = defaultdict(list)
    eligible, keep = collection.eligible(None), max(options.candidates, K)
    for q, best in zip(queries, truth[:, :K], strict=True):
        prepared = collection.codec.prepare(q)
        pruned, quantized = generate_candidates(
            prepared, collection, eligible, K, options.nprobe, keep, Trace(), widen=False
        )
        cells = ivf.probe(prepared.centroids.T, options.nprobe)
        documents = {
            "candidates": candidates_from_lists(quantized, collection, cells, eligible, len(eligible)).documents,
            "prune": pruned.documents,
            "refine": refine(prepared, quantized, collection, pruned, K).documents,
            "rank": search(q, collection, K, options).documents,
        }
        for name, found in documents.items():
            shares[name].append(np.isin(best, found).mean())
    return {name: float(np.mean(each)) for name, each in shares.items()}


def _sizes(codec: Codec, n_q: int) -> dict[str, tuple[int, bool]]:
    """Bytes of one of the things that a stage reads, and of what it looks up for it; whether it is multiplied."""
    stored = row_bytes(codec.dim, codec.nbits) + 5  # buckets, code, scale, spread
    return {
        "centroids": (4 * codec.dim, True),
        "cells": (5 * n_q, False),  # similarities in, levels out
        "candidates": (4 + n_q, False),  # a document and a row of levels
        "prune": (2 + n_q, False),  # a code and a row of levels
        "refine": (stored, True),
        "rank": (stored, True),
    }


def counted(work: dict[str, Work], gigaflops: float, gigabytes: float) -> list[str]:
    """The table: a line a stage, medians over the queries."""
    head = "| stage | out of it | ms | million multiplications | MB | bound ms | of the time |"
    rows = [head, "|---|" + "--:|" * 6]
    for name, w in work.items():
        took, products, moved = (float(np.median(x)) for x in (w.milliseconds, w.products, w.moved))
        bound = max(2 * products / gigaflops, moved / gigabytes) / 1e6  # milliseconds
        figures = f"{took:.2f} | {products / 1e6:.0f} | {moved / 1e6:.1f} | {bound:.2f} | {bound / took:.0%}"
        rows.append(f"| {name} | {np.median(w.out):,.0f} | {figures} |")
    return rows


def _least(call: Callable[[], object]) -> float:
    """Seconds of the fastest of some calls."""
    found = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for _ in range(RUNS):
            call()
        found.append((time.perf_counter() - start) / RUNS)
    return min(found)


def _rates(dim: int, n_q: int) -> tuple[float, float]:
    """(GFLOP/s of ranking's matrix product, GB/s of copying: read and written)."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((CHUNK_TOKENS, dim), np.float32)  # [n, dim]
    q = np.ascontiguousarray(rng.standard_normal((dim, n_q), np.float32))
    out = np.empty((CHUNK_TOKENS, n_q), np.float32)
    multiplied = _least(lambda: np.matmul(rows, q, out=out))
    source = np.zeros(COPIED, np.uint8)
    copied = _least(source.copy)
    return 2 * CHUNK_TOKENS * dim * n_q / multiplied / 1e9, 2 * COPIED / copied / 1e9


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--nprobe", default=NPROBE, show_default=True)
@click.option("--candidates", default=CANDIDATES, show_default=True)
@click.option("--queries", "n_queries", default=60, show_default=True)
@click.option("--truth", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Exact answers.")
def main(corpus: Path, index: Path, nprobe: int, candidates: int, n_queries: int, truth: Path | None) -> None:
    """Print what each stage of searching INDEX with the queries of CORPUS takes, and could take at least."""
    queries = corpus_in(corpus).queries if truth is None else np.load(truth / "queries.npy")
    chosen = np.sort(np.random.default_rng(0).permutation(len(queries))[:n_queries])  # [n]
    queries = queries[chosen]  # [n, n_q, dim]
    with Index.open(index, verify="fast") as opened:
        collection = opened.segmented
        measured(queries[:5], collection, nprobe, candidates)  # warms up
        work = measured(queries, collection, nprobe, candidates)
        options = SearchOptions(nprobe=nprobe, candidates=candidates)
        shares = {} if truth is None else left(queries, collection, np.load(truth / "truth.npy")[chosen], options)
    gigaflops, gigabytes = _rates(queries.shape[2], queries.shape[1])
    click.echo(f"nprobe {nprobe}, candidates {candidates}; {gigaflops:.0f} GFLOP/s, {gigabytes:.1f} GB/s")
    click.echo("\n".join(counted(work, gigaflops, gigabytes)))
    for name, share in shares.items():
        click.echo(f"of the exact {K} best, left after {name}: {share:.3f}")


if __name__ == "__main__":
    main()
