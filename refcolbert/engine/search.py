"""Two-phase late-interaction search: choose candidates by centroids, rank them by exact MaxSim (PLAID, CIKM 2022).

With q_i the query tokens, c the centroids, code_j the cell of document token j and x_j its stored vector:

    stage       keeps                                         by the score

    centroids   nothing is dropped yet                        q_i . c for every centroid
    cells       the nprobe best cells of each query token     q_i . c
    candidates  documents with a token in one of these cells  sum over i of max over its kept cells of q_i . c
    prune       the best `candidates` documents               sum over i of max over all j of q_i . c[code_j]
    refine      the best 2 k + 12 of those in reach           sum over i of max over the nearest j of q_i . x_j
    rank        the best k of these                           sum over i of max over all j of q_i . x_j: exact MaxSim

Only the ranking decides scores and order. Every returned score is the canonical MaxSim (`maxsim`) of the query with the
vectors that the index holds, and the order is the one of `topk`. The earlier stages choose the documents that are
ranked, so recall depends on them. They are in `candidates`, the last stage is in `ranking`.

All eligible documents are ranked, without the other stages, if the index has no codec, if pruning would keep all of
them anyway, or with `exact=True`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np

from ..arrays import Bools, Doubles, Floats, Ints
from ..checks import check_count
from .candidates import generate_candidates, refine
from .ranking import keep_possible_top_k, rank, reachable_scores
from .segments import SegmentedIndex
from .threads import mapping
from .trace import Stage, Trace

__all__ = ["CANDIDATES", "NPROBE", "Result", "SearchOptions", "best_by_vectors", "search", "search_many"]

Q = TypeVar("Q")
R = TypeVar("R")

NPROBE = 16  # cells probed for each query token, by default
CANDIDATES = 1024  # documents that pruning keeps, by default


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How thorough a search is. Raises `InvalidInput` for a count below 1."""

    nprobe: int = NPROBE  # cells probed for each query token
    candidates: int = CANDIDATES  # documents that pruning keeps, never fewer than k
    exact: bool = False  # rank every document instead
    threads: int = 1  # threads that share the products of one query; the answer does not depend on them
    widen: bool = True  # probe more cells where a filter leaves few documents, or fewer than k are found

    def __post_init__(self) -> None:
        for name in ("nprobe", "candidates", "threads"):
            check_count(getattr(self, name), name)

    @classmethod
    def of(
        cls, *, nprobe: int | None = None, candidates: int | None = None, exact: bool = False, threads: int = 1
    ) -> Self:
        """Return the options with the default in place of each None."""
        return cls(
            nprobe=NPROBE if nprobe is None else nprobe,
            candidates=CANDIDATES if candidates is None else candidates,
            exact=exact,
            threads=threads,
        )


DEFAULTS = SearchOptions()


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Documents of an index, best first."""

    documents: Ints  # [n_hits] numbers in the `SegmentedIndex`
    scores: Doubles  # [n_hits] these decide the order
    trace: tuple[Stage, ...]
    late: Doubles | None = None  # [n_hits] canonical MaxSim; None for a search by words alone
    words: Doubles | None = None  # [n_hits] BM25; None for a search by late interaction alone


def search(
    q: Floats,  # [n_q, dim]
    index: SegmentedIndex,
    k: int,
    options: SearchOptions = DEFAULTS,
    *,
    allowed: Bools | None = None,  # [n_docs] documents that may be returned; None: every live document
) -> Result:
    """Return the k best live and allowed documents; fewer only when there are no more.

    Probing and pruning are widened as far as it takes to find k documents. Raises `InvalidInput` for k below 1.
    """
    trace = Trace()
    documents, scores = best_by_vectors(q, index, check_count(k, "k"), options, index.eligible(allowed), trace)
    return Result(documents, scores, tuple(trace.stages), late=scores)


def best_by_vectors(
    q: Floats,  # [n_q, dim]
    index: SegmentedIndex,
    k: int,
    options: SearchOptions,
    eligible: Bools,  # [n_docs]
    trace: Trace,
    also: Ints | None = None,
) -> tuple[Ints, Doubles]:
    """Return the k eligible documents with the best MaxSim, best first, and their scores: [n_hits] each.

    `also` names more documents, ascending. Those that are not among the k best follow them, with their scores too.
    """
    prepared = None
    with mapping(options.threads) as map_chunks:
        if index.codec is not None:
            with trace.stage("centroids") as stage:
                prepared = index.codec.prepare(q, map_chunks)
                stage.read = stage.count = len(prepared.centroids)
        rank_all = options.exact or prepared is None or eligible.sum() <= max(options.candidates, k)
        kth_score_at_least = -np.inf
        # `prepared is None` implies `rank_all`; type checkers need it again.
        if rank_all or prepared is None:
            documents = np.flatnonzero(eligible)
        else:
            pruned, quantized = generate_candidates(
                prepared, index, eligible, k, options.nprobe, max(options.candidates, k), trace, widen=options.widen
            )
            with trace.stage("refine") as stage:
                refined = refine(prepared, quantized, index, pruned, k, map_chunks)
                documents, kth_score_at_least = refined.documents, refined.kth_score_at_least
                stage.read, stage.count = refined.n_nearest, len(documents)
        with trace.stage("rank") as stage:
            stage.read, stage.count = int(index.lengths[documents].sum()), len(documents)
            if rank_all:
                documents = keep_possible_top_k(q, prepared, index, documents, k, map_chunks)
            hits, scores = rank(q, prepared, index, documents, k, kth_score_at_least)
            if also is not None:
                others = reachable_scores(q, prepared, index, np.setdiff1d(also, hits))
                hits, scores = np.concatenate([hits, others[0]]), np.concatenate([scores, others[1]])
    return hits, scores


def search_many(
    queries: Sequence[Q],
    index: SegmentedIndex,
    k: int,
    options: SearchOptions = DEFAULTS,
    *,
    allowed: Bools | None = None,  # [n_docs]
    search_one: Callable[..., R] = search,  # type: ignore[assignment]
) -> list[R]:
    """Return the search of each query: `Result`s of arrays [n_q, dim], or what another `search_one` takes and returns.

    `options.threads` queries are searched at a time, each by one thread; a single query is shared by all of them.
    """
    if len(queries) == 1:
        return [search_one(queries[0], index, k, options, allowed=allowed)]
    alone = replace(options, threads=1)
    with mapping(options.threads) as map_queries:
        return list(map_queries(lambda q: search_one(q, index, k, alone, allowed=allowed), queries))
