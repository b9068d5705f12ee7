"""BM25 by bm25s: its method "lucene" has the same idf and saturation, without the constant factor K1 + 1."""

from collections.abc import Sequence

import bm25s

K1, B = 1.2, 0.75


def word_scores(query: Sequence[str], documents: Sequence[Sequence[str]]) -> list[float]:
    """In float64."""
    index = bm25s.BM25(method="lucene", k1=K1, b=B, dtype="float64")
    index.index([list(document) for document in documents], show_progress=False)
    return [float(score) * (K1 + 1) for score in index.get_scores(list(query))]
