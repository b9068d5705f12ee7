"""The cost of the service: queries per second over HTTP and in process, for the same searches in one run.

    python -m tools.bench.serve INDEX [--queries FILE] [--seconds 10] [--connections 16] [--threads 2] [--rounds 3]

Needs wrk (Debian: apt-get install wrk). In process, `--threads` threads search one after the other, each with one
thread of ONNX Runtime and BLAS, or all queries go through `search_many` in batches, encoded and searched by as many
threads; the faster of the two is what the service is compared with. The service runs as a process of its own with as
many threads, and once more with no queries encoded together. Rounds alternate between the ways, and the best round of
each counts, as other work on the machine only ever slows one down.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import quote

import click

from refcolbert import IndexReader
from refcolbert.evaluation.metrics import read_queries
from refcolbert.evaluation.tune import sample_queries
from refcolbert.service import Live

__all__ = ["Load", "load", "served"]

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
BATCH = 16
# wrk asks for one path after the other; each of its threads would begin at the first
SCRIPT = """
local paths, n = {%s}, 0
request = function() n = n %% #paths + 1; return wrk.format("GET", paths[n]) end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('{"rate": %%f, "p50": %%f, "p99": %%f, "most": %%f, "bad": %%d}\\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, e.connect + e.read + e.write + e.timeout + e.status))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """The measurements of wrk: queries per second, milliseconds, failed requests."""

    rate: float
    p50: float
    p99: float
    most: float
    bad: int


@contextmanager
def served(*arguments: str | Path) -> Iterator[tuple[str, int, Path]]:
    """`refcolbert serve` with these arguments, as a process: its URL, its process id, and where its stderr goes."""
    program = "from refcolbert.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", *map(str, arguments), "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "stderr"
        with said.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as process:
            try:
                yield _url(process, said), process.pid, said
            finally:
                process.terminate()


def _url(process: "subprocess.Popen[bytes]", said: Path) -> str:
    """The URL of the service, once it listens."""
    while process.poll() is None:
        if match := re.search(r"is served at (\S+)/\s", said.read_text()):
            return match[1]
        time.sleep(0.05)
    raise RuntimeError(f"the service did not start: {said.read_text()}")


def load(url: str, queries: Sequence[str], connections: int, seconds: int) -> Load:
    """Ask a service these queries, over and over."""
    paths = ",".join(f'"/search?k=10&q={quote(query, safe="")}"' for query in queries)
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / "script.lua"
        script.write_text(SCRIPT % paths)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script), url]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Load(**json.loads(printed.splitlines()[-1]))


def in_threads(live: Live, queries: Sequence[str], threads: int, seconds: int) -> float:
    """Queries per second of `threads` threads that each search one query at a time."""
    numbers, end = count(), time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            live.now.index.search(queries[next(numbers) % len(queries)], 10)
            done += 1
        return done

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(work, range(threads)))
    return done / (time.perf_counter() - start)


def in_batches(live: Live, queries: Sequence[str], threads: int, seconds: int) -> float:
    """Queries a second of `search_many`."""
    start, done = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        batch = [queries[(done + i) % len(queries)] for i in range(BATCH)]
        done += len(live.now.index.search_many(batch, 10, threads=threads))
    return done / (time.perf_counter() - start)


@click.command()
@click.argument("path", metavar="INDEX", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--queries", "file", type=click.Path(exists=True, path_type=Path), help="Default: sentences of the index."
)
@click.option("--seconds", default=10, show_default=True)
@click.option("--connections", default=16, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(path: Path, file: Path | None, seconds: int, connections: int, threads: int, rounds: int) -> None:
    """Measure and print."""
    if shutil.which("wrk") is None:
        raise click.UsageError("wrk is not installed; on Debian: apt-get install wrk")
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):  # NumPy has read them when it is imported
        os.execve(sys.executable, [sys.executable, "-m", "tools.bench.serve", *sys.argv[1:]], _one_thread())  # noqa: S606
    live, wide = Live(path), Live(path, threads=threads)
    queries = _queries(live.now.index, file)
    rates: dict[str, list[float]] = {"threads": [], "batches": []}
    loads: dict[str, list[Load]] = {"service": [], "service, none together": []}
    own = ("--threads", str(threads))
    with served(path, *own) as (url, _, _), served(path, *own, "--max-together", "1") as (alone, _, _):
        places = dict(zip(loads, (url, alone), strict=True))
        for place in places.values():
            load(place, queries, connections, 1)
        for _ in range(rounds):
            rates["threads"].append(in_threads(live, queries, threads, seconds))
            rates["batches"].append(in_batches(wide, queries, threads, seconds))
            for name, place in places.items():
                loads[name].append(load(place, queries, connections, seconds))
        _print(live.now.index, len(queries), rates, loads, connections, threads)
        for other in (1, 4, 64):
            print(_line(f"service, {other} connections", load(url, queries, other, seconds)))


def _one_thread() -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}


def _queries(index: IndexReader, file: Path | None) -> list[str]:
    if file is not None:
        return list(read_queries(file).values())
    return [query for query in sample_queries(index, 200, seed=0) if isinstance(query, str)]


def _print(
    index: IndexReader,
    n_queries: int,
    rates: dict[str, list[float]],
    loads: dict[str, list[Load]],
    connections: int,
    threads: int,
) -> None:
    info = index.info()
    print(f"{info['documents']:,} documents, {info['tokens']:,} tokens, {n_queries} queries, {threads} threads")
    for name, measured in rates.items():
        print(f"{f'in process, {name}':28} {max(measured):7.1f} queries/s of {[round(one, 1) for one in measured]}")
    best = {name: max(measured, key=lambda one: one.rate) for name, measured in loads.items()}
    for name, one in best.items():
        print(_line(name, one), f"of {[round(each.rate, 1) for each in loads[name]]}")
    in_pool, fastest = max(rates["threads"]), max(max(measured) for measured in rates.values())
    rate = best["service"].rate
    print(
        f"{connections} connections / in process: {rate / fastest:.2f} of the faster, {rate / in_pool:.2f} of threads"
    )


def _line(name: str, measured: Load) -> str:
    times = f"p50 {measured.p50:.1f} ms, p99 {measured.p99:.1f} ms, slowest {measured.most:.1f} ms"
    return f"{name:28} {measured.rate:7.1f} queries/s, {times}, {measured.bad} failed"


if __name__ == "__main__":
    main()
