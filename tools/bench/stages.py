"""Where a search's time goes, stage by stage, beside the least that this machine could take for it.

    python -m tools.bench.stages CORPUS INDEX [--nprobe 16] [--candidates 1024]

CORPUS is a folder that `tools.bench.vectors` wrote, INDEX an index of it. Each stage runs as `search` runs it, one
query after the other in one thread. What a stage must do is counted: multiplications of its matrix products, and bytes
that it reads and writes once each. The machine's rates are measured beside it: a matrix product of ranking's shape in
the cache, and copying memory that does not fit there. The bound is the larger of the two times; a stage that is far
above it does something else, mostly passes over arrays that lie in the cache.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from refcolbert import Index, ivf
from refcolbert.collection import Collection
from refcolbert.search import (
    CANDIDATES,
    CHUNK_TOKENS,
    NPROBE,
    PRUNED,
    RANKED,
    SPARE,
    find,
    nearest,
    prune,
    rank,
    refine,
    round_to_levels,
)
from refcolbert.topk import top_k
from tools.bench.vectors import corpus_in

__all__ = ["Work", "counted", "stages"]

COPIED = 1 << 26  # bytes of the copy that measures memory
K, RUNS = 10, 7

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(slots=True)
class Work:
    """What one stage did for some queries: seconds of each, things that came out, multiplications, bytes."""

    seconds: list[float] = field(default_factory=list)
    out: list[int] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)

    def add(self, seconds: float, out: int, products: int, moved: int) -> None:
        """One query."""
        self.seconds.append(seconds)
        self.out.append(out)
        self.products.append(products)
        self.moved.append(moved)


def stages(q: Floats, collection: Collection, nprobe: int, candidates: int, work: dict[str, Work]) -> Ints:
    """Search with every stage measured: [n_hits] documents, as `search` gives them."""
    codec, n_q = collection.codec, len(q)
    if codec is None:
        raise click.ClickException("the index has no codec: it is scanned, and has no stages")
    n_centroids, eligible = len(codec.centroids), collection.live
    now = time.perf_counter

    start = now()
    asked = codec.ask(q)
    work["centroids"].add(now() - start, n_centroids, n_centroids * codec.dim * n_q, codec.centroids.nbytes)

    start = now()
    table = round_to_levels(asked.centroids)  # [n_centroids, n_q]
    cells = ivf.probe(asked.centroids.T, nprobe)
    work["cells"].add(now() - start, len(cells), 0, asked.centroids.nbytes + table.nbytes)

    start = now()
    found, scores = find(table, collection, cells, eligible)
    took = now() - start
    entries = sum(len(ivf.entries(s.lists, cells)[0]) for s in collection.segments if s.lists is not None)
    work["candidates"].add(took, len(found), 0, entries * (4 + n_q))

    start = now()
    kept = np.sort(found[top_k(scores, PRUNED * candidates)]) if len(found) > PRUNED * candidates else found
    chosen = prune(table, collection, kept, candidates)
    work["prune"].add(now() - start, len(chosen), 0, int(collection.lengths[kept].sum()) * (2 + n_q))

    stored = codec.dim * codec.nbits // 8 + 5  # bytes: buckets, code, scale, spread
    start = now()
    refined = refine(asked, table, collection, chosen, RANKED * K + SPARE)
    took = now() - start
    tokens = sum(
        len(nearest(table, s.encoded.codes, s.offsets[rows], s.offsets[rows + 1] - s.offsets[rows]))
        for s, rows in collection.parts(chosen)
        if s.encoded is not None and len(refined) < len(chosen)
    )
    moved = int(collection.lengths[chosen].sum()) * (2 + n_q) + tokens * stored
    work["refine"].add(took, len(refined), tokens * codec.dim * n_q, moved)

    start = now()
    documents, _ = rank(q, asked, collection, refined, K)
    took = now() - start
    tokens = int(collection.lengths[refined].sum())
    work["rank"].add(took, len(documents), tokens * codec.dim * n_q, tokens * stored)
    return documents


def counted(work: dict[str, Work], gigaflops: float, gigabytes: float) -> list[str]:
    """The table: a line a stage, medians over the queries."""
    head = "| stage | out of it | ms | million multiplications | MB | bound ms | of the time |"
    rows = [head, "|---|" + "--:|" * 6]
    for name, w in work.items():
        took, products, moved = (float(np.median(x)) for x in (w.seconds, w.products, w.moved))
        bound = max(2 * products / gigaflops, moved / gigabytes) / 1e9
        figures = (
            f"{took * 1e3:.2f} | {products / 1e6:.0f} | {moved / 1e6:.1f} | {bound * 1e3:.2f} | {bound / took:.0%}"
        )
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
def main(corpus: Path, index: Path, nprobe: int, candidates: int, n_queries: int) -> None:
    """Print what each stage of searching INDEX with the queries of CORPUS takes, and could take at least."""
    queries = corpus_in(corpus).queries
    queries = queries[np.sort(np.random.default_rng(0).permutation(len(queries))[:n_queries])]  # [n, n_q, dim]
    with Index.open(index, verify="fast") as opened:
        collection = opened.collection
        for warm in (True, False):
            work = {name: Work() for name in ("centroids", "cells", "candidates", "prune", "refine", "rank")}
            for q in queries[:5] if warm else queries:
                stages(q, collection, nprobe, candidates, work)
    gigaflops, gigabytes = _rates(queries.shape[2], queries.shape[1])
    click.echo(f"nprobe {nprobe}, candidates {candidates}; {gigaflops:.0f} GFLOP/s, {gigabytes:.1f} GB/s")
    click.echo("\n".join(counted(work, gigaflops, gigabytes)))


if __name__ == "__main__":
    main()
