"""From what the engines answered to the figures of the comparison: lines, and the verdict over all grids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refcolbert.arrays import Ints
from refcolbert.evaluation.metrics import evaluate

__all__ = ["TOLERANCE", "Line", "lines_of", "matches", "ndcg", "recall"]

TOLERANCE = 0.005  # of recall@10: the most that a setting of ours may be below a peer's


@dataclass(frozen=True, slots=True)
class Line:
    """One engine at one point of its grid."""

    engine: str
    point: Mapping[str, Any]
    p50: float  # milliseconds
    p95: float
    rate: float  # queries a second in a batch
    recall10: float
    recall100: float
    ndcg10: float


def recall(found: Sequence[Sequence[int]], truth: Ints, k: int) -> float:
    """Mean over the queries of the share of the true k best that are among the first k found; truth [n, >= k]."""
    hits: list[int] = [len(set(answer[:k]) & set(best[:k].tolist())) for answer, best in zip(found, truth, strict=True)]
    return sum(hits) / (len(hits) * min(k, int(truth.shape[1])))


def ndcg(found: Sequence[Sequence[int]], judgements: Sequence[Mapping[int, int]]) -> float:
    """nDCG@10 over the judged queries; NaN when none is judged."""
    judged = {str(i): {str(d): grade for d, grade in query.items()} for i, query in enumerate(judgements) if query}
    run = {str(i): {str(d): -float(rank) for rank, d in enumerate(answer)} for i, answer in enumerate(found)}
    return evaluate(run, judged, ("nDCG@10",))["nDCG@10"] if judged else float("nan")


def lines_of(
    engine: str, result: Mapping[str, Any], truth: Ints, judgements: Sequence[Mapping[int, int]]
) -> list[Line]:
    """A line for each point that an engine was measured at."""
    return [
        Line(
            engine,
            measured["point"],
            float(np.percentile(measured["times"], 50)),
            float(np.percentile(measured["times"], 95)),
            len(truth) / measured["batch_seconds"],
            recall(measured["found"], truth, 10),
            recall(measured["deep"], truth, 100),
            ndcg(measured["found"], judgements),
        )
        for measured in result["points"]
    ]


def matches(peer: Sequence[Line], ours: Sequence[Line]) -> list[tuple[Line, Line | None]]:
    """Each line of a peer with our fastest one of a recall@10 no more than `TOLERANCE` below, or None."""
    pairs = []
    for line in peer:
        able = [mine for mine in ours if mine.recall10 >= line.recall10 - TOLERANCE]
        pairs.append((line, min(able, key=lambda mine: mine.p50, default=None)))
    return pairs
