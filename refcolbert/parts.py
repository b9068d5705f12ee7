"""Parts: a collection in several places, each searched by its own process or machine, and one answer.

    counts   a part counts its documents, and those with the words of the queries. Only BM25 and filters need it
    weigh    the words of each query get their weights in the whole collection (`engine.bm25`)
    pools    each part returns its best documents with their exact scores (`engine.hybrid.pool_by`)
    rank     the pools are joined in the order of the parts, and ranked

With `exact=True` the answer is that of one index over all documents, bit for bit: scores depend on the document, the
query and the counts alone, and equal scores are ordered by part, then by position. Without it, parts that share a codec
probe the cells that one index would, and each of them keeps as many candidates. So recall is not lower. The exception
is a query whose cells hold fewer than k documents: both then probe more cells, but not always equally many.

`LocalPart` is a part in this process. The router of `service` has parts behind HTTP, and `cluster` parts in workers of
Dask. This module knows neither.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .arguments import EncoderOnDemand, ReadyQuery, id_list
from .documents import Document
from .encoding.encoder import Encoder
from .engine.bm25 import Collection, Statistics, unknown_terms
from .engine.candidates import WIDER, widening
from .engine.hybrid import Pool, VectorsAndWords, join_pools, pool_by, rank_pool
from .engine.kmeans import MAX_CENTROIDS
from .engine.search import SearchOptions, search_many
from .engine.terms import one_edit_away
from .errors import InvalidInput, MissingPart, UnknownId
from .explanation.explanation import Explanation
from .hits import Hit, Parts, hit_of
from .reading import IndexReader, Searchable, Searching
from .storage.format import Manifest

__all__ = ["Counts", "LocalPart", "Part", "PartPools", "PoolRequest", "ScatterGather"]

T = TypeVar("T")
Where = Mapping[str, Any] | None  # a filter, as `Searchable.search` takes it
Ids = Sequence[str] | None  # likewise
QUERIES_TOGETHER = 64  # 1 MiB of vectors, and documents for some thousand hits


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of the documents of a part."""

    n_docs: int  # deleted ones included
    n_allowed: int  # live documents that match the filters
    n_live: int
    total_words: int  # words of all live documents
    frequencies: Mapping[bytes, int]  # term -> number of live documents that have it, if it is not 0


@dataclass(frozen=True, slots=True, eq=False)
class PoolRequest:
    """A request for the pools of some queries."""

    queries: Sequence[VectorsAndWords]
    k: int
    options: SearchOptions
    where: Where
    ids: Ids


@dataclass(frozen=True, slots=True, eq=False)
class PartPools:
    """The pool of each query, and its documents, all from one generation."""

    pools: list[Pool]
    documents: list[list[Document]]  # of each pool, row by row


class Part(Protocol):
    """One part of a collection."""

    @property
    def manifest(self) -> Manifest:
        """The settings of the part."""

    def counts(self, terms: Sequence[bytes], similar: Sequence[bytes], where: Where, ids: Ids) -> Counts:
        """Count the documents of the part, and those with each of `terms`, and each term one edit from `similar`."""

    def pools(self, request: PoolRequest) -> PartPools:
        """Return the pool of each query. As many cells are probed as the request says, whatever a filter leaves."""

    def get(self, ids: Sequence[str]) -> list[Document]:
        """Return the documents that the part has among `ids`."""

    def explain(self, query: ReadyQuery, document_id: str) -> Explanation:
        """Explain the score of a document that the part has. Raises `UnknownId`."""


class LocalPart:
    """An index of this process as a part of a collection."""

    def __init__(self, index: IndexReader) -> None:
        self.index = index

    @property
    def manifest(self) -> Manifest:
        """The settings of the index."""
        return self.index.view.manifest

    def counts(self, terms: Sequence[bytes], similar: Sequence[bytes], where: Where, ids: Ids) -> Counts:
        """Count documents: all, those that the filters allow, those with each term."""
        generation = self.index.view
        wanted = {*terms, *(near for term in similar for near in one_edit_away(term))}
        segmented = generation.segmented
        return Counts(
            n_docs=len(segmented.live),
            n_allowed=int(segmented.eligible(generation.allowed(where, ids)).sum()),
            n_live=segmented.n_live,
            total_words=segmented.total_words if generation.manifest.words else 0,
            frequencies={term: n for term in wanted if (n := segmented.document_frequency(term))},
        )

    def pools(self, request: PoolRequest) -> PartPools:
        """Return the pool of each query. `options.threads` queries are searched at a time."""
        generation, options = self.index.view, replace(request.options, widen=False)
        allowed = generation.allowed(request.where, request.ids)
        pools = search_many(
            request.queries, generation.segmented, request.k, options, allowed=allowed, search_one=pool_by
        )
        return PartPools(pools, [generation.documents(pool.documents) for pool in pools])

    def get(self, ids: Sequence[str]) -> list[Document]:
        """Return the documents that the index has among `ids`."""
        return self.index.get([name for name in ids if name in self.index])

    def explain(self, query: ReadyQuery, document_id: str) -> Explanation:
        """Explain the score of a document. Raises `UnknownId` if it is not in the index."""
        return self.index.explain_document(query, document_id)


MapParts = Callable[[Callable[[Part], T], Sequence[Part]], list[T | None]]


def _one_by_one(ask: Callable[[Part], T], parts: Sequence[Part]) -> list[T | None]:
    """Return the answer of each part. Another `MapParts` may ask all at a time, and return None for one that failed."""
    return [ask(part) for part in parts]


class ScatterGather(Searchable):
    """A collection in several parts. Its answers are those of one index over the documents of all of them."""

    def __init__(
        self,
        parts: Mapping[str, Part],
        encoder: Encoder | None = None,
        *,
        map_parts: "MapParts[Any]" = _one_by_one,
    ) -> None:
        """Take parts by name, in the order that decides between equal scores.

        Raises `InvalidInput` for parts of different models, vectors or words.
        """
        super().__init__(EncoderOnDemand(encoder, Path(" and ".join(parts))))
        self.parts, self._map = dict(parts), map_parts
        self._manifest = _common_settings({name: part.manifest for name, part in parts.items()})

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids, in that order.

        Raises `UnknownId` for an id that no part has, and `MissingPart` if a part that did not answer might have it.
        """
        names = id_list(ids)
        answers = self._map(lambda part: part.get(names), list(self.parts.values()))
        found = {document.id: document for own in answers for document in own or ()}
        missing = [name for name in names if name not in found]
        silent = [name for name, own in zip(self.parts, answers, strict=True) if own is None]
        if missing and silent:
            raise MissingPart(
                f"expected {missing[0]!r} in some part, but {' and '.join(silent)} did not answer; try later"
            )
        if missing:
            raise UnknownId(f"{len(missing)} of {len(names)} ids are not in the index, the first is {missing[0]!r}")
        return [found[name] for name in names]

    def _searching(self, where: Mapping[str, Any] | None, ids: Iterable[str] | None) -> Searching:
        return _Scattered(self._parts_now(), self._map, self._manifest, where, None if ids is None else id_list(ids))

    def _parts_now(self) -> Mapping[str, Part]:
        """Return the parts for one search, all of whose requests they answer."""
        return self.parts


class _Scattered:
    """A search of all parts. A part that fails to answer once is left out of the rest of the search."""

    def __init__(
        self,
        parts: Mapping[str, Part],
        map_parts: "MapParts[Any]",
        manifest: Manifest,
        where: Mapping[str, Any] | None,
        ids: list[str] | None,
    ) -> None:
        self._parts, self._map, self.manifest = dict(parts), map_parts, manifest
        self._where, self._ids = where, ids
        self._counts: dict[str, Counts] | None = None
        self._names = list(parts)

    @property
    def missing(self) -> list[str]:
        """The names of the parts that failed to answer."""
        return [name for name in self._names if name not in self._parts]

    def collection_of(self, terms: Sequence[bytes]) -> Collection:
        """Count the documents with these terms, and with those that are similar to an unknown one, in all parts."""
        known = self._statistics(terms)
        unknown = unknown_terms(terms, known)
        if not unknown:
            return known
        more = self._statistics((), unknown)
        return replace(known, frequencies={**more.frequencies, **known.frequencies})

    def hits(self, queries: Sequence[ReadyQuery], k: int, options: SearchOptions) -> list[list[Hit]]:
        """Return the k best hits of each query. Parts answer QUERIES_TOGETHER of them at a time."""
        if self._counts is None and (self._where is not None or self._ids is not None):
            self._count(())
        batches = (queries[i : i + QUERIES_TOGETHER] for i in range(0, len(queries), QUERIES_TOGETHER))
        return [hits for batch in batches for hits in self._hits(batch, k, options)]

    def _hits(self, queries: Sequence[ReadyQuery], k: int, options: SearchOptions) -> list[list[Hit]]:
        """Return the k best hits of each query, all of which the parts answer together."""
        # All parts probe the same cells, and as many as one index would. Were one of them to probe more, it could keep
        # other candidates, and lose a document that one index finds.
        nprobe = options.nprobe
        if self._counts is not None:
            nprobe *= widening(self._sum("n_docs"), self._sum("n_allowed"))
        pairs = [(query.vectors, query.words) for query in queries]
        while True:
            request = PoolRequest(pairs, k, replace(options, nprobe=nprobe), self._where, self._ids)
            answers = self._ask(lambda part, request=request: part.pools(request))  # type: ignore[misc]
            pools = [join_pools([answer.pools[i] for answer in answers.values()]) for i in range(len(queries))]
            n_found = min((int(pool.by_late.sum()) for pool in pools if pool.late is not None), default=k)
            # A part may have lost documents since they were counted; then all cells hold fewer.
            if n_found >= k or nprobe >= MAX_CENTROIDS or n_found >= self._sum("n_allowed"):
                break
            nprobe *= WIDER
        return [
            self._ranked(
                query, k, pool, [(name, document) for name, a in answers.items() for document in a.documents[i]]
            )
            for i, (query, pool) in enumerate(zip(queries, pools, strict=True))
        ]

    def _ranked(self, query: ReadyQuery, k: int, pool: Pool, documents: Sequence[tuple[str, Document]]) -> list[Hit]:
        """Return the k best hits of a pool, of which each row is a document and the part that has it."""
        if not documents:
            # No part answered, or none has anything.
            return []
        rows, scores = rank_pool(pool, k, query.words, pool.documents)
        return [
            hit_of(
                rank,
                score,
                documents[row][1],
                Parts(*(None if s is None else float(s[row]) for s in (pool.late, pool.words))),
                query,
                partial(self._parts[documents[row][0]].explain, query, documents[row][1].id),
            )
            for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1)
        ]

    def _statistics(self, terms: Sequence[bytes], similar: Sequence[bytes] = ()) -> Statistics:
        counts = self._count(terms, similar).values()
        frequencies: Counter[bytes] = Counter()
        for own in counts:
            frequencies.update(own.frequencies)
        return Statistics(
            n_live=sum(c.n_live for c in counts),
            total_words=sum(c.total_words for c in counts),
            frequencies=frequencies,
        )

    def _count(self, terms: Sequence[bytes], similar: Sequence[bytes] = ()) -> dict[str, Counts]:
        self._counts = self._ask(lambda part: part.counts(terms, similar, self._where, self._ids))
        return self._counts

    def _sum(self, name: str) -> int:
        """Return the sum of a count over the parts that still answer."""
        counts = self._count(()) if self._counts is None else self._counts
        return sum(getattr(own, name) for part, own in counts.items() if part in self._parts)

    def _ask(self, ask: Callable[[Part], T]) -> dict[str, T]:
        """Return name -> answer of the parts that answer. The others are left out from now on."""
        answers = self._map(ask, list(self._parts.values()))
        found = {name: answer for name, answer in zip(self._parts, answers, strict=True) if answer is not None}
        self._parts = {name: part for name, part in self._parts.items() if name in found}
        return found


def _common_settings(manifests: Mapping[str, Manifest]) -> Manifest:
    """Return the settings of all parts. Raises `InvalidInput` naming the first part that differs."""
    if not manifests:
        raise InvalidInput("expected at least one part, found none")
    (first_name, first), *_ = manifests.items()
    for name, manifest in manifests.items():
        for fact in ("dim", "words", "pool_factor"):
            if getattr(manifest, fact) != getattr(first, fact):
                raise InvalidInput(
                    f"expected {fact} {getattr(first, fact)!r} in {name}, as in {first_name}, "
                    f"found {getattr(manifest, fact)!r}; serve indexes that were made alike"
                )
        hashes = [m.encoder.hash if m.encoder else None for m in (first, manifest)]
        if hashes[0] != hashes[1]:
            raise InvalidInput(
                f"expected the model {str(hashes[0])[:12]} in {name}, as in {first_name}, found {str(hashes[1])[:12]}; "
                "serve indexes of one model"
            )
    return first
