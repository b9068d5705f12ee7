"""Rerank texts that another system retrieved: encode, score with exact MaxSim, sort. No index is needed."""

from collections.abc import Iterable
from functools import partial

import numpy as np

from .arguments import ReadyQuery
from .checks import check_count, check_texts
from .documents import Document
from .encoding.encoder import Encoder
from .engine.maxsim import float32_error_bound, possible_top_k, score, scores
from .engine.topk import top_k
from .hits import Hits, Parts, explain_texts, hit_of

__all__ = ["rerank"]


def rerank(query: str, texts: Iterable[str], encoder: Encoder | None = None, k: int | None = None) -> Hits:
    """Return the k best of `texts` for `query`, by score descending, then position ascending.

    - `query`: one text.
    - `texts`: the texts to sort, in any order. A hit's id is the decimal position of its text.
    - `encoder`: the model; default: the default model. That one is loaded at each call, so pass an encoder to call this
      more than once.
    - `k`: number of hits; default: all texts.

    Raises `InvalidInput` for arguments of another type, `ModelNotFound` when there is no default model.

        >>> from refcolbert import rerank
        >>> hits = rerank("how to read a file", ["write a letter", "how to read a file"])
        >>> [hit.id for hit in hits]
        ['1', '0']
    """
    texts = check_texts(texts)
    k = max(len(texts), 1) if k is None else check_count(k, "k")
    encoder = encoder or Encoder.load()
    (q,) = encoder.encode_queries([query])
    documents = encoder.encode_documents(texts)
    if not len(documents):
        return Hits()
    norms = np.linalg.norm(documents.vectors, axis=1)  # [n_tokens]
    near = possible_top_k(scores(q, documents), float(float32_error_bound(q, float(norms.max())).sum()), k)
    exact = np.array([score(q, documents[i]) for i in near])  # [n_near]
    ready = ReadyQuery(query, q, words=None)
    return Hits(
        hit_of(
            rank,
            float(exact[i]),
            Document(id=str(near[i]), text=texts[near[i]]),
            Parts(late=float(exact[i]), words=None),
            ready,
            partial(explain_texts, encoder, query, q, texts[near[i]], documents[int(near[i])]),
        )
        for rank, i in enumerate(top_k(exact, k), start=1)
    )
