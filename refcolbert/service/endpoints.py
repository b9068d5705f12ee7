"""What the service answers from its index and its model: one table of endpoints.

Functions run in worker threads; each sees the generation that was the newest when its request arrived.
"""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..arrays import Floats
from ..encoding.encoder import Encoder
from ..errors import EncoderMismatch
from ..hits import Hit
from ..rerank import rerank
from . import schemas
from .limits import ServiceLimits
from .reload import Served
from .requests import Field, choice, document, document_text, flag, listed, mapping, query, text, whole

__all__ = ["Call", "Endpoint", "encode_together", "endpoints"]

Json = dict[str, Any]


@dataclass(slots=True)
class Call:
    """One request: what it asks, and the generation that answers it."""

    served: Served
    asked: Json
    encoded: Floats | None = None  # [n_q, dim] the query, where it was encoded together with others
    encode_ms: float = 0.0  # how long that took

    @property
    def model(self) -> Encoder:
        """The encoder. Raises `EncoderMismatch` where there is none."""
        if self.served.encoder is None:
            raise EncoderMismatch("this index was made for ready-made vectors: there is no model for texts")
        return self.served.encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One thing that can be asked by POST and, where `names` is given, by GET with those other names in the URL."""

    paths: tuple[str, ...]
    summary: str
    fields: Mapping[str, Field]
    answer: Callable[[Call], Json]
    response: Json  # JSON Schema
    names: Mapping[str, str] | None = None
    together: bool = False  # whether text queries of several calls may be encoded together


def endpoints(limits: ServiceLimits) -> tuple[Endpoint, ...]:
    """The closed list of what a service with these limits answers."""
    question = query(limits.characters, limits.vectors, "A question: text, or its token vectors [n_q, dim].")
    words = text(limits.characters, "A question.")
    options = _options(limits)
    return (
        Endpoint(
            paths=("/search",),
            summary="The k best documents for a query",
            fields={"query": question, **options},
            answer=_search,
            response=schemas.SEARCH,
            names={"q": "query"},
            together=True,
        ),
        Endpoint(
            paths=("/search_many",),
            summary="The k best documents for each query, all from one generation of the index",
            fields={"queries": listed(question, limits.batch, "Questions."), **options},
            answer=_search_many,
            response=schemas.SEARCH_MANY,
        ),
        Endpoint(
            paths=("/explain",),
            summary="Which words of a document answered which words of a query",
            fields={
                "query": words,
                "id": text(limits.characters, "The document's id."),
                "matrix": flag("Also every similarity, [query tokens, document tokens]; default: false."),
            },
            answer=_explain,
            response=schemas.EXPLAIN,
        ),
        Endpoint(
            paths=("/rerank", "/v1/rerank", "/v2/rerank"),
            summary="Texts sorted by how well they answer a query, as clients of Cohere and Jina ask it",
            fields={
                "query": words,
                "documents": listed(document(limits.body_bytes), limits.documents, "What to sort."),
                "top_n": whole(limits.documents, "How many to return; default: all."),
                "return_documents": flag("Also their texts; default: false."),
                "model": text(limits.characters, "Ignored: the index's own model answers.", required=False),
            },
            answer=_rerank,
            response=schemas.RERANK,
        ),
        Endpoint(
            paths=("/encode",),
            summary="Token vectors of texts",
            fields={
                "texts": listed(text(limits.body_bytes, "A text."), limits.batch, "What to encode."),
                "kind": choice(("document", "query"), "What the texts are; default: document."),
                "encoding_format": choice(("float", "base64"), "base64: little-endian float32, row by row."),
            },
            answer=_encode,
            response=schemas.ENCODE,
        ),
    )


def encode_together(calls: Sequence[Call]) -> list[Floats]:
    """Give each call, all of one generation, its query's vectors. Raises as `Index.search` does."""
    start = time.perf_counter()
    vectors = calls[0].served.index.query_vectors([call.asked["query"] for call in calls])
    took = 1e3 * (time.perf_counter() - start)
    for call, mine in zip(calls, vectors, strict=True):
        call.encoded, call.encode_ms = mine, took
    return vectors


def _options(limits: ServiceLimits) -> dict[str, Field]:
    return {
        "k": whole(limits.k, "How many hits; default: 10."),
        "where": mapping('A metadata filter: {"year": {"$gte": 2020}}.'),
        "ids": listed(text(limits.characters, "An id."), limits.documents, "Search among these.", required=False),
        "group_by": text(
            limits.characters, "A metadata key: the best hit of each group of documents that share it.", required=False
        ),
        "nprobe": whole(limits.nprobe, "Cells probed for each query token."),
        "candidates": whole(limits.candidates, "Documents whose vectors are looked at."),
        "exact": flag("Rank every document; default: false."),
    }


def _search(call: Call) -> Json:
    index, options = call.served.index, _without(call.asked, "query")
    vectors = encode_together([call])[0] if call.encoded is None else call.encoded
    start = time.perf_counter()
    hits = index.search(vectors, **options)
    took = {"encode": call.encode_ms, "search": 1e3 * (time.perf_counter() - start)}
    return {"hits": _hits(hits), "generation": index.generation, "took_ms": took}


def _search_many(call: Call) -> Json:
    index, options = call.served.index, _without(call.asked, "queries")
    start = time.perf_counter()
    vectors = index.query_vectors(call.asked["queries"])
    encoded = time.perf_counter()
    found = index.search_many(vectors, **options)
    took = {"encode": 1e3 * (encoded - start), "search": 1e3 * (time.perf_counter() - encoded)}
    return {"results": [{"hits": _hits(hits)} for hits in found], "generation": index.generation, "took_ms": took}


def _explain(call: Call) -> Json:
    index = call.served.index
    (found,) = index.get([call.asked["id"]])
    (hit,) = index.search(call.asked["query"], 1, ids=[found.id])
    explanation = hit.explain().to_dict(matrix=call.asked.get("matrix", False))
    return {
        "id": hit.id,
        "text": hit.text,
        "metadata": hit.metadata,
        "generation": index.generation,
        **explanation,
    }


def _rerank(call: Call) -> Json:
    texts = [document_text(given) for given in call.asked["documents"]]
    hits = rerank(call.asked["query"], texts, call.model, call.asked.get("top_n"))
    n_q = len(call.model.query_labels(call.asked["query"]))
    results: list[Json] = [{"index": int(hit.id), "relevance_score": hit.score / n_q} for hit in hits]
    if call.asked.get("return_documents", False):
        for result, hit in zip(results, hits, strict=True):
            result["document"] = {"text": hit.text}
    return {"model": call.model.hash, "results": results}


def _encode(call: Call) -> Json:
    if call.asked.get("kind") == "query":
        vectors = call.model.encode_queries(call.asked["texts"])
    else:
        ragged = call.model.encode_documents(call.asked["texts"])
        vectors = [ragged[i] for i in range(len(ragged))]
    write = _base64 if call.asked.get("encoding_format") == "base64" else _floats
    return {"model": call.model.hash, "dim": call.model.dim, "vectors": [write(rows) for rows in vectors]}


def _hits(hits: Sequence[Hit]) -> list[Json]:
    return [{"rank": h.rank, "score": h.score, "id": h.id, "text": h.text, "metadata": h.metadata} for h in hits]


def _without(asked: Json, name: str) -> Json:
    return {key: value for key, value in asked.items() if key != name}


def _floats(rows: Floats) -> list[list[float]]:
    return rows.tolist()  # type: ignore[no-any-return]  # [n, dim]


def _base64(rows: Floats) -> str:
    return base64.b64encode(rows.astype("<f4").tobytes()).decode()
