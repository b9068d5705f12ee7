"""Where the work is done: in this process, one item after the other, or by the workers of a Dask cluster."""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from tqdm import tqdm

from .._version import __version__
from ..encoding.encoder import Progress
from ..errors import InvalidInput, MissingDependency, RefColbertError
from .callables import EncodeDocuments

__all__ = ["Workers", "connected", "local_cluster", "one_blas_thread"]

POLL_SECONDS = 0.05
REPORT_SECONDS = 1.0  # between two messages of a worker about one task
SHOWN_WORKERS = 4  # by their own rates; of more, the lowest and the highest


class _Tally:
    """The documents of one step that are done, by item and by worker."""

    def __init__(self, bar: Any, sizes: Sequence[int], tell: Progress) -> None:
        self._bar, self._left, self._tell = bar, list(sizes), tell
        self._by_worker: Counter[str] = Counter()
        self._start = time.monotonic()

    def add(self, item: int, worker: str, n: int) -> None:
        """Count documents that a worker has done. An item that is done again, after a worker died, counts once."""
        n = min(n, self._left[item])
        self._left[item] -= n
        self._by_worker[worker] += n
        if len(self._by_worker) > 1:
            seconds = max(time.monotonic() - self._start, 0.001)
            rates = [f"{n / seconds:.0f}" for n in sorted(self._by_worker.values())]
            shown = ", ".join(rates) if len(rates) <= SHOWN_WORKERS else f"{rates[0]} to {rates[-1]}"
            self._bar.set_postfix_str(f"{len(rates)} workers: {shown}", refresh=False)
        self._done(n)

    def finish(self, item: int) -> None:
        """Count what is left of an item."""
        n, self._left[item] = self._left[item], 0
        self._done(n)

    def _done(self, n: int) -> None:
        self._bar.update(n)
        if n:
            self._tell(n)


class Workers:
    """A way to call a function on many items: in this process if `client` is None, else with `distributed.Client`."""

    def __init__(self, client: Any = None, *, progress: bool | Progress = False) -> None:
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
        - `sizes`: documents per item. With them, `function` gets one more argument: a function that it calls with the
          number of documents it has done since its last call.

        Raises the first error of a call, and cancels the others.
        """
        results: list[Any] = [None] * len(items)
        unit, total = ("part", len(items)) if sizes is None else ("doc", sum(sizes))
        with tqdm(desc=step, unit=unit, total=total, disable=self._progress is not True) as bar:
            tell = self._progress if callable(self._progress) and step == "shard" else _ignore
            tally = _Tally(bar, [1] * len(items) if sizes is None else sizes, tell)
            report = None if sizes is None else tally.add
            for i, result in (_here if self._client is None else self._there)(step, function, items, report):
                results[i] = result
                tally.finish(i)
        return results

    def _there(
        self,
        step: str,
        function: Callable[..., Any],
        items: Sequence[tuple[Any, ...]],
        report: Callable[[int, str, int], None] | None,
    ) -> Iterator[tuple[int, Any]]:
        """Call `function` on the workers; yield the number and the result of each item, in the order of completion."""
        from dask.delayed import Delayed, delayed
        from distributed import as_completed

        run, told = uuid4().hex, SimpleQueue[tuple[int, str, int]]()
        topic = None if report is None else f"refcolbert-{run}"
        if topic is not None:
            # Called in the thread of the client. A worker's messages come before the result of its task.
            self._client.subscribe_topic(topic, lambda event: told.put(event[1]))
        items = [(*item, topic, i) for i, item in enumerate(items)]
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
            finished = as_completed(futures, with_results=True)
            while not finished.is_empty():
                if not (ready := finished.has_ready()):
                    time.sleep(POLL_SECONDS)
                while report and not told.empty():
                    report(*told.get())
                if ready:
                    future, result = next(finished)
                    yield futures.pop(future), result
        finally:
            if topic is not None:
                with suppress(Exception):
                    self._client.unsubscribe_topic(topic)
            # Nothing is left unless a call has failed, or the caller was interrupted.
            with suppress(Exception):
                self._client.cancel(list(futures))


def _here(
    step: str,
    function: Callable[..., Any],
    items: Sequence[tuple[Any, ...]],
    report: Callable[[int, str, int], None] | None,
) -> Iterator[tuple[int, Any]]:
    for i, (first, *rest) in enumerate(items):
        # A delayed object of Dask.
        ready = first.compute(scheduler="synchronous") if hasattr(first, "dask") else first
        more = () if report is None else (partial(report, i, "here"),)
        yield i, function(ready, *rest, *more)


def _ignore(_: int) -> None:
    pass


def _limited(function: Callable[..., Any], *item: Any) -> Any:
    """Call `function` in a process whose BLAS has one thread from now on, as Dask expects of a task.

    The last two of `item` are the topic of messages about its progress, or None, and its number.
    """
    _limit()
    *arguments, topic, number = item
    if topic is None:
        return function(*arguments)
    report = _Report(topic, number)
    result = function(*arguments, report)
    report.send()
    return result


class _Report:
    """Sends the number of documents that a task has done to the client, from time to time."""

    def __init__(self, topic: str, item: int) -> None:
        from distributed import get_worker

        self._worker, self._topic, self._item = get_worker(), topic, item
        self._n, self._sent = 0, time.monotonic()

    def __call__(self, n: int) -> None:
        """Count documents."""
        self._n += n
        if time.monotonic() - self._sent >= REPORT_SECONDS:
            self.send()

    def send(self) -> None:
        """Send what was counted."""
        self._worker.log_event(self._topic, (self._item, self._worker.address, self._n))
        self._n, self._sent = 0, time.monotonic()


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
        # The client raises the errors of tasks. Each worker would also print its own with a traceback.
        client.run(logging.getLogger("distributed.worker").setLevel, logging.CRITICAL)
        yield client


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingDependency("building with a cluster needs Dask: pip install 'refcolbert[dask]'") from error
    return distributed
