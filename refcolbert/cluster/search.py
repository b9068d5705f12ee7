"""Search a sharded index with the workers of a Dask cluster, for many queries at a time: evaluation, tuning, mining.

Each worker is given a run of consecutive shards, and opens them at its first task. Queries and pools travel, vectors of
documents do not. A killed worker's tasks are done by another one. For single queries, a service answers sooner.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import ReadyQuery
from ..documents import Document
from ..encoding.encoder import Encoder
from ..errors import InvalidInput
from ..explanation.explanation import Explanation
from ..parts import Counts, LocalPart, Part, PartPools, PoolRequest, ScatterGather
from ..sharded import ShardedIndex
from ..storage.format import Manifest

__all__ = ["open_index"]

MAX_OPEN = 8  # parts that a worker keeps open


def open_index(path: str | Path, client: Any, encoder: Encoder | None = None) -> ScatterGather:
    """Return a sharded index that is searched by the workers of `client`, a `distributed.Client`.

    - `path`: its folder, which every worker must see under the same path.
    - `encoder`: its model, as in `Index.open`. Queries are encoded in this process.

    `search`, `search_many` and `get` answer as a `ShardedIndex` does. Without `exact=True`, a search may find more,
    because each part keeps `candidates` documents (`parts`). They see the generation that was the newest at this call,
    and raise `InvalidInput` if a worker opens its shards after a later write. Raises as `ShardedIndex.open` does, and
    `InvalidInput` for a cluster without workers.
    """
    with ShardedIndex.open(path, encoder, verify="fast") as index:
        workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
        if not workers:
            raise InvalidInput("expected a cluster with workers, found none; start some")
        runs = np.array_split(np.array(index.names, dtype=object), min(len(workers), len(index.names)))
        parts: dict[str, Part] = {}
        for names, worker in zip(runs, workers, strict=False):
            generation = sum(shard.generation for shard in index.shards if shard.path.name in names)
            name = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
            parts[name] = _DaskPart(client, worker, (str(index.path), tuple(names), generation), index.view.manifest)
    return ScatterGather(parts, encoder, map_parts=_at_the_same_time)


class _DaskPart:
    """Consecutive shards. One worker searches them; if it dies, another one does."""

    def __init__(self, client: Any, worker: str, part: tuple[str, tuple[str, ...], int], manifest: Manifest) -> None:
        self._client, self._worker, self._part, self.manifest = client, worker, part, manifest

    def counts(self, terms: Sequence[bytes], similar: Sequence[bytes], *filters: Any) -> Counts:
        counts: Counts = self._ask("counts", terms, similar, *filters)
        return counts

    def pools(self, request: PoolRequest) -> PartPools:
        pools: PartPools = self._ask("pools", request)
        return pools

    def get(self, ids: Sequence[str]) -> list[Document]:
        documents: list[Document] = self._ask("get", ids)
        return documents

    def explain(self, query: ReadyQuery, document_id: str) -> Explanation:
        explanation: Explanation = self._ask("explain", query, document_id)
        return explanation

    def _ask(self, method: str, *arguments: Any) -> Any:
        # Not pure: Dask would hash the arguments, to find a task with equal ones.
        options = {"workers": [self._worker], "allow_other_workers": True, "pure": False}
        return self._client.submit(_answer, self._part, method, *arguments, **options).result()


def _answer(part: tuple[str, tuple[str, ...], int], method: str, *arguments: Any) -> Any:
    return getattr(_opened(*part), method)(*arguments)


@lru_cache(maxsize=MAX_OPEN)
def _opened(path: str, names: tuple[str, ...], generation: int) -> LocalPart:
    """Return the part of a worker. Raises `InvalidInput` if its shards have changed since the index was opened."""
    index = ShardedIndex.open(path, verify="fast", shards=names)
    if index.generation != generation:
        raise InvalidInput(
            f"expected generation {generation} of {names}, found {index.generation}; open the index again"
        )
    return LocalPart(index)


def _at_the_same_time(ask: Callable[[Part], Any], parts: Sequence[Part]) -> list[Any]:
    with ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(ask, parts))
