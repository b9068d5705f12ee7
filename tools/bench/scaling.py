"""Large collections: what they take by the rates of one core, and what they ask of Dask's scheduler.

    python -m tools.bench.scaling [--encode TOKENS_PER_SECOND] [--search FLOPS_PER_SECOND]
    python -m tools.bench.scaling --scheduler 10000

The first form extends `refcolbert.plan` to many machines. The documents are like the docstrings of Python's standard
library, the model is the default one, and the rates of one thread are measured unless they are given.

The second form sends the steps of a build with that many partitions through a scheduler and two workers. The tasks have
the real arguments and return real receipts, but they read and encode nothing. Memory is that of this process, which
holds the scheduler and the client.
"""

import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from refcolbert import Encoder, plan
from refcolbert.cluster.callables import BuildShard, EncodeDocuments, Receipt
from refcolbert.cluster.partitions import JsonLines
from refcolbert.cluster.workers import Workers, local_cluster
from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
from refcolbert.evaluation.plan import Rates
from refcolbert.storage.format import EncoderEntry, Manifest
from refcolbert.storage.shards import SHARDS, write_shards
from tools.bench.peers.protocol import memory

SIZES = (10**6, 10**7, 10**8, 10**9)
CORES = (16, 256)
SHARD_DOCUMENTS = 100_000  # in a shard of the table
SAMPLE = 1000  # documents that are looked at
HOUR = 3600


@click.command()
@click.option("--encode", type=float, help="Tokens per second of one thread; default: measured.")
@click.option("--search", type=float, help="FLOPs per second of a search with one thread; default: measured.")
@click.option("--scheduler", type=int, help="Partitions to send through a scheduler.")
def main(encode: float | None, search: float | None, scheduler: int | None) -> None:
    """Print one table."""
    if scheduler is not None:
        simulate(scheduler)
    else:
        estimate(encode, search)


def estimate(encode: float | None, search: float | None) -> None:
    """Print what collections of several sizes take."""
    encoder, sample = Encoder.load(threads=1), list(standard_library_docstrings())[:SAMPLE]
    rates = plan(1000, sample=sample, encoder=encoder).rates
    rates = Rates(encode=encode or rates.encode, search=search or rates.search)
    print(f"one thread: {rates.encode:,.0f} tokens/s encoded, {rates.search / 1e9:.1f} GFLOP/s in a search")
    hours = "".join(f"{f'hours, {n} cores':>18}" for n in CORES)
    print(
        f"{'documents':>14}{'tokens':>16}{'core hours':>12}{hours}{'index, GB':>11}{'shards':>8}{'codecs, GB':>12}"
        f"{'query, CPU ms':>15}"
    )
    for n in SIZES:
        found = plan(n, sample=sample, encoder=encoder, rates=rates)
        core = sum(found.build.values()) / HOUR
        shards = -(-n // SHARD_DOCUMENTS)
        parts = found.bytes_of[str(found.nbits)]
        # Each shard has the codec's files.
        codecs = shards * parts["centroids"]
        total = sum(parts.values()) - parts["centroids"] + codecs
        hours = "".join(f"{core / n_cores:18,.1f}" for n_cores in CORES)
        print(
            f"{n:14,}{found.n_tokens:16,}{core:12,.0f}{hours}{total / 1e9:11,.1f}{shards:8,}{codecs / 1e9:12,.1f}"
            f"{sum(found.query.values()):15,.0f}"
        )


def simulate(n_partitions: int) -> None:
    """Print what the scheduler needs for a build of this many partitions."""
    encoder = EncoderEntry(hashlib.sha256(b"model").hexdigest(), "/models/answerai-colbert-small-v1")
    settings = Manifest(generation=1, dim=128, nbits=4, train_at=1 << 17, seed=0, words="porter", encoder=encoder)
    names = tuple(f"sample-{_hash(i)}" for i in range(32))
    encode = EncodeDocuments(encoder.source, encoder.hash)
    shard = BuildShard("/data/collection.index.building", encode, settings, f"codec-{_hash(0)}", names)
    path = Path("/data/collection/documents.jsonl")
    parts = [JsonLines(path, path.name, i << 25, 1 << 25, i * SHARD_DOCUMENTS) for i in range(n_partitions)]
    items = [(part, shard, f"shard-{i:04d}", i * SHARD_DOCUMENTS, _hash(i)) for i, part in enumerate(parts)]
    with local_cluster(2) as client, tempfile.TemporaryDirectory() as scratch:
        workers = Workers(client)
        workers.map("warm", _receipt, items[:2])
        before, start, cpu = memory()["private"], time.perf_counter(), time.process_time()
        receipts: list[Receipt] = workers.map("shard", _receipt, items)
        seconds, cpu, used = time.perf_counter() - start, time.process_time() - cpu, memory()["private"] - before
        for receipt in receipts:
            Path(scratch, receipt.name).mkdir()
        write_shards(Path(scratch), [receipt.name for receipt in receipts])
        size = Path(scratch, SHARDS).stat().st_size
    print(
        f"{n_partitions:,} partitions: {seconds:.1f} s for a step, of which scheduler and client compute {cpu:.1f} s; "
        f"they hold {used:,.0f} MiB more; {SHARDS} has {size:,} bytes"
    )


def _receipt(part: Any, shard: BuildShard, prefix: str, first: int, digest: str) -> Receipt:
    """What a worker returns for a shard."""
    return Receipt(f"{prefix}-{digest[:12]}", SHARD_DOCUMENTS, 6_000_000, 450_000_000, digest)


def _hash(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


if __name__ == "__main__":
    main()
