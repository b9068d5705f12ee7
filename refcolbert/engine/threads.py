"""A `map` that shares the chunks of one search among threads.

NumPy releases the interpreter's lock during a matrix product, so threads help there.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..checks import check_count

__all__ = ["MapChunks", "mapping"]

MapChunks = Callable[..., Iterator[Any]]  # (function, chunks) -> the results, in the order of the chunks


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
