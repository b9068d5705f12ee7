"""The growth of costs: a large synthetic corpus from real token vectors, built in bounded memory, searched, compared.

    python -m tools.bench.growth CORPUS --documents 100000 [--work DIR] [--nbits 4] [--queries 20]

CORPUS is a folder that `tools.bench.vectors` wrote; `grown` makes the large corpus from it. An interrupted run
continues where it stopped, and results in the work folder are not computed again.

Opening and searching happen in a process of their own, once as it is and once with a memory limit of a quarter of the
index, page cache included, where Linux lets us set one: cgroup v2 with a memory controller for new groups, or systemd.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
import numpy as np
from numpy.typing import NDArray

from refcolbert import Index
from refcolbert.arrays import Floats
from tools import ROOT
from tools.bench.engines import POOLS
from tools.bench.figures import recall
from tools.bench.grown import BLOCK, TOKENS, Grown, Scan
from tools.bench.peers.protocol import Job, memory
from tools.bench.vectors import WORK, corpus_in

__all__ = ["estimate"]

LEAST_LIMIT = 256 << 20  # Python and its libraries alone take a part of this
CGROUP = Path("/sys/fs/cgroup")
POINTS = [
    {"nprobe": nprobe, "candidates": candidates, "threads": threads}
    for threads in (2, 1)
    for nprobe, candidates in ((2, 128), (4, 256), (8, 512), (16, 512), (16, 1024))
]


class PeakPrivate:
    """The most private memory (RssAnon, MiB) that this process held while the block ran; looked at every 50 ms."""

    def __enter__(self) -> Self:
        self.peak, self._over = memory()["private"], threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, memory()["private"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def estimate(grown: Grown, queries: Floats, nbits: int, scratch: Path) -> tuple[float, float]:
    """Seconds that building and scanning will take, from two blocks: growth is linear but for fitting the codec."""
    pilot = Grown(grown.corpus, min(2 * BLOCK, grown.n_docs), grown.seed)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    building = _seconds(lambda: _build(pilot, scratch / "index", nbits))
    scanning = _seconds(lambda: Scan(pilot, queries, scratch / "truth.npz").add(0))
    shutil.rmtree(scratch)
    return building * grown.n_docs / pilot.n_docs, scanning * grown.n_blocks


def _build(grown: Grown, path: Path, nbits: int) -> None:
    dim = grown.corpus.documents.dim
    Index.build(path, grown.documents(), vectors=grown.vectors(), dim=dim, nbits=nbits, train_at=1).close()


def _limit(size: int) -> list[str] | None:
    """The words before a command that limit its memory, page cache included; None where that is impossible."""
    control = CGROUP / "cgroup.subtree_control"
    if control.is_file() and "memory" in control.read_text().split() and os.access(CGROUP, os.W_OK):
        group = CGROUP / "refcolbert-growth"
        group.mkdir(exist_ok=True)
        (group / "memory.max").write_text(str(size))
        return ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    command = ["systemd-run", "--scope", "--quiet", "-p", f"MemoryMax={size}", "-p", "MemorySwapMax=0"]
    able = shutil.which("systemd-run") and not subprocess.run([*command, "true"], capture_output=True).returncode
    return command if able else None


def _forget(folder: Path) -> None:
    """Drop the files of an index from the page cache, so that the next process reads and is charged for them."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _search(job: Job, path: Path, before: list[str]) -> dict[str, Any]:
    """Search in a process of its own."""
    variables = {**dict.fromkeys(POOLS, str(job.threads)), "OPENBLAS_NUM_THREADS": "1"}
    command = [*before, sys.executable, "-m", "tools.bench.peers.refcolbert", "search", str(job.write(path))]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **variables})
    found: dict[str, Any] = json.loads(Path(job.out).read_text())
    return found


def _print(found: dict[str, Any], truth: NDArray[np.int64], size: int) -> None:
    click.echo("| nprobe | candidates | threads | recall@10 | p50 ms | p95 ms | queries/s in a batch |\n|" + "--:|" * 7)
    for measured in found["points"]:
        point, (p50, p95) = measured["point"], np.percentile(measured["times"], [50, 95])
        figures = f"{recall(measured['found'], truth, 10):.3f} | {p50:.1f} | {p95:.1f}"
        rate = len(truth) / measured["batch_seconds"]
        click.echo(f"| {point['nprobe']} | {point['candidates']} | {point['threads']} | {figures} | {rate:.1f} |")
    peak, private = found["memory"]["peak"], found["memory"]["private"]
    share = private * 2**20 / size
    click.echo(f"peak memory {peak:.0f} MiB, in the end {private:.0f} MiB private: {share:.1%} of the index\n")


def _built(grown: Grown, queries: Floats, nbits: int, folder: Path) -> dict[str, Any]:
    """Build unless that is done; the measurements."""
    done = folder / "build.json"
    if not done.is_file():
        building, scanning = estimate(grown, queries, nbits, folder / "pilot")
        click.echo(f"estimate: build {building / 60:.1f} min, exact scan {scanning / 60:.1f} min")
        with PeakPrivate() as private:
            seconds = _seconds(lambda: _build(grown, folder / "index", nbits))
        done.write_text(json.dumps({"seconds": seconds, "private": private.peak}))
    found: dict[str, Any] = json.loads(done.read_text())
    return found


def _searched(folder: Path, corpus: Path, nbits: int, truth: NDArray[np.int64], size: int) -> None:
    """Search as it is, then with a limit."""
    names = {name: str((folder / f"{name}.npy").absolute()) for name in ("queries", "truth")}
    out, index = str((folder / "search.json").absolute()), str(folder.absolute())
    job = Job(**names, corpus=str(corpus), index=index, nbits=nbits, threads=2, points=POINTS, out=out)
    _print(_search(job, folder / "search.job", []), truth, size)
    limit = max(size // 4, LEAST_LIMIT)
    before = _limit(limit)
    if before is None:
        click.echo("no memory limit can be set here: neither cgroup v2 with a memory controller nor systemd")
        return
    _forget(folder / "index")
    click.echo(f"with a memory limit of {limit / 2**20:.0f} MiB, nothing in the page cache at first:")
    _print(_search(job, folder / "limited.job", before), truth, size)


@click.command()
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@WORK
@click.option("--documents", default=100_000, show_default=True)
@click.option("--nbits", default=4, show_default=True)
@click.option("--queries", "n_queries", default=20, show_default=True, help="Real ones of the corpus, seeded.")
def main(corpus: Path, work: Path, documents: int, nbits: int, n_queries: int) -> None:
    """Grow CORPUS to --documents, build, search, compare with the exact scan."""
    real = corpus_in(corpus)
    grown = Grown(real, documents)
    folder = work / f"grown-{documents}-{nbits}bits-{n_queries}queries"
    folder.mkdir(parents=True, exist_ok=True)
    queries = real.queries[np.sort(np.random.default_rng(0).permutation(len(real.queries))[:n_queries])]
    np.save(folder / "queries.npy", queries)
    click.echo(f"{documents:,} documents, {documents * TOKENS:,} tokens, {nbits} bits, {len(queries)} queries")
    built = _built(grown, queries, nbits, folder)
    size = Index.open(folder / "index", verify="fast").info()["bytes"]  # what a snapshot of it takes
    per_token = f"{size / 2**20:.0f} MiB, {size / (documents * TOKENS):.1f} bytes a token"
    click.echo(f"built in {built['seconds']:.1f} s, at most {built['private']:.0f} MiB private; {per_token}")
    start = time.perf_counter()
    truth = Scan(grown, queries, folder / "truth.npz").run()
    click.echo(f"exact answer scanned in {time.perf_counter() - start:.1f} s\n")
    np.save(folder / "truth.npy", truth)
    _searched(folder, corpus.absolute(), nbits, truth, size)


if __name__ == "__main__":
    main()
