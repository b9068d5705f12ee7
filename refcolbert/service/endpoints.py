"""What the service answers: one table of endpoints, each with the fields it takes and the function that answers.

Functions run in worker threads; each gets the generation that was the newest when its request arrived.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import errors
from ..encoder import Encoder
from ..index import Index
from ..rerank import rerank
from .limits import ServiceLimits
from .wire import Field, choice, flag, hit_json, listed, mapping, query, text, texts, whole

__all__ = ["Endpoint", "endpoints"]

Answer = Callable[[Index, Encoder | None, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One thing that can be asked by POST and, where `names` is given, by GET with those names in the URL."""

    paths: tuple[str, ...]
    summary: str
    fields: Mapping[str, Field]
    answer: Answer
    names: Mapping[str, str] | None = None
    response: Mapping[str, Any] = field(default_factory=dict)  # JSON Schema


def endpoints(limits: ServiceLimits) -> tuple[Endpoint, ...]:
    """The closed list of what a service with these limits answers from its index and its model."""
    options = _options(limits)
    asked = {"query": query(limits.characters, "A question: text, or its vectors [n_q, dim]", required=True)}
    words = {"query": text(limits.characters, "A question.")}
    return (
        Endpoint(
            paths=("/search",),
            summary="The k best documents for a query",
            fields={**asked, **options},
            answer=_search,
            names={"q": "query"},
        ),
        Endpoint(
            paths=("/search_many",),
            summary="The k best documents for each query, all from one generation of the index",
            fields={"queries": listed(asked["query"], limits.batch, "Queries."), **options},
            answer=_search_many,
        ),
        Endpoint(
            paths=("/explain",),
            summary="Which words of a document answered which words of a query",
            fields={
                **words,
                "id": text(limits.characters, "The document."),
                "matrix": flag("Also all similarities [query tokens, document tokens]."),
            },
            answer=_explain,
        ),
        Endpoint(
            paths=("/rerank", "/v1/rerank", "/v2/rerank"),
            summary="Texts sorted by how well they answer a query, as Cohere's and Jina's clients ask it",
            fields={
                **words,
                "documents": listed(_document(limits), limits.documents, "Texts, or objects with a text."),
                "top_n": whole(limits.documents, "How many; default: all."),
                "return_documents": flag("Also the texts; default false."),
                "model": text(limits.characters, "Ignored: the index's own model answers.", required=False),
            },
            answer=_rerank,
        ),
        Endpoint(
            paths=("/encode",),
            summary="Token vectors of texts",
            fields={
                "texts": texts(limits.batch, limits.body_bytes, "Texts."),
                "kind": choice(("query", "document"), "What the texts are; default: document."),
            },
            answer=_encode,
        ),
    )


def _options(limits: ServiceLimits) -> dict[str, Field]:
    return {
        "k": whole(limits.k, "How many hits; default: 10."),
        "where": mapping('A metadata filter: {"year": {"$gte": 2020}}.'),
        "ids": texts(limits.documents, limits.characters, "Search among these documents.", required=False),
        "nprobe": whole(limits.nprobe, "Cells probed for each query token."),
        "candidates": whole(limits.candidates, "Documents ranked exactly."),
        "exact": flag("Rank every document."),
    }


def _document(limits: ServiceLimits) -> Field:
    plain = text(limits.body_bytes, "A text.")
    schema = {"oneOf": [plain.schema, {"type": "object", "required": ["text"], "properties": {"text": plain.schema}}]}
    return Field(
        {**schema, "description": "A text, or an object with one."}, lambda value: plain.check(_text_of(value))
    )


def _text_of(document: Any) -> Any:
    return document.get("text") if isinstance(document, dict) else document


def _search(index: Index, encoder: Encoder | None, asked: dict[str, Any]) -> dict[str, Any]:
    question = asked.pop("query")
    start = time.perf_counter()
    (vectors,) = index.query_vectors([question])
    encoded = time.perf_counter()
    hits = index.search(vectors, **asked)
    return {
        "hits": [hit_json(hit) for hit in hits],
        "generation": index.generation,
        "took_ms": _took(start, encoded),
    }


def _search_many(index: Index, encoder: Encoder | None, asked: dict[str, Any]) -> dict[str, Any]:
    questions = asked.pop("queries")
    start = time.perf_counter()
    vectors = index.query_vectors(questions)
    encoded = time.perf_counter()
    found = index.search_many(vectors, **asked)
    return {
        "results": [{"hits": [hit_json(hit) for hit in hits]} for hits in found],
        "generation": index.generation,
        "took_ms": _took(start, encoded),
    }


def _took(start: float, encoded: float) -> dict[str, float]:
    end = time.perf_counter()
    return {"encode": round(1e3 * (encoded - start), 3), "search": round(1e3 * (end - encoded), 3)}


def _explain(index: Index, encoder: Encoder | None, asked: dict[str, Any]) -> dict[str, Any]:
    (document,) = index.get([asked["id"]])
    (hit,) = index.search(asked["query"], 1, ids=[document.id])
    return {
        "id": document.id,
        "text": document.text,
        "metadata": document.metadata,
        "generation": index.generation,
        **hit.explain().to_dict(matrix=asked.get("matrix", False)),
    }


def _rerank(index: Index, encoder: Encoder | None, asked: dict[str, Any]) -> dict[str, Any]:
    encoder = _model(index, encoder)
    documents = [_text_of(document) for document in asked["documents"]]
    hits = rerank(asked["query"], documents, encoder, asked.get("top_n"))
    n_q = len(encoder.query_labels(asked["query"]))
    shown = asked.get("return_documents", False)
    return {
        "model": encoder.hash,
        "results": [
            {
                "index": int(hit.id),
                "relevance_score": hit.score / n_q,
                **({"document": {"text": hit.text}} if shown else {}),
            }
            for hit in hits
        ],
    }


def _encode(index: Index, encoder: Encoder | None, asked: dict[str, Any]) -> dict[str, Any]:
    encoder = _model(index, encoder)
    if asked.get("kind") == "query":
        vectors = encoder.encode_queries(asked["texts"])
    else:
        ragged = encoder.encode_documents(asked["texts"])
        vectors = [ragged[i] for i in range(len(ragged))]
    return {"model": encoder.hash, "dim": encoder.dim, "vectors": [v.astype(np.float64).tolist() for v in vectors]}


def _model(index: Index, encoder: Encoder | None) -> Encoder:
    if encoder is None:
        raise errors.EncoderMismatch(f"{index.path.name} was made for ready-made vectors: there is no model for texts")
    return encoder
