"""Rerank texts that another system found: encode, score with exact MaxSim, sort. No index is involved."""

from collections.abc import Iterable
from functools import partial

import numpy as np

from .checks import check_count, check_texts
from .encoding.encoder import Encoder
from .engine.maxsim import float32_error_bound, possible_top_k, score, scores
from .engine.topk import top_k
from .hits import Hit, explain_texts

__all__ = ["rerank"]


def rerank(query: str, texts: Iterable[str], encoder: Encoder | None = None, k: int | None = None) -> list[Hit]:
    """The k best (default all) of `texts` for `query`; a hit's id is the decimal position of its text.

    Score descending, then position ascending. `encoder` defaults to the default model, which is loaded at each call:
    pass one to keep it. Raises `InvalidInput`, and what `Encoder.load` raises.
    """
    texts = check_texts(texts)
    k = max(len(texts), 1) if k is None else check_count(k, "k")
    encoder = encoder or Encoder.load()
    (q,) = encoder.encode_queries([query])
    documents = encoder.encode_documents(texts)
    if not len(documents):
        return []
    norms = np.linalg.norm(documents.vectors, axis=1)  # [n_tokens]
    near = possible_top_k(scores(q, documents), float(float32_error_bound(q, float(norms.max())).sum()), k)
    exact = np.array([score(q, documents[i]) for i in near])  # [n_near]
    return [
        Hit(
            rank=rank,
            score=float(exact[i]),
            id=str(near[i]),
            text=texts[near[i]],
            metadata={},
            _explain=partial(explain_texts, encoder, query, q, texts[near[i]], documents[int(near[i])]),
        )
        for rank, i in enumerate(top_k(exact, k), start=1)
    ]
