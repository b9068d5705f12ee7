"""A threshold for `min_score`, from queries that have an answer in an index and queries that have none.

A query is refused when its best document is less similar than the threshold. A higher threshold refuses more queries
without an answer, and loses more queries with one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arguments import Query
from ..arrays import Doubles
from ..errors import InvalidInput
from ..reading import IndexReader

__all__ = ["MAX_LOST", "Threshold", "Thresholds", "shuffled", "tune_min_score"]

MAX_LOST = 0.05  # of the queries with an answer


@dataclass(frozen=True, slots=True)
class Threshold:
    """One value of `min_score`."""

    min_score: float
    lost: float  # share of the queries with an answer that it refuses
    refused: float  # share of the queries without an answer that it refuses


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds and what each of them refuses, and the recommended one."""

    n_answered: int
    n_unanswered: int
    separation: float  # probability that a query with an answer has a more similar best document than one without
    curve: tuple[Threshold, ...]  # ascending
    recommended: Threshold  # refuses the most of those that lose at most `max_lost`; of equals, it loses the fewest


def tune_min_score(
    index: IndexReader, answered: Sequence[Query], unanswered: Sequence[Query], *, max_lost: float = MAX_LOST
) -> Thresholds:
    """Return what thresholds of the best similarity would refuse.

    index       at least one document
    answered    queries with an answer in the index: texts or arrays [n_q, dim], as users ask them
    unanswered  queries without one, of the same kind; `shuffled` makes some
    max_lost    share of the answered queries that the recommended threshold may refuse

    Raises `InvalidInput` for an empty index or no queries of one kind, and for a share outside 0 to 1.

    >>> import tempfile
    >>> from refcolbert import Index
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = Index.create(f"{folder}/i", dim=2)
    ...     _ = index.add([{"id": "east"}], vectors=[[[1, 0]]])
    ...     found = tune_min_score(index, [[[1, 0]], [[0.8, 0.6]]], [[[0, 1]]])
    >>> round(found.recommended.min_score, 2), found.recommended.refused
    (0.8, 1.0)
    """
    if not 0 <= max_lost < 1:
        raise InvalidInput(f"max_lost must be a share from 0 to below 1, found {max_lost!r}")
    with_answer, without = _best_similarities(index, answered), _best_similarities(index, unanswered)
    # Between two neighbouring values of `with_answer` a threshold loses as many queries, and the higher refuses more.
    values = np.unique(with_answer)  # [n] ascending
    curve = tuple(
        Threshold(float(value), float((with_answer < value).mean()), float((without < value).mean()))
        for value in values
    )
    greater = (with_answer[:, None] > without).mean() + 0.5 * (with_answer[:, None] == without).mean()
    allowed = (threshold for threshold in curve if threshold.lost <= max_lost)
    recommended = max(allowed, key=lambda threshold: (threshold.refused, -threshold.lost))
    return Thresholds(len(with_answer), len(without), float(greater), curve, recommended)


def shuffled(queries: Sequence[str], seed: int = 0) -> list[str]:
    """Return as many queries of the same lengths, with the words of all queries dealt out at random.

    They have the words of the collection and no sense, so they stand for queries without an answer where there are no
    real ones. Real ones are harder to tell from queries with an answer.

    >>> shuffled(["how to parse dates", "open a file"])
    ['parse open dates file', 'a how to']
    """
    words = [word for query in queries for word in query.split()]
    dealt = iter(np.random.default_rng(seed).permutation(len(words)).tolist())
    return [" ".join(words[next(dealt)] for _ in query.split()) for query in queries]


def _best_similarities(index: IndexReader, queries: Sequence[Query]) -> Doubles:
    """Return the similarity of each query's best document: [n_queries]."""
    hits = index.search_many(queries, 1) if queries else []
    if not hits or not hits[0]:
        raise InvalidInput(
            "expected at least one document, one query with an answer and one without, found none: "
            "there is nothing to tune with"
        )
    return np.array([best.similarity for (best,) in hits])
