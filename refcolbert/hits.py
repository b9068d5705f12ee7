"""Hits: documents as answers to a query, best first, each explained on demand."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from .arguments import Query
from .arrays import Floats
from .encoding.encoder import Encoder
from .encoding.tokens import Span
from .engine.pooling import clusters
from .engine.search import Result
from .errors import RefColbertError
from .explanation.explanation import Explanation, LabelledVectors, explain
from .explanation.html import hit_html
from .storage.format import Manifest
from .storage.generation import Generation
from .storage.groups import check_key, group_of

__all__ = ["Hit", "best_of_groups", "explain_texts", "hits_of"]

EncoderFor = Callable[[Manifest], Encoder]  # the encoder whose vectors an index holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One document, as it answered one query."""

    rank: int  # 1 is the best
    score: float  # MaxSim of the query with the vectors that are held
    id: str
    text: str | None
    metadata: dict[str, Any]
    _explain: Callable[[], Explanation] = field(repr=False, compare=False)

    def explain(self) -> Explanation:
        """Which document token answered which query token. Computed when asked, from the same vectors as the score."""
        return self._explain()

    def _repr_html_(self) -> str:
        try:
            explained = self.explain()._repr_html_()
        except RefColbertError:  # the model is not here: a notebook still shows the hit
            explained = None
        return hit_html(self.rank, self.score, self.id, self.text or "", explained)


def best_of_groups(find: Callable[[int], list[Hit]], k: int, key: str) -> list[Hit]:
    """The best hit of each of the k best groups: ask for more hits until there are so many groups, or no more hits."""
    check_key(key)
    ask = k
    while True:
        hits = find(ask)
        best: dict[str, Hit] = {}
        for hit in hits:
            best.setdefault(group_of(hit.id, hit.metadata, key), hit)
        if len(best) >= k or len(hits) < ask:
            return [replace(hit, rank=rank) for rank, hit in enumerate(islice(best.values(), k), start=1)]
        ask *= 4


def hits_of(generation: Generation, encoder_for: EncoderFor, query: Query, q: Floats, found: Result) -> list[Hit]:
    """The hits of one query [n_q, dim], best first. They keep their generation, so that they can be explained."""
    documents = generation.documents(found.documents)
    rows = zip(documents, found.documents, found.scores, strict=True)
    return [
        Hit(
            rank=rank,
            score=float(score),
            id=document.id,
            text=document.text,
            metadata=document.metadata,
            _explain=partial(_explain, generation, encoder_for, query, q, int(number), document.text),
        )
        for rank, (document, number, score) in enumerate(rows, start=1)
    ]


def _explain(
    generation: Generation, encoder_for: EncoderFor, query: Query, q: Floats, number: int, text: str | None
) -> Explanation:
    """Explain a hit by the vectors that its generation holds, compressed or not: they gave the score."""
    manifest = generation.manifest
    d = generation.segmented.vectors(np.array([number]))[0]  # [n_d, dim]
    encoder = encoder_for(manifest) if manifest.encoder else None
    return explain_texts(encoder, query, q, text, d, manifest.pool_factor)


def explain_texts(
    encoder: Encoder | None,
    query: Query,
    q: Floats,  # [n_q, dim]
    text: str | None,
    d: Floats,  # [n_d, dim]
    pool_factor: int = 1,
) -> Explanation:
    """Explain MaxSim(q, d) with the tokens of `query` and `text`.

    Rows are named by their number where their tokens are unknown: without an encoder or a text, and where the caller
    gave vectors of another number than the text has tokens.
    """
    query_side = LabelledVectors(q, [f"query {i}" for i in range(len(q))])
    document_side = LabelledVectors(d, [f"row {j}" for j in range(len(d))], text=text)
    if encoder and isinstance(query, str) and len(tokens := encoder.query_labels(query)) == len(q):
        spans, n_expansion = encoder.query_places(query)
        query_side = LabelledVectors(q, tokens, spans, query, n_expansion)
    if encoder and text is not None:
        tokens, spans = _document_tokens(encoder, text, pool_factor)
        if len(tokens) == len(d):
            document_side = LabelledVectors(d, tokens, spans, text)
    return explain(query_side, document_side)


def _document_tokens(encoder: Encoder, text: str, pool_factor: int) -> tuple[list[str], list[Span]]:
    """Return the spelling and place of each vector of a text; a pooled vector has all spellings and the first place."""
    labels, spans = encoder.document_labels(text)
    if pool_factor == 1:
        return labels, spans
    cluster = clusters(encoder.encode_documents([text])[0], pool_factor)  # [n_d]
    members = [np.flatnonzero(cluster == i).tolist() for i in range(int(cluster.max()) + 1)]
    return ["+".join(labels[j] for j in rows) for rows in members], [spans[rows[0]] for rows in members]
