"""Answers in the shape of PyLate's `retriever.retrieve` and `rank.rerank`: a list of {"id", "score"} for each query."""

from collections.abc import Iterable
from typing import TypedDict

from ..hits import Hit

__all__ = ["Ranked", "pylate_results"]


class Ranked(TypedDict):
    """One answer, as PyLate names its parts."""

    id: str
    score: float


def pylate_results(answers: Iterable[Iterable[Hit]]) -> list[list[Ranked]]:
    """What `Index.search_many` returned, one list a query, best first."""
    return [[Ranked(id=hit.id, score=hit.score) for hit in hits] for hits in answers]
