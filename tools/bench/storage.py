"""What the store costs: opening a large index, adding to it, and the memory that merging takes.

    python -m tools.bench.storage [--documents 190000] [--folder DIR]

The index is synthetic: one block of documents of 80 tokens is encoded and written again and again under other ids, so
the files are as large as real ones. It is removed afterwards.
"""

import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from refcolbert import Index, Ragged
from refcolbert.documents import Document
from refcolbert.storage import segment_files
from refcolbert.storage.segment_files import NewSegment

DIM, TOKENS, BLOCK = 128, 80, 1000


def block(seed: int) -> Ragged:
    """A thousand documents scattered around a few hundred directions."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((300, DIM))
    rows = centres[rng.integers(0, 300, BLOCK * TOKENS)] + rng.standard_normal((BLOCK * TOKENS, DIM))
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return Ragged(vectors, np.arange(BLOCK + 1) * TOKENS)


def names(first: int) -> list[Document]:
    """A thousand documents with texts and metadata."""
    return [Document(id=f"d{i}", text=f"text number {i} " * 20, metadata={"n": i}) for i in range(first, first + BLOCK)]


def build(path: Path, n_docs: int) -> Index:
    """A large index in one segment."""
    index = Index.create(path, dim=DIM, train_at=1)
    index.add(names(0), vectors=block(0))
    codec, made = index._generation.segmented.codec, []
    encoded = segment_files.encode(block(0), names(0), np.arange(BLOCK), codec, 4)
    for first in range(BLOCK, n_docs, BLOCK):
        positions = np.arange(first, first + BLOCK)
        made.append(NewSegment(replace(encoded.segment, positions=positions), names(first), encoded.error))
    with index._writing() as (writer, generation):
        index._publish(writer, generation, generation.stored, made, merge_all=True)
    return index


def seconds(call: Callable[[], Any], times: int = 1) -> float:
    """The median duration."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def peak(call: Callable[[], Any]) -> int:
    """The most bytes that Python and NumPy had allocated at once; mapped files are not counted."""
    tracemalloc.start()
    call()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@click.command()
@click.option("--documents", default=190_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where; default: the system's temporary folder.")
def main(documents: int, folder: Path | None) -> None:
    """Measure and print."""
    scratch = Path(tempfile.mkdtemp(dir=folder))
    try:
        index = build(scratch / "i", documents)
        size = index.info()["bytes"]
        print(f"{documents:,} documents, {documents * TOKENS:,} tokens, {size / 2**30:.2f} GiB")
        fast = seconds(lambda: Index.open(scratch / "i", verify="fast"), 7)
        print(f"open, verify='fast'            {fast * 1e3:8.1f} ms   (aim: below 100)")
        print(f"open, verify='full'            {seconds(lambda: Index.open(scratch / 'i', verify='full')):8.1f} s")
        codec, more = index._generation.segmented.codec, block(7)
        encode = seconds(lambda: codec.encode(more.vectors) if codec else None, 3)
        new = [replace(d, id=f"new-{d.id}") for d in names(0)]
        with Index.open(scratch / "i", verify="fast") as opened:
            add = seconds(lambda: opened.add(new, vectors=more))
            print(f"encode 1,000 documents         {encode:8.2f} s")
            print(f"add them to the index          {add:8.2f} s    ({add / encode:.2f} x; aim: below 2)")
            opened.delete([d.id for d in names(BLOCK)])
            most = peak(opened.compact)
            print(f"compact, most memory at once   {most / 2**20:8.1f} MiB  ({100 * most / size:.1f} % of the index)")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
