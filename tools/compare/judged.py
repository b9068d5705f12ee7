"""From scores of all documents to metrics, for the experiments: exact scans of one collection."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from refcolbert.engine.topk import top_k
from refcolbert.evaluation.metrics import Run, evaluate
from tools.compare.parts import Parts

__all__ = ["METRICS", "quality", "relevant"]

METRICS = ("RR@10", "nDCG@10")
DEPTH = 100


def quality(parts: Parts, scores: Mapping[str, NDArray[np.floating]]) -> dict[str, float]:
    """Query id -> scores of all documents [n_docs]; the means of METRICS."""
    run: Run = {
        name: {parts.ids[i]: float(row[i]) for i in top_k(row, DEPTH)} for name, row in scores.items()
    }  # equal scores in the order of documents
    return evaluate(run, {name: parts.collection.qrels[name] for name in scores}, METRICS)


def relevant(parts: Parts, query: str) -> list[int]:
    """Numbers of a query's relevant documents, the most relevant ones first, then in the collection's order."""
    number = {name: i for i, name in enumerate(parts.ids)}
    judged = parts.collection.qrels[query].items()
    found = [(-grade, number[name]) for name, grade in judged if grade > 0 and name in number]
    return [i for _, i in sorted(found)]
