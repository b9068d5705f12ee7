"""Searches beside a busy process: their time with one and two threads of BLAS, quiet and with one core taken.

    python -m tools.bench.busy CORPUS [--rounds 3] [--record]

CORPUS is a folder that `tools.bench.vectors` wrote. It is indexed first, which takes some seconds. Each line is
measured in a process of its own, whose BLAS has the line's number of threads. It searches for all queries of a round
while nothing else runs, and then again beside a process that hashes without pause. A ratio is to the line's own quiet
median, so that the table can be read on any machine; one that is not quiet makes all of them smaller. --record writes
the table to benchmarks/19-search-busy.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from refcolbert import Index
from refcolbert.arrays import Floats
from tools.bench.engines import POOLS
from tools.bench.pages import record
from tools.bench.vectors import corpus_in

__all__ = ["beside_a_busy_process", "line", "times_of"]

# Name, parameters, queries of a round: an exact search takes several times as long as the others.
SEARCHES: dict[str, tuple[dict[str, Any], int]] = {
    "nprobe 2, candidates 96": ({"nprobe": 2, "candidates": 96}, 20),
    "default": ({}, 20),
    "exact": ({"exact": True}, 5),
}
THREADS = ((1, 1), (1, 2), (2, 1), (2, 2))  # of a search, of BLAS
COLUMNS = ["search", "threads", "of BLAS", "quiet p50, ms", "p95 / p50", "busy p50 / quiet p50", "p95 / quiet p50"]
WARM = 3  # queries before the first that counts
HASH = "import hashlib; x = b'0'\nwhile True: x = hashlib.sha256(x).digest()"


@contextmanager
def beside_a_busy_process() -> Iterator[None]:
    """While the block runs, another process computes the same chain of hashes on one core, without a pause."""
    with subprocess.Popen([sys.executable, "-c", HASH]) as process:
        try:
            time.sleep(0.2)  # until it computes
            yield
        finally:
            process.kill()


def times_of(index: Index, queries: Floats, options: dict[str, Any]) -> list[float]:
    """Milliseconds of a search for each of the queries [n, n_q, dim], after some that do not count."""
    times = []
    for q in (*queries[:WARM], *queries):
        start = time.perf_counter()
        index.search(q, 10, **options)
        times.append(1e3 * (time.perf_counter() - start))
    return times[WARM:]


def line(index: Index, queries: Floats, name: str, threads: int, rounds: int) -> list[float]:
    """The figures of one line: the quiet median, and three ratios to it."""
    options, n = SEARCHES[name]
    quiet: list[float] = []
    busy: list[float] = []
    for _ in range(rounds):
        quiet += times_of(index, queries[:n], {**options, "threads": threads})
        with beside_a_busy_process():
            busy += times_of(index, queries[:n], {**options, "threads": threads})
    (p50, p95), (busy50, busy95) = (np.percentile(times, [50, 95]).tolist() for times in (quiet, busy))
    return [round(p50, 1), round(p95 / p50, 2), round(busy50 / p50, 2), round(busy95 / p50, 2)]


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", default=3, show_default=True)
@click.option("--record", "recorded", is_flag=True, help="Write the table to benchmarks/.")
@click.option("--line", "wanted", nargs=3, type=(click.Path(path_type=Path), str, int), hidden=True)
def main(corpus: Path, rounds: int, recorded: bool, wanted: tuple[Path, str, int] | None) -> None:
    """Index CORPUS and measure all lines, each in a process of its own."""
    read = corpus_in(corpus)
    queries = read.queries[np.sort(np.random.default_rng(0).permutation(len(read.queries))[:20])]  # [n, n_q, dim]
    if wanted is not None:
        path, name, threads = wanted
        with Index.open(path, verify="fast") as index:
            click.echo(json.dumps(line(index, queries, name, threads, rounds)))
        return
    click.echo(f"{len(read.documents):,} documents, {len(read.documents.vectors):,} tokens, {os.cpu_count()} cores")
    click.echo(f"| {' | '.join(COLUMNS)} |\n|---|{'--:|' * (len(COLUMNS) - 1)}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        ids = ({"id": str(i)} for i in range(len(read.documents)))
        Index.build(path, ids, vectors=iter(read.documents), dim=read.documents.dim, train_at=1).close()
        for name in SEARCHES:
            for threads, blas in THREADS:
                command = [sys.executable, "-m", "tools.bench.busy", str(corpus), "--rounds", str(rounds)]
                variables = {**os.environ, **dict.fromkeys(POOLS, str(blas))}
                printed = subprocess.run(
                    [*command, "--line", str(path), name, str(threads)],
                    check=True,
                    env=variables,
                    capture_output=True,
                    text=True,
                ).stdout
                rows.append([name, threads, blas, *json.loads(printed)])
                click.echo(f"| {' | '.join(map(str, rows[-1]))} |")
    if recorded:
        record("19-search-busy.json", rows)


if __name__ == "__main__":
    main()
