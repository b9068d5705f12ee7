"""Hits: the documents that a search returns, best first. Each can explain its score."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from .arguments import EncoderFor, Query, ReadyQuery
from .arrays import Floats
from .encoding.encoder import Encoder
from .encoding.tokens import Span
from .encoding.words import WordTokenizer
from .engine.pooling import clusters
from .engine.search import Result
from .errors import RefColbertError
from .explanation.alignment import TextPiece
from .explanation.explanation import Explanation, LabelledVectors, explain
from .explanation.html import hit_html
from .explanation.words import word_matches
from .storage.generation import Generation
from .storage.groups import check_key, group_of

__all__ = ["Hit", "Parts", "best_of_groups", "explain_texts", "hits_of", "similar_enough", "similarity_of"]


@dataclass(frozen=True, slots=True)
class Parts:
    """The two scores of a hit. A search by words has no MaxSim, a search by late interaction no BM25."""

    late: float | None  # MaxSim of the query with the stored vectors
    words: float | None  # BM25, 0 if the document has no word of the query


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One document that a search returned."""

    rank: int  # 1 is the best
    score: float  # decides the order: MaxSim, BM25, or in a hybrid search the fused score
    id: str
    text: str | None
    metadata: dict[str, Any]
    parts: Parts
    similarity: float | None  # MaxSim per query vector, -1 to 1 for unit vectors; None in a search by words
    _explain: Callable[[], Explanation] = field(repr=False, compare=False)

    def explain(self) -> Explanation:
        """Return the explanation of the score: the match of each query token, and its share of the score.

        It is computed at each call, from the same vectors as the score.
        """
        return self._explain()

    def _repr_html_(self) -> str:
        try:
            explained = self.explain()._repr_html_()
        except RefColbertError:
            # The model cannot be loaded here. The notebook shows the hit without its explanation.
            explained = None
        return hit_html(self.rank, self.score, self.id, self.text or "", explained)


def best_of_groups(find: Callable[[int], list[Hit]], k: int, key: str) -> list[Hit]:
    """Return the best hit of each of the k best groups, renumbered from rank 1. Raises `InvalidInput` for the key.

    - `find`: returns the n best hits.
    - `key`: the metadata key that names groups.

    It is not known how many hits contain k groups. So k hits are fetched first, then four times as many, and so on.
    """
    check_key(key)
    n = k
    while True:
        hits = find(n)
        best: dict[str, Hit] = {}
        for hit in hits:
            best.setdefault(group_of(hit.id, hit.metadata, key), hit)
        if len(best) >= k or len(hits) < n:
            return [replace(hit, rank=rank) for rank, hit in enumerate(islice(best.values(), k), start=1)]
        n *= 4


def hits_of(generation: Generation, encoder_for: EncoderFor, ready: ReadyQuery, result: Result) -> list[Hit]:
    """Return the hits of one query, best first. They keep `generation` on disk, so that they can be explained."""
    documents = generation.documents(result.documents)
    hits = []
    for i, (document, number) in enumerate(zip(documents, result.documents, strict=True)):
        late = None if result.late is None else float(result.late[i])
        words = None if result.words is None else float(result.words[i])
        hits.append(
            Hit(
                rank=i + 1,
                score=float(result.scores[i]),
                id=document.id,
                text=document.text,
                metadata=document.metadata,
                parts=Parts(late, words),
                similarity=None if late is None or ready.vectors is None else similarity_of(late, ready.vectors),
                _explain=partial(_explain, generation, encoder_for, ready, int(number), document.text),
            )
        )
    return hits


def similar_enough(hits: list[Hit], least: float) -> list[Hit]:
    """Return the hits whose similarity is at least `least`, renumbered from rank 1."""
    kept = (hit for hit in hits if hit.similarity is None or hit.similarity >= least)
    return [replace(hit, rank=rank) for rank, hit in enumerate(kept, start=1)]


def similarity_of(score: float, q: Floats) -> float:
    """Return MaxSim divided by the number of query vectors [n_q, dim] that are not zero. A zero vector adds nothing."""
    return score / max(int(q.any(axis=1).sum()), 1)


def _explain(
    generation: Generation, encoder_for: EncoderFor, ready: ReadyQuery, number: int, text: str | None
) -> Explanation:
    """Explain a hit by the vectors of its generation, compressed or not. The score was computed from the same ones."""
    manifest, index = generation.manifest, generation.segmented
    if ready.vectors is None:
        piece = TextPiece(text=text or "", token="", rows=(), answers=())
        explanation = Explanation(
            score=0.0,
            matches=(),
            similarities=np.empty((0, 0), np.float32),
            document_tokens=(),
            text=text,
            words=(),
            segments=(piece,),
        )
    else:
        d = index.vectors(np.array([number]))[0]  # [n_d, dim]
        encoder = encoder_for(manifest) if manifest.encoder else None
        explanation = explain_texts(encoder, ready.query, ready.vectors, text, d, manifest.pool_factor)
    if manifest.words is None or ready.terms is None or not isinstance(ready.query, str):
        return explanation
    shared = word_matches(WordTokenizer(manifest.words), ready.query, text, index, number)
    return replace(explanation, shared_words=shared)


def explain_texts(
    encoder: Encoder | None,
    query: Query,
    q: Floats,  # [n_q, dim]
    text: str | None,
    d: Floats,  # [n_d, dim]
    pool_factor: int = 1,
) -> Explanation:
    """Explain MaxSim(q, d) with the tokens of `query` and `text`.

    Rows are named by their number where their tokens are unknown. That is so without an encoder or a text, and if the
    number of vectors is not the number of tokens of the text, because the caller computed the vectors.
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
