"""Building with workers beside one process: the same bytes, and how much faster.

    python -m tools.bench.cluster [--documents 4096] [--workers 2] [--rounds 3]

The documents are docstrings of Python's standard library, in eight partitions, with the default model. One process and
each worker have one thread. The workers have started and have loaded the model before the clock starts. Rounds
alternate, and the fastest of each counts.

Seconds of the processor do not depend much on what else the machine does. The path of a build is what is computed one
after the other: by this process, and by the worker that computes most.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from refcolbert import Encoder, Index, cluster, open_index
from refcolbert.cluster.workers import local_cluster
from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings

PARTITIONS = 8


@click.command()
@click.option("--documents", default=4096, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(documents: int, workers: int, rounds: int) -> None:
    """Measure and print one table."""
    found = list(standard_library_docstrings())[:documents]
    size = -(-len(found) // PARTITIONS)
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    encoder = Encoder.load(threads=1)
    with tempfile.TemporaryDirectory() as scratch, local_cluster(workers) as client:
        folder = Path(scratch)
        cluster.build(folder / "warm", [[d] for d in found[: 4 * workers]], client, encoder=encoder)
        ways: dict[str, tuple[Any, Callable[[Path], Any]]] = {
            "Index.build": (None, lambda path: Index.build(path, found, encoder)),
            "one process": (None, lambda path: cluster.build(path, parts, encoder=encoder)),
            f"{workers} workers": (client, lambda path: cluster.build(path, parts, client, encoder=encoder)),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (used, build) in ways.items():
                shutil.rmtree(folder / name, ignore_errors=True)
                times[name].append(_timed(build, folder / name, used))
        same = len({_tree(folder / name) for name in list(ways)[1:]}) == 1
        with open_index(folder / "one process", verify="fast") as index:
            tokens = index.info()["tokens"]
    print(f"{len(found)} documents, {tokens} tokens; the bytes are {'the same' if same else 'DIFFERENT'}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':14}{'seconds':>9}{'tokens/s':>10}{'ratio':>7}{'CPU s, path':>13}{'tokens/s':>10}{'ratio':>7}")
    one, one_cpu = (min(column) for column in zip(*times["one process"], strict=True))
    for name, rows in times.items():
        wall, cpu = (min(column) for column in zip(*rows, strict=True))
        print(f"{name:14}{wall:9.1f}{tokens / wall:10.0f}{one / wall:7.2f}", end="")
        print(f"{cpu:13.1f}{tokens / cpu:10.0f}{one_cpu / cpu:7.2f}")


def _timed(build: Callable[[Path], Any], path: Path, client: Any) -> tuple[float, float]:
    """Return the seconds of a build, and those of the processor along its path."""
    before = client.run(time.process_time) if client else {}
    start, cpu = time.perf_counter(), time.process_time()
    build(path).close()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    after = client.run(time.process_time) if client else {}
    return seconds, cpu + max((after[name] - before[name] for name in after), default=0.0)


def _tree(folder: Path) -> str:
    """Return one hash of the names and bytes of all files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
