"""The threads of one search: those that it was given share its chunks, and BLAS adds none.

NumPy releases the interpreter's lock during a matrix product, so threads help there.

OpenBLAS, which NumPy brings along, divides a product among all cores, and then waits until the last of them is done. A
search makes many products of about a millisecond. Where another process has one of the cores, each of them waits for
that process's time slice, which is several times as long. OpenBLAS's number of threads belongs to the whole process, so
a search does not change it. Instead `multiply` asks for products so small that OpenBLAS does not divide them.
`python -m tools.bench.busy` measures the difference.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..arrays import Floats
from ..checks import check_count

__all__ = ["MapChunks", "mapping", "multiply"]

MapChunks = Callable[..., Iterator[Any]]  # (function, chunks) -> the results, in the order of the chunks

# The most multiplications that any OpenBLAS leaves to the calling thread: of a matrix with a matrix, and with a vector.
UNDIVIDED, UNDIVIDED_BY_VECTOR = 1 << 18, 9000
FEWEST_ROWS = 4  # of a block; shorter ones are multiplied slowly


@contextmanager
def mapping(threads: int) -> Iterator[MapChunks]:
    """Yield a `map` whose calls are shared by `threads` threads; with one thread, Python's own `map`.

    Results come in the order of the chunks, so an answer does not depend on the number of threads.
    """
    if check_count(threads, "threads") == 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:

        def map_chunks(function: Callable[[Any], Any], chunks: Iterable[Any]) -> Iterator[Any]:
            # Waking a thread costs more than it gains when there is only one chunk.
            listed = list(chunks)
            return pool.map(function, listed) if len(listed) > 1 else map(function, listed)

        yield map_chunks


def multiply(rows: Floats, columns: Floats, out: Floats | None = None) -> Floats:
    """Return the matrix product [n, dim] @ [dim, n_q] -> [n, n_q], computed by the calling thread alone.

    It is computed in blocks of rows. NumPy gives the matrices of a stack to BLAS one by one, so the loop over the
    blocks costs nothing. Only where a block would have fewer than FEWEST_ROWS rows, which takes a query of more than
    512 vectors at dim 128, the product is left to BLAS as a whole. All arrays should be C-contiguous: then this is as
    fast as one product in one thread.
    """
    (n, dim), n_q = rows.shape, columns.shape[1]
    if out is None:
        out = np.empty((n, n_q), np.float32)
    block = (UNDIVIDED if n_q > 1 else UNDIVIDED_BY_VECTOR) // (dim * n_q)
    if n <= block or block < FEWEST_ROWS:
        return np.matmul(rows, columns, out=out)
    whole = n - n % block  # rows in whole blocks
    np.matmul(rows[:whole].reshape(-1, block, dim), columns, out=out[:whole].reshape(-1, block, n_q))
    # The last block overlaps the one before it: a product of one row would be one with a vector.
    np.matmul(rows[-block:], columns, out=out[-block:])
    return out
