"""From the cells of all collections to figures: means over queries, then over collections.

The line of every system is over the same queries, the sample that the cross-encoder is asked. Other tables have
the answers to further queries. Latencies are medians and 95th percentiles over a collection's queries,
and of these the mean over the collections.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refcolbert.evaluation.significance import randomization_p

__all__ = ["DEEP", "METRICS", "SHALLOW", "Difference", "Line", "Results", "difference", "line"]

SHALLOW, DEEP = ("RR@10", "nDCG@10"), ("R@50", "R@1000")
METRICS = (*SHALLOW, *DEEP)

Cell = Mapping[str, Any]
Results = Mapping[str, Mapping[str, Cell]]  # system -> collection -> cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One system, over some collections."""

    system: str
    metrics: dict[str, float]
    encode: float  # milliseconds, median
    p50: float  # of encoding and searching
    p95: float
    search50: float
    search95: float
    deep50: float  # of asking for 1,000 documents
    flops: float
    bytes: float  # a document
    queries: int


def line(system: str, cells: Sequence[Cell], names: Sequence[Sequence[str]]) -> Line:
    """One cell a collection, and the queries of each that count."""
    rows = [_of_collection(cell, chosen) for cell, chosen in zip(cells, names, strict=True)]
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return Line(
        system=system,
        metrics={metric: mean.pop(metric) for metric in METRICS},
        queries=sum(map(len, names)),
        **mean,
    )


def _of_collection(cell: Cell, names: Sequence[str]) -> dict[str, float]:
    place = {name: i for i, name in enumerate(cell["queries"])}
    rows = [place[name] for name in names]
    encode, search, deep = (np.array(cell[key])[rows] for key in ("encode", "search", "deep"))
    return {
        **{metric: float(np.mean([cell["metrics"][metric][name] for name in names])) for metric in METRICS},
        "encode": float(np.median(encode)),
        "p50": float(np.percentile(encode + search, 50)),
        "p95": float(np.percentile(encode + search, 95)),
        "search50": float(np.percentile(search, 50)),
        "search95": float(np.percentile(search, 95)),
        "deep50": float(np.percentile(encode + deep, 50)),
        "flops": float(np.mean(np.array(cell["flops"])[rows])),
        "bytes": float(cell["bytes"]),
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two systems in a metric, and its significance."""

    mean: float  # over collections
    p: float  # of the randomization test over all queries together
    queries: int


def difference(one: Mapping[str, Cell], other: Mapping[str, Cell], metric: str) -> Difference:
    """Over the queries that both were asked, in the collections that both have."""
    gaps: list[list[float]] = []
    for collection in (name for name in one if name in other):
        mine, theirs = one[collection]["metrics"][metric], other[collection]["metrics"][metric]
        both = [name for name in one[collection]["queries"] if name in theirs]
        gaps += [[mine[name] - theirs[name] for name in both]] if both else []
    every = np.array([gap for group in sorted(gaps) for gap in group])
    return Difference(float(np.mean([np.mean(group) for group in gaps])), randomization_p(every), len(every))
