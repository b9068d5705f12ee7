"""Query augmentation examined: what [MASK] rows match, how many are worth it, and how their rows differ by position.

Every query gets a fixed number of [MASK] rows, not a fill to a fixed length, so that numbers compare. Where rows are
not attended, each depends on its own position and the words alone: the first n of many are what n rows would be, and
one encoding gives them all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcolbert.engine.ragged import Ragged
from refcolbert.engine.topk import top_k
from tools.compare.judged import quality
from tools.compare.parts import Parts
from tools.compare.rows import MOST, QueryRows, augmented, maxima, similarities

__all__ = ["ROWS", "examine"]

ROWS = (0, 4, 8, 12, 16, 24, 32, MOST)
LOOKED_AT = 10  # documents of each query whose matches are looked at
KINDS = ("a marker", "one that a word matched, too", "a word of the query elsewhere", "no word of the query")


def examine(parts: Parts, queries: Mapping[str, str]) -> dict[str, Any]:
    """Everything about one collection's queries; {} for a model without expansion."""
    encoder = parts.models.encoder
    if encoder.spec.expansion_id is None:
        return {}
    documents, texts = parts.vectors(), list(queries.values())
    most = augmented(encoder, texts, MOST)
    best = [maxima(rows.vectors, documents) for rows in most]  # [n_docs, n_q] each
    words = {name: b[:, : rows.n_words] for name, b, rows in zip(queries, best, most, strict=True)}
    masks = {name: b[:, rows.n_words :] for name, b, rows in zip(queries, best, most, strict=True)}
    return {
        "own": {"attended": encoder.spec.expansion_attended, "length": encoder.spec.query_length},
        "rows": list(ROWS),
        "unattended": [
            quality(parts, {name: words[name].sum(1) + masks[name][:, :n].sum(1) for name in queries}) for n in ROWS
        ],
        "attended": [_attended(parts, queries, documents, n) for n in ROWS],
        "masks alone": quality(parts, {name: masks[name][:, :32].sum(1) for name in queries}),
        "positions": _positions(most),
        "matches": _matches(parts, most, best, documents),
    }


def _attended(parts: Parts, queries: Mapping[str, str], documents: Ragged, n: int) -> dict[str, float]:
    rows = augmented(parts.models.encoder, list(queries.values()), n, attended=True)
    found = zip(queries, rows, strict=True)
    return quality(parts, {name: maxima(r.vectors, documents).sum(1) for name, r in found})


def _positions(queries: Sequence[QueryRows]) -> dict[str, Any]:
    """By position in the query: mean cosines of rows; and how often a position is a word or marker."""
    longest = max(rows.n_words for rows in queries)
    n = min(len(rows.vectors) for rows in queries)
    cosines = np.mean([rows.vectors[:n] @ rows.vectors[:n].T for rows in queries], axis=0)  # [n, n]
    masks = np.array([_mask_cosines(rows) for rows in queries])  # [n_queries, n_masks, 4]
    return {
        "words": [float(np.mean([i < rows.n_words for rows in queries])) for i in range(n)],
        "longest": longest,
        "cosines": np.round(cosines, 4).tolist(),
        "masks": {
            name: np.round(masks[:, :, i].mean(0), 4).tolist()
            for i, name in enumerate(("first marker", "nearest word", "row before", "first [MASK]"))
        },
    }


def _mask_cosines(rows: QueryRows) -> NDArray[np.float32]:
    """[n_masks, 4]: cosines of each [MASK] row with the first marker, the nearest word, the row before, the first."""
    q, n = rows.vectors, rows.n_words
    words = q[:n][~rows.marked[:n]] if not rows.marked[:n].all() else q[:n]
    before = np.einsum("nd,nd->n", q[n:], q[n - 1 : -1])
    return np.stack([q[n:] @ q[0], (q[n:] @ words.T).max(1), before, q[n:] @ q[n]], axis=1)


def _matches(
    parts: Parts, queries: Sequence[QueryRows], best: Sequence[NDArray[np.float32]], documents: Ragged
) -> dict[str, Any]:
    """By number of the [MASK] row: shares of KINDS among its matches in the first documents, and mean cosines."""
    counts = np.zeros((MOST, len(KINDS)))
    sums, n_seen = np.zeros(MOST), 0
    tokenizer = parts.models.encoder.tokenizer
    for rows, found in zip(queries, best, strict=True):
        for document in top_k(found.sum(1), min(LOOKED_AT, len(found))):
            (tokens,) = tokenizer.documents([parts.texts[document]])
            ids = tokens.ids[tokens.keep]  # [n_d]
            marked = np.array([span is None for span in tokens.spans])[tokens.keep]  # [n_d]
            one = documents.take(np.array([document]))
            chosen = similarities(rows.vectors, one).argmax(0)  # [n_q] which token answers
            word, of_masks = ~rows.marked, chosen[rows.n_words :]  # [n_q], [n_masks]
            kinds = np.select(
                [marked[of_masks], np.isin(of_masks, chosen[word]), np.isin(ids[of_masks], rows.ids[word])],
                [0, 1, 2],
                3,
            )  # [n_masks]
            counts[np.arange(len(kinds)), kinds] += 1
            sums += found[document, rows.n_words :]
            n_seen += 1
    return {
        "kinds": list(KINDS),
        "shares": np.round(counts / max(n_seen, 1), 4).tolist(),
        "cosine": np.round(sums / max(n_seen, 1), 4).tolist(),
    }
