"""IndexReader: everything that reads an index, be it one folder (`Index`) or several shards (`ShardedIndex`)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from .arguments import (
    EncoderFor,
    EncoderOnDemand,
    Query,
    ReadyQuery,
    check_min_score,
    id_list,
    query_arrays,
    ready_queries,
)
from .arrays import Bools, Floats
from .documents import Document
from .engine.bm25 import Collection
from .engine.hybrid import search_by
from .engine.ragged import Ragged
from .engine.search import SearchOptions, search_many
from .engine.segments import SegmentedIndex
from .errors import InvalidInput
from .explanation.explanation import Explanation
from .hits import Hit, Hits, best_of_groups, explain_document, hits_of, similar_enough
from .storage.format import Manifest
from .storage.generation import Generation

__all__ = ["IndexReader", "Searchable", "Searching"]


class Searching(Protocol):
    """The state that one call searches: one generation, with the filters applied."""

    @property
    def manifest(self) -> Manifest:
        """The settings of the collection. Its segments do not matter."""

    @property
    def missing(self) -> Sequence[str]:
        """The names of the parts that did not answer."""

    def collection_of(self, terms: Sequence[bytes]) -> Collection:
        """Return the counts of the collection, at least of these terms."""

    def hits(self, queries: Sequence[ReadyQuery], k: int, options: SearchOptions) -> list[list[Hit]]:
        """Return the k best hits of each query."""


class Searchable(ABC):
    """What can be searched: an index (`IndexReader`), or a collection in several places (`ScatterGather`)."""

    def __init__(self, encoder: EncoderOnDemand) -> None:
        self._encoder = encoder

    @abstractmethod
    def _searching(self, where: Mapping[str, Any] | None, ids: Iterable[str] | None) -> Searching:
        """Begin a search of the documents that match the filters."""

    def query_vectors(self, queries: Sequence[Query]) -> list[Floats]:
        """Return each query as an array [n_q, dim]: texts encoded together, arrays checked. Raises as `search` does."""
        return query_arrays(queries, self._encoder, self._searching(None, None).manifest)

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        mode: str = "late",
        vectors: ArrayLike | None = None,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        group_by: str | None = None,
        min_score: float | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
        threads: int = 1,
    ) -> Hits:
        """Return the k best documents for a query, by score descending, then position ascending.

        - `query`: a text, or query vectors [n_q, dim].
        - `k`: number of hits. There are fewer only if the index, `where`, `ids`, `min_score` or `mode` leave fewer.
        - `mode`: "late" ranks by MaxSim. "words" ranks by BM25, without the model, and returns only documents that have
          a word of the query. "hybrid" ranks by both, fused (`engine.hybrid`). The last two need a text as query, and
          an index with words. The text is text: quotes, AND, * and other signs mean nothing.
        - `vectors`: the query's vectors [n_q, dim], if they are computed already.
        - `where`: a metadata filter (`filters`), applied before candidates are chosen.
        - `ids`: ids to search among, likewise. Ids that are not in the index match nothing.
        - `group_by`: a metadata key. The answer is the best document of each of the k best groups. With "passage_of",
          that is one passage of each text that was split.
        - `min_score`: leave out hits whose `similarity` is lower, such as 0.5. `refcolbert tune --no-answer` finds a
          value for an index. There may be fewer than k hits then, or none. Not for the mode "words".
        - `nprobe`: cells that are probed per query token; default 16. More cells find more of the true best documents
          and take longer.
        - `candidates`: documents that are kept after the inverted lists are read; default 1024. The best 2 k + 12 of
          them are ranked.
        - `exact`: rank every document instead.
        - `threads`: threads that share the work of one query. With NumPy's OpenBLAS a search takes no other threads,
          whatever OPENBLAS_NUM_THREADS says. More than one helps most with `exact`. The answer does not depend on them.

        Every returned MaxSim is exact for the stored vectors, and every BM25 is exact, whatever the parameters.
        Raises `InvalidInput`, `EncoderMismatch` for a text when the index's model is not available, and
        `MissingDependency` for a mode with words when this Python's SQLite has no full-text search.

            >>> from refcolbert import Index
            >>> index = Index.create("compass", dim=2)
            >>> east = {"id": "east", "metadata": {"axis": "x"}}
            >>> north = {"id": "north", "metadata": {"axis": "y"}}
            >>> index.add([east, north], vectors=[[[1, 0]], [[0, 1], [0.6, 0.8]]])
            ['east', 'north']
            >>> query = [[1, 0], [0, 1]]  # two query tokens
            >>> [(hit.id, round(hit.score, 2)) for hit in index.search(query)]  # 1 + 0 and .6 + 1
            [('north', 1.6), ('east', 1.0)]
            >>> [hit.id for hit in index.search(query, where={"axis": "x"})]
            ['east']
        """
        return self.search_many(
            [query],
            k,
            mode=mode,
            vectors=None if vectors is None else [vectors],
            where=where,
            ids=ids,
            group_by=group_by,
            min_score=min_score,
            nprobe=nprobe,
            candidates=candidates,
            exact=exact,
            threads=threads,
        )[0]

    def search_many(
        self,
        queries: Sequence[Query],
        k: int = 10,
        *,
        mode: str = "late",
        vectors: Sequence[ArrayLike] | None = None,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        group_by: str | None = None,
        min_score: float | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
        threads: int = 1,
    ) -> list[Hits]:
        """Return the hits of each query, all from the same generation.

        - `queries`: texts, which are encoded together, and query vectors [n_q, dim], in any mixture.
        - `threads`: queries that are searched at a time. For one query, or with `group_by`, the threads share the work
          of each query instead.

        The other parameters are those of `search`; filters are applied once for all queries. Raises as `search` does.
        """
        options = SearchOptions.of(nprobe=nprobe, candidates=candidates, exact=exact, threads=threads)
        least = check_min_score(min_score, mode)
        searching = self._searching(where, ids)
        ready = ready_queries(queries, vectors, mode, self._encoder, searching.manifest, searching.collection_of)
        if group_by is None:
            answers = searching.hits(ready, k, options)
        else:
            answers = [best_of_groups(partial(_hits, searching, query, options), k, group_by, least) for query in ready]
        return [similar_enough(hits, least, searching.missing) for hits in answers]


def _hits(searching: Searching, query: ReadyQuery, options: SearchOptions, k: int) -> list[Hit]:
    return searching.hits([query], k, options)[0]


@dataclass(frozen=True, slots=True, eq=False)
class _OneGeneration:
    """A search of one generation."""

    generation: Generation
    allowed: Bools | None  # [n_docs]
    encoder_for: EncoderFor
    missing: Sequence[str] = ()

    @property
    def manifest(self) -> Manifest:
        return self.generation.manifest

    def collection_of(self, terms: Sequence[bytes]) -> Collection:
        return self.generation.segmented

    def hits(self, queries: Sequence[ReadyQuery], k: int, options: SearchOptions) -> list[list[Hit]]:
        pairs = [(query.vectors, query.words) for query in queries]
        results = search_many(pairs, self.generation.segmented, k, options, allowed=self.allowed, search_one=search_by)
        return [hits_of(self.generation, self.encoder_for, *answer) for answer in zip(queries, results, strict=True)]


class IndexReader(Searchable):
    """The reading half of an index. `open_index` opens one, whatever kind it is.

    An object sees one generation. Its searches never block, and several threads may share it.
    """

    def __init__(self, encoder: EncoderOnDemand, verify: str) -> None:
        if verify not in ("auto", "full", "fast"):
            raise InvalidInput(f"verify must be 'auto', 'full' or 'fast', found {verify!r}")
        super().__init__(encoder)
        self._verify = verify
        self._current: Generation | None = None

    def close(self) -> None:
        """Close the files. Hits of earlier searches keep what they need; any other use raises `InvalidInput`."""
        # Database connections, mapped files and the pin end with the last search or hit that still uses them.
        self._current = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    @abstractmethod
    def path(self) -> Path:
        """The folder of the index."""

    @abstractmethod
    def refresh(self) -> bool:
        """Move to the newest generation. Returns True if there was a newer one."""

    @abstractmethod
    def newest(self) -> Self:
        """Return an object that sees the newest generation: this object if it does, else a new one.

        This object goes on seeing its own generation.
        """

    @abstractmethod
    def snapshot(self, path: str | Path) -> None:
        """Copy the generation that this object sees to a new folder, an index of its own.

        The copy is consistent while others write. Raises `IndexExists`, `IndexWriteError`.
        """

    @abstractmethod
    def check(self) -> dict[str, Any]:
        """Verify every byte of the newest generation, and everything that can be computed again.

        Returns `info()` of the generation that this object sees.

        Raises `CorruptIndexError` naming the file and what is wrong with it.
        """

    @property
    def generation(self) -> int:
        """The number of the generation that this object sees. Each write makes the next one."""
        return self.view.manifest.generation

    @property
    def segmented(self) -> SegmentedIndex:
        """The token vectors that this object sees, as `engine.search.search` takes them. They are immutable."""
        return self.view.segmented

    @property
    def view(self) -> Generation:
        """The generation that this object sees: documents and vectors that belong together. It is immutable.

        Raises `InvalidInput` after `close`.
        """
        if self._current is None:
            raise InvalidInput(f"expected an open index, found {self.path} closed; open it again")
        return self._current

    def __len__(self) -> int:
        """Return the number of live documents."""
        return len(self.view)

    def __contains__(self, document_id: object) -> bool:
        """Return True if a live document has this id."""
        return isinstance(document_id, str) and document_id in self.view.find([document_id])

    def ids(self) -> list[str]:
        """Return the ids of the live documents, by position: in the order in which they were added."""
        return list(self.view.ids())

    def documents(self) -> Iterator[Document]:
        """Yield the live documents, by position, read one at a time."""
        return self.view.live_documents()

    def __repr__(self) -> str:
        if self._current is None:
            return f"<{type(self).__name__} {self.path}, closed>"
        n = len(self)
        return f"<{type(self).__name__} {self.path}, {n:,} document{'s' * (n != 1)}, generation {self.generation}>"

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids, in that order.

        Raises `UnknownId` for an id that is not in the index.

            >>> from refcolbert import Index
            >>> index = Index.create("texts", dim=2)
            >>> index.add([{"id": "a", "text": "east"}, {"id": "b", "text": "north"}], vectors=[[[1, 0]], [[0, 1]]])
            ['a', 'b']
            >>> [document.text for document in index.get(["b", "a"])]
            ['north', 'east']
        """
        generation = self.view
        return [generation.stored[i].documents.get([row])[0] for i, row in generation.places(id_list(ids))]

    def vectors(self, ids: Iterable[str]) -> Ragged:
        """Return the stored vectors of the documents with these ids, decoded, in that order.

        Raises `UnknownId` for an id that is not in the index.
        """
        generation = self.view
        starts = generation.segmented.starts
        numbers = np.array([starts[i] + row for i, row in generation.places(id_list(ids))], np.int64)
        order = np.argsort(numbers)
        return generation.segmented.vectors(numbers[order]).take(np.argsort(order))

    def info(self) -> dict[str, Any]:
        """Return facts about the index: counts, sizes in bytes, settings, and the quantization error.

        For example:

            >>> from refcolbert import Index
            >>> info = Index.create("empty", dim=128, nbits=2).info()
            >>> info["documents"], info["dim"], info["nbits"], info["generation"]
            (0, 128, 2, 1)
        """
        return {"path": str(self.path), **self.view.info()}

    def explain_document(self, query: ReadyQuery, document_id: str) -> Explanation:
        """Return the explanation of a document's score for a query. Raises `UnknownId`. `Hit.explain` is simpler."""
        generation = self.view
        ((segment, row),) = generation.places([document_id])
        number = int(generation.segmented.starts[segment]) + row
        (document,) = generation.documents(np.array([number]))
        return explain_document(generation, self._encoder, query, number, document.text)

    def _searching(self, where: Mapping[str, Any] | None, ids: Iterable[str] | None) -> Searching:
        generation = self.view
        return _OneGeneration(generation, generation.allowed(where, ids), self._encoder)
