"""What MaxSim sees that one vector does not: the same token vectors scored in several ways, and by kind of match.

MaxSim            sum over query rows of the best document row
MaxSim, words     the same without [MASK] rows
mean pooling      cosine of the mean rows: one vector each
max pooling       cosine of the largest values of each component: one vector each
best pair         the largest similarity of any two rows
exact matches     MaxSim over words whose best row must be the same token; 0 where there is none
semantic matches  MaxSim over words whose best row must be another token
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcolbert.arrays import Floats
from refcolbert.engine.ragged import Ragged
from tools.compare.judged import quality, relevant
from tools.compare.parts import Parts
from tools.compare.rows import QueryRows, augmented, best_of, maxima, means, similarities, unit

__all__ = ["examine"]


def examine(parts: Parts, queries: Mapping[str, str]) -> dict[str, Any]:
    """The quality of each way of scoring, and what the words of queries match in relevant documents."""
    documents, texts = parts.vectors(), list(queries.values())
    full = parts.models.encoder.encode_queries(texts)
    words = augmented(parts.models.encoder, texts, 0)
    ids, pooled = _token_ids(parts), (means(documents), unit(best_of(documents.vectors, documents)))
    ways: dict[str, dict[str, Floats]] = {}
    exact: list[Floats] = []
    for name, q, rows in zip(queries, full, words, strict=True):
        scored, matched = _scores(q, rows, documents, pooled, ids)
        for way, scores in scored.items():
            ways.setdefault(way, {})[name] = scores
        exact.append(_matched(*matched, relevant(parts, name)))
    best, same = np.concatenate(exact).T  # [n] each: a word's best similarity in a relevant document; whether exact
    return {
        "quality": {way: quality(parts, scores) for way, scores in ways.items()},
        "exact": {
            "share": float(same.mean()),
            "cosine exact": float(best[same == 1].mean()),
            "cosine semantic": float(best[same == 0].mean()),
        },
    }


def _token_ids(parts: Parts) -> NDArray[np.int64]:
    """[n_tokens]: the token of each document row."""
    found = parts.models.encoder.tokenizer.documents(parts.texts)
    return np.concatenate([tokens.ids[tokens.keep] for tokens in found])


def _scores(
    q: Floats, rows: QueryRows, documents: Ragged, pooled: tuple[Floats, Floats], ids: NDArray[np.int64]
) -> tuple[dict[str, Floats], tuple[Floats, Floats]]:
    """Every way's scores [n_docs]; and the words' best exact and semantic similarities [n_docs, n_words] each."""
    full = maxima(q, documents)  # [n_docs, n_q]
    word = ~rows.marked  # [n_q] what is written in the query
    found = similarities(rows.vectors[word], documents)  # [n_tokens, n_words]
    same = ids[:, None] == rows.ids[word][None, :]  # [n_tokens, n_words]
    exact = best_of(np.where(same, found, np.float32(0)), documents)
    semantic = best_of(np.where(same, np.float32(-1), found), documents)
    return {
        "MaxSim": full.sum(1),
        "MaxSim, words": maxima(rows.vectors, documents).sum(1),
        "mean pooling": pooled[0] @ unit(q.mean(0)),
        "max pooling": pooled[1] @ unit(q.max(0)),
        "best pair": full.max(1),
        "exact matches": exact.sum(1),
        "semantic matches": semantic.sum(1),
    }, (exact, semantic)


def _matched(exact: Floats, semantic: Floats, documents: list[int]) -> Floats:
    """[n_docs, n_words] twice -> [n, 2] of each word in each of `documents`: its best similarity, whether exact."""
    found = np.stack([np.maximum(exact, semantic), exact >= semantic], axis=-1)[documents]  # [n_documents, n_words, 2]
    return np.asarray(found.reshape(-1, 2), np.float32)
