"""Where the work is done: in this process, one item after the other, or by the workers of a Dask cluster."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from typing import Any
from uuid import uuid4

from tqdm import tqdm

from .._version import __version__
from ..errors import InvalidInput, MissingDependency, RefColbertError
from .callables import EncodeDocuments

__all__ = ["Workers", "connected", "local_cluster", "one_blas_thread"]


class Workers:
    """A way to call a function on many items: in this process if `client` is None, else with `distributed.Client`."""

    def __init__(self, client: Any = None, *, progress: bool = False) -> None:
        self._client, self._progress = client, progress

    def check(self, encode: EncodeDocuments) -> None:
        """Compare all workers with this process. Raises `InvalidInput` naming those that differ."""
        if self._client is None:
            return
        wrong = {name: found for name, found in self._client.run(_compare, encode).items() if found is not None}
        if wrong:
            raise InvalidInput(
                f"expected refcolbert {__version__} and the model {encode.expected_hash[:12]} on every worker, found "
                + "; ".join(f"{name}: {found}" for name, found in sorted(wrong.items()))
                + "; install the same version and model folder there"
            )

    def map(
        self,
        step: str,
        function: Callable[..., Any],
        items: Sequence[tuple[Any, ...]],
        sizes: Sequence[int] | None = None,
    ) -> list[Any]:
        """Return the results of `function(*item)` for all items, in order. A killed worker's items are called again.

        - `step`: names the calls, in the progress bar and on Dask's dashboard.
        - `sizes`: documents per item, for the progress bar.

        Raises the first error of a call, and cancels the others.
        """
        results: list[Any] = [None] * len(items)
        total = len(items) if sizes is None else sum(sizes)
        with tqdm(desc=step, unit="part" if sizes is None else "doc", total=total, disable=not self._progress) as bar:
            for i, result in (_here if self._client is None else self._there)(step, function, items):
                results[i] = result
                bar.update(1 if sizes is None else sizes[i])
        return results

    def _there(
        self, step: str, function: Callable[..., Any], items: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Call `function` on the workers; yield the number and the result of each item, in the order of completion."""
        from dask.delayed import Delayed, delayed
        from distributed import as_completed

        run = uuid4().hex
        keys = [f"{step}-{run}-{i}" for i in range(len(items))]
        # One graph for all items.
        if any(isinstance(item[0], Delayed) for item in items):
            limited = delayed(_limited)
            calls = [limited(function, *item, dask_key_name=key) for item, key in zip(items, keys, strict=True)]
            listed = self._client.compute(calls)
        else:
            listed = self._client.map(_limited, [function] * len(items), *zip(*items, strict=True), key=keys)
        futures = dict(zip(listed, itertools.count()))
        try:
            for future, result in as_completed(futures, with_results=True):
                yield futures.pop(future), result
        finally:
            # Nothing is left unless a call has failed, or the caller was interrupted.
            with suppress(Exception):
                self._client.cancel(list(futures))


def _here(step: str, function: Callable[..., Any], items: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
    for i, (first, *rest) in enumerate(items):
        # A delayed object of Dask.
        ready = first.compute(scheduler="synchronous") if hasattr(first, "dask") else first
        yield i, function(ready, *rest)


def _limited(function: Callable[..., Any], *item: Any) -> Any:
    """Call `function` in a process whose BLAS has one thread from now on, as Dask expects of a task."""
    _limit()
    return function(*item)


@cache
def _limit() -> None:
    one_blas_thread()


def _compare(encode: EncodeDocuments) -> str | None:
    """Return how this process differs from the one that made `encode`; None if they are alike."""
    try:
        encode.encoder  # noqa: B018 - loads the model
    except RefColbertError as error:
        return str(error)
    return None


def one_blas_thread() -> Any:
    """Give BLAS one thread until the context that is returned ends: the bytes of a codec depend on that number."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(limits=1, user_api="blas")


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield a client of the Dask scheduler at `address`. Raises `MissingDependency`, `InvalidInput`."""
    distributed = _distributed()
    try:
        client = distributed.Client(address)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"expected a Dask scheduler at {address}, found none: {error}") from error
    with client:
        yield client


@contextmanager
def local_cluster(n_workers: int) -> Iterator[Any]:
    """Yield a client of a new cluster on this machine: processes with one thread each. Raises `MissingDependency`."""
    distributed = _distributed()
    # A worker's limit of memory would count the mapped files of an index, which the system can drop at any time.
    options = {"processes": True, "threads_per_worker": 1, "memory_limit": None, "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=n_workers, **options) as cluster, distributed.Client(cluster) as client:
        yield client


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingDependency("building with a cluster needs Dask: pip install 'refcolbert[dask]'") from error
    return distributed
