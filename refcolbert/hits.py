"""Hits: the documents that a search returns, best first. Each can explain its score."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from .arguments import EncoderFor, Query, ReadyQuery
from .arrays import Floats
from .documents import Document
from .encoding.encoder import Encoder
from .encoding.tokens import Span
from .encoding.words import WordTokenizer
from .engine.pooling import clusters
from .engine.search import Result
from .errors import InvalidInput, RefColbertError
from .explanation.alignment import TextPiece
from .explanation.explanation import Explanation, LabelledVectors, explain
from .explanation.html import hit_html
from .explanation.words import word_matches
from .storage.generation import Generation
from .storage.groups import check_key, group_of

__all__ = [
    "Explainer",
    "Hit",
    "Hits",
    "Parts",
    "best_of_groups",
    "explain_document",
    "explain_texts",
    "hit_of",
    "hits_of",
    "shorten",
    "similar_enough",
]


@dataclass(frozen=True, slots=True)
class Parts:
    """The two scores of a hit. A search by words has no MaxSim, a search by late interaction no BM25."""

    late: float | None  # MaxSim of the query with the stored vectors
    words: float | None  # BM25, 0 if the document has no word of the query


class Explainer:
    """Computes the explanation of a hit. It holds mapped files and a model, so a pickled one explains nothing."""

    # Not a dataclass: `dataclasses.asdict` of a hit would take it apart.
    def __init__(self, compute: Callable[[], Explanation] | None) -> None:
        self.compute = compute

    def __call__(self) -> Explanation:
        """Return the explanation. Raises `InvalidInput` if this object was pickled."""
        if self.compute is None:
            raise InvalidInput(
                "expected a hit of this process, found one that was pickled and lost its vectors; search again, with "
                "ids=[hit.id], and explain that hit"
            )
        return self.compute()

    def __reduce__(self) -> tuple[type["Explainer"], tuple[None]]:
        return Explainer, (None,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Explainer":
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One document that a search returned. It can be pickled, copied and hashed."""

    rank: int  # 1 is the best
    score: float  # decides the order: MaxSim, BM25, or in a hybrid search the fused score
    id: str
    text: str | None
    metadata: dict[str, Any]
    parts: Parts
    similarity: float | None  # MaxSim per query vector, -1 to 1 for unit vectors; None in a search by words
    _explain: Explainer = field(repr=False, compare=False)

    def explain(self) -> Explanation:
        """Return the explanation of the score: the match of each query token, and its share of the score.

        It is computed at each call, from the same vectors as the score. Raises `InvalidInput` for a hit that was
        pickled.
        """
        return self._explain()

    def to_dict(self) -> dict[str, Any]:
        """Return the hit as plain JSON values: rank, score, id, text, metadata, parts, similarity."""
        names = ("rank", "score", "id", "text", "metadata")
        return {
            **{name: getattr(self, name) for name in names},
            "parts": asdict(self.parts),
            "similarity": self.similarity,
        }

    def __hash__(self) -> int:
        # The metadata have no hash. Equal hits are equal in these.
        return hash((self.rank, self.score, self.id))

    def _repr_html_(self) -> str:
        try:
            explained = self.explain()._repr_html_()
        except RefColbertError:
            # The model cannot be loaded here. The notebook shows the hit without its explanation.
            explained = None
        return hit_html(self.rank, self.score, self.id, self.text or "", explained)


class Hits(list[Hit]):
    """The hits of one query, best first: a list that a notebook shows as a whole and a data frame takes as rows.

    `missing` names the parts of the collection that did not answer (`parts`). It is empty for an index.
    """

    def __init__(self, hits: Iterable[Hit] = (), missing: Sequence[str] = ()) -> None:
        super().__init__(hits)
        self.missing = tuple(missing)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the hits as plain JSON values, for example for `pandas.DataFrame(hits.to_dicts())`."""
        return [hit.to_dict() for hit in self]

    def __repr__(self) -> str:
        """Return one short line per hit."""
        lines = (f"{hit.rank:>3}  {hit.score:8.4f}  {hit.id}  {shorten(hit.text or '')}" for hit in self)
        return "\n".join(lines) or "no hits"

    def _repr_html_(self) -> str:
        return "".join(hit._repr_html_() for hit in self) or "<i>no hits</i>"


def shorten(text: str, width: int = 90) -> str:
    """Return a text in one line of at most `width` characters.

    >>> shorten("one  two three", 10)
    'one two...'
    """
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 3] + "..."


def best_of_groups(find: Callable[[int], list[Hit]], k: int, key: str, least: float = -math.inf) -> list[Hit]:
    """Return the best hit of each of the k best groups, best first. Raises `InvalidInput` for the key.

    - `find`: returns the n best hits.
    - `key`: the metadata key that names groups.
    - `least`: hits of lower similarity are passed over. A group with no other hit among those found is left out.

    It is not known how many hits contain k groups. So k hits are fetched first, then four times as many, and so on.
    """
    check_key(key)
    n = k
    while True:
        hits = find(n)
        groups = [group_of(hit.id, hit.metadata, key) for hit in hits]
        chosen = set(islice(dict.fromkeys(groups), k))
        if len(chosen) >= k or len(hits) < n:
            best: dict[str, Hit] = {}
            for hit, group in zip(hits, groups, strict=True):
                if group in chosen and _reaches(hit, least):
                    best.setdefault(group, hit)
            return list(best.values())
        n *= 4


def hits_of(generation: Generation, encoder_for: EncoderFor, ready: ReadyQuery, result: Result) -> list[Hit]:
    """Return the hits of one query, best first. They keep `generation` on disk, so that they can be explained."""
    documents = generation.documents(result.documents)
    hits = []
    for i, (document, number) in enumerate(zip(documents, result.documents, strict=True)):
        parts = Parts(*(None if scores is None else float(scores[i]) for scores in (result.late, result.words)))
        explain_hit = partial(explain_document, generation, encoder_for, ready, int(number), document.text)
        hits.append(hit_of(i + 1, float(result.scores[i]), document, parts, ready, explain_hit))
    return hits


def hit_of(
    rank: int, score: float, document: Document, parts: Parts, ready: ReadyQuery, compute: Callable[[], Explanation]
) -> Hit:
    """Return the hit of a document for a query. `compute` explains it."""
    return Hit(
        rank=rank,
        score=score,
        id=document.id,
        text=document.text,
        metadata=document.metadata,
        parts=parts,
        similarity=None if parts.late is None or ready.vectors is None else parts.late / ready.n_vectors,
        _explain=Explainer(compute),
    )


def similar_enough(hits: list[Hit], least: float, missing: Sequence[str] = ()) -> Hits:
    """Return the hits whose similarity is at least `least`, renumbered from rank 1; `missing` as in `Hits`."""
    kept = (hit for hit in hits if _reaches(hit, least))
    ranked = enumerate(kept, start=1)
    return Hits((hit if hit.rank == rank else replace(hit, rank=rank) for rank, hit in ranked), missing)


def _reaches(hit: Hit, least: float) -> bool:
    # A hit of a search by words has no similarity.
    return hit.similarity is None or hit.similarity >= least


def explain_document(
    generation: Generation, encoder_for: EncoderFor, ready: ReadyQuery, number: int, text: str | None
) -> Explanation:
    """Explain the score of document `number` by the vectors of its generation, from which it was computed."""
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
    if manifest.words is None or ready.words is None or not isinstance(ready.query, str):
        return explanation
    shared = word_matches(WordTokenizer(manifest.words), ready.query, ready.words, text, index, number)
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
