"""Pages as images: size, build and search of an index with a thousand vectors per document, from synthetic patches.

    OPENBLAS_NUM_THREADS=1 python -m tools.bench.images [--pages 300] [--queries 20]

A page has 1,030 unit vectors of dim 128, as many as ColPali gives: a grid of 32 by 32 patches, and 6 rows that are
alike on all pages. Its patches are a margin that is alike on all pages, and five rectangles, each about a topic that
other pages have as well. A query is 20 noisy patches of one page, none of them of the margin. Recall@10 is against the
exact search of all vectors in float32. `2 x 2` means that four neighbouring patches were replaced by their mean before
they were added. Times are CPU times of this process, so other programs disturb them little; a build's include the
making of the pages.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from refcolbert import Index
from refcolbert.arrays import Floats

GRID, PROMPT, DIM = 32, 6, 128
MARGIN, REGIONS, TOPICS = 2, 5, 400
SPREAD, NOISE = 0.7, 0.5  # lengths of what is added to a unit vector: a patch of a region, a query
QUERY_ROWS, K = 20, 10
TRAIN_AT = 1 << 16  # tokens; half of the default, so that a few hundred pages have a codec with fewer vectors as well
SETTINGS: list[tuple[int | str, int, bool]] = [  # nbits, pool_factor, neighbours averaged before
    ("float32", 1, False),
    ("float16", 1, False),
    (4, 1, False),
    (2, 1, False),
    (4, 1, True),
    (4, 3, False),
]


def unit(vectors: Floats) -> Floats:
    """Return vectors [..., dim] scaled to length 1."""
    scaled: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def noise(rng: np.random.Generator, shape: tuple[int, ...], length: float) -> Floats:
    """Return random vectors [..., dim] of about this length."""
    return rng.standard_normal(shape, np.float32) * np.float32(length / np.sqrt(DIM))


def page(number: int) -> Floats:
    """Return the vectors of a page, [GRID^2 + PROMPT, DIM], the same ones at every call."""
    shared, rng = np.random.default_rng(0), np.random.default_rng([1, number])
    topics = unit(noise(shared, (TOPICS + 1 + PROMPT, DIM), 1))
    grid = np.broadcast_to(topics[TOPICS], (GRID, GRID, DIM)) + noise(rng, (GRID, GRID, DIM), 0.1)
    inner = GRID - 2 * MARGIN
    for topic in rng.choice(TOPICS, REGIONS, replace=False):
        (top, left), (height, width) = MARGIN + rng.integers(0, inner - 8, 2), rng.integers(8, inner, 2)
        block = grid[top : min(top + height, GRID - MARGIN), left : min(left + width, GRID - MARGIN)]
        block[:] = topics[topic] + noise(rng, block.shape, SPREAD)
    return unit(np.concatenate([grid.reshape(-1, DIM), topics[-PROMPT:] + noise(rng, (PROMPT, DIM), 0.1)]))


def query(number: int) -> Floats:
    """Return the vectors of a query for a page, [QUERY_ROWS, DIM]: noisy patches that are not of the margin."""
    rng = np.random.default_rng([2, number])
    rows, columns = rng.integers(MARGIN, GRID - MARGIN, (2, QUERY_ROWS))
    return unit(page(number)[rows * GRID + columns] + noise(rng, (QUERY_ROWS, DIM), NOISE))


def averaged(vectors: Floats) -> Floats:
    """Return a page with each 2 x 2 patches as their mean, [GRID^2 / 4 + PROMPT, DIM]."""
    half = GRID // 2
    means = vectors[: GRID * GRID].reshape(half, 2, half, 2, DIM).mean(axis=(1, 3))  # [half, half, DIM]
    return unit(np.concatenate([means.reshape(-1, DIM), vectors[GRID * GRID :]]))


def measure(n_pages: int, asked: list[int]) -> Iterator[list[str]]:
    """Yield a row of the table for each of SETTINGS, the exact answers first."""
    truth: list[set[str]] = []
    for nbits, factor, average in SETTINGS:
        with tempfile.TemporaryDirectory() as folder:
            vectors = (averaged(page(n)) if average else page(n) for n in range(n_pages))
            start = time.process_time()
            documents = ({"id": str(n)} for n in range(n_pages))
            options: dict[str, Any] = {"nbits": nbits, "pool_factor": factor, "train_at": TRAIN_AT}
            index = Index.build(Path(folder) / "pages", documents, vectors=vectors, dim=DIM, **options)
            built = time.process_time() - start
            found, times = [], []
            for q in map(query, asked):
                start = time.process_time()
                found.append([hit.id for hit in index.search(q, K)])
                times.append(time.process_time() - start)
            truth = truth or [set(ids) for ids in found]
            recall = statistics.mean(len(best & set(ids)) / K for best, ids in zip(truth, found, strict=True))
            info = index.info()
        yield [
            f"{nbits}, {'2 x 2' if average else f'pool_factor {factor}'}",
            f"{info['tokens'] // n_pages:,}",
            f"{info['bytes'] / n_pages / 1e3:.1f}",
            f"{1e3 * built / n_pages:.0f}",
            f"{1e3 * statistics.median(times):.0f}",
            f"{recall:.3f}",
        ]


@click.command()
@click.option("--pages", "n_pages", default=300, show_default=True)
@click.option("--queries", "n_queries", default=20, show_default=True)
def main(n_pages: int, n_queries: int) -> None:
    """Measure and print one table."""
    asked = np.random.default_rng(3).choice(n_pages, n_queries, replace=False).tolist()
    print("| vectors | per page | kB per page | build, ms per page | search, ms | recall@10 |")
    for row in measure(n_pages, asked):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
