"""Answers: what a search found, as hits with their documents, explained when asked."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .encoder import Encoder
from .explain import Explanation, explain
from .format import Manifest
from .generation import Generation
from .hits import Hit
from .inputs import Query
from .pooling import clusters
from .search import Result
from .tokens import Span

__all__ = ["hits_of"]

Floats = NDArray[np.float32]
EncoderFor = Callable[[Manifest], Encoder]  # the encoder whose vectors an index holds


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
    manifest = generation.manifest
    d = generation.collection.vectors(np.array([number]))[0]
    encoder = encoder_for(manifest) if manifest.encoder else None
    labels, spans = _labels(encoder, text, manifest.pool_factor) if encoder and text is not None else ([], [])
    if len(labels) != len(d):  # the vectors are not this encoder's
        labels, spans = [f"row {j}" for j in range(len(d))], [None] * len(d)
    asked = encoder.query_labels(query) if encoder and isinstance(query, str) else []
    if encoder is None or not isinstance(query, str) or len(asked) != len(q):
        return explain(q, d, [f"query {i}" for i in range(len(q))], labels, spans, text)
    places, n_expansion = encoder.query_places(query)
    return explain(q, d, asked, labels, spans, text, query=query, query_spans=places, n_expansion=n_expansion)


def _labels(encoder: Encoder, text: str, pool_factor: int) -> tuple[Sequence[str], Sequence[Span]]:
    """What each vector of a text stands for, and where; a pooled one for all words of its cluster, at the first."""
    labels, spans = encoder.document_labels(text)
    if pool_factor == 1:
        return labels, spans
    cluster = clusters(encoder.encode_documents([text])[0], pool_factor)  # [n_d]
    members = [np.flatnonzero(cluster == i).tolist() for i in range(int(cluster.max()) + 1)]
    return ["+".join(labels[j] for j in mine) for mine in members], [spans[mine[0]] for mine in members]
