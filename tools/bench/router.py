"""The cost of a router: the time of a query through it, beside the slowest of its parts asked alone, in one run.

    python -m tools.bench.router INDEX [--queries FILE] [--parts 4] [--rounds 3]

INDEX is cut into parts of equally many documents. The router and the service of each part are processes of their own,
with one thread of ONNX Runtime and BLAS per search. Each query is asked of every part alone and then of the router, one
request at a time on open connections, so that other work on the machine slows down all of them alike. The slowest part
is the one with the highest median. Processor times depend less on other work. They give a bound: the time of the
router and of all parts on as many cores as there are. On average no query through a router on this machine takes less.
"""

import os
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import click
import numpy as np

from refcolbert import Index
from refcolbert.evaluation.metrics import read_queries
from refcolbert.evaluation.tune import sample_queries
from tools.bench.serve import served

__all__ = ["cut", "measure", "processor_seconds"]

MODES = ("late", "words", "hybrid")
WARM = 20  # queries before the first that counts


def cut(path: Path, folder: Path, n: int) -> list[Path]:
    """Copies of an index, each with another n-th of its documents."""
    with Index.open(path) as index:
        bounds = np.linspace(0, len(index), n + 1).astype(int).tolist()
        ids = index.ids()
        for i in range(n):
            index.snapshot(folder / f"part-{i}")
    for i in range(n):
        with Index.open(folder / f"part-{i}") as part:
            part.delete([*ids[: bounds[i]], *ids[bounds[i + 1] :]])
            part.compact()
    return [folder / f"part-{i}" for i in range(n)]


def measure(urls: Sequence[str], paths: Sequence[str], rounds: int) -> list[list[float]]:
    """Milliseconds of each service for each request: the least of all rounds, as other work only slows one down."""
    places = [urlsplit(url) for url in urls]
    connections = [HTTPConnection(place.hostname or "", place.port, timeout=60) for place in places]
    best = np.full((len(urls), len(paths)), np.inf)
    for _ in range(rounds):
        for i, path in enumerate([*paths[:WARM], *paths]):
            for j, connection in enumerate(connections):
                start = time.perf_counter()
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                milliseconds = 1e3 * (time.perf_counter() - start)
                if response.status != 200:
                    raise RuntimeError(f"{urls[j]}{path} answered {response.status}")
                if i >= WARM:
                    best[j, i - WARM] = min(best[j, i - WARM], milliseconds)
    return best.tolist()


def processor_seconds(url: str) -> float:
    """Seconds of processor time that a service has taken so far."""
    with urlopen(f"{url}/metrics") as answer:  # noqa: S310 - the address of a process that we have started
        return float(re.search(rb"^process_cpu_seconds_total (\S+)", answer.read(), re.MULTILINE)[1])  # type: ignore[index]


@click.command()
@click.argument("path", metavar="INDEX", type=click.Path(exists=True, path_type=Path))
@click.option("--queries", "file", type=click.Path(exists=True, path_type=Path), help="Default: sentences of INDEX.")
@click.option("--parts", default=4, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(path: Path, file: Path | None, parts: int, rounds: int) -> None:
    """Measure and print."""
    with Index.open(path) as index:
        sampled = sample_queries(index, 100, seed=0) if file is None else list(read_queries(file).values())[:100]
        print(f"{len(index):,} documents in {parts} parts, {len(sampled)} queries, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folders = cut(path, Path(scratch), parts)
        one = ("--threads", str(os.cpu_count()))
        urls = [stack.enter_context(served(folder, *one))[0] for folder in folders]
        urls.append(stack.enter_context(served("--shards", *urls, *one))[0])
        for mode in MODES:
            asked = [f"/search?k=10&mode={mode}&q={quote(str(query), safe='')}" for query in sampled]
            *alone, routed = measure(urls, asked, rounds)
            before = [processor_seconds(url) for url in urls]
            measure(urls[-1:], asked, rounds)
            n = rounds * (min(WARM, len(asked)) + len(asked))
            *of_parts, own = (1e3 * (processor_seconds(url) - b) / n for url, b in zip(urls, before, strict=True))
            bound = (own + sum(of_parts)) / (os.cpu_count() or 1)
            slowest = max(alone, key=lambda times: float(np.median(times)))
            (p50, p95), (own50, own95) = (np.percentile(times, (50, 95)).tolist() for times in (slowest, routed))
            print(
                f"{mode:6}  slowest part p50 {p50:6.1f} ms, p95 {p95:6.1f} ms   router p50 {own50:6.1f} ms, "
                f"p95 {own95:6.1f} ms   added {own50 - p50:5.1f} and {own95 - p95:5.1f} ms   "
                f"processor {own:5.1f} ms, parts {sum(of_parts):5.1f} ms: at least {bound:5.1f} ms"
            )


if __name__ == "__main__":
    main()
