"""The endpoints that the index and its model answer: one table, from which routes and OpenAPI are made.

The functions run in worker threads. Each sees the generation that was the newest when its request arrived.
"""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..arguments import MODES
from ..arrays import Floats
from ..encoding.encoder import Encoder
from ..errors import EncoderMismatch, InvalidInput
from ..hits import Hits
from ..rerank import rerank
from . import schemas
from .limits import ServiceLimits
from .reload import Servable, Served
from .schemas import Schema, array, boolean, enum, integer, number, obj, one_of, string

__all__ = ["LARGEST", "Call", "Endpoint", "encode_together", "endpoints", "filters"]

Json = dict[str, Any]
LARGEST = 2**31 - 1  # of an integer that is ignored


@dataclass(slots=True)
class Call:
    """One request: its fields, and the generation that answers it."""

    served: Served[Servable]
    fields: Json
    encoded: Floats | None = None  # [n_q, dim] set if the query was encoded in a batch with others
    encode_ms: float = 0.0

    @property
    def needs_vectors(self) -> bool:
        """False for a search by words, which encodes nothing."""
        return self.fields.get("mode") != "words"

    @property
    def model(self) -> Encoder:
        """The encoder. Raises `EncoderMismatch` if the index has none."""
        if self.served.encoder is None:
            raise EncoderMismatch("expected an index with a model, found one of ready-made vectors; send vectors")
        return self.served.encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint, by POST and, if it has `names`, by GET with these names for fields in the URL."""

    paths: tuple[str, ...]
    summary: str
    request: Schema
    answer: Callable[[Call], Json]
    response: Schema
    names: Mapping[str, str] | None = None
    batched: bool = False  # text queries of several calls may be encoded together


def endpoints(limits: ServiceLimits) -> tuple[Endpoint, ...]:
    """All endpoints of a service with these limits."""
    text = string("A question.", maxLength=limits.characters)
    rows = array(
        array({"type": "number"}, minItems=1), "Token vectors [n_q, dim].", minItems=1, maxItems=limits.vectors
    )
    query = one_of(text, rows, about="A question: text, or its token vectors [n_q, dim].")
    plain = string("A text.", maxLength=limits.body_bytes)
    document = one_of(plain, obj(text=plain), about="A text, or an object with one.")
    options, ignored = _search_options(limits), _ignored_fields(limits)
    return (
        Endpoint(
            paths=("/search",),
            summary="The k best documents for a query",
            request=obj("", tuple(options), query=query, **options),
            answer=_search,
            response=schemas.SEARCH,
            names={"q": "query"},
            batched=True,
        ),
        Endpoint(
            paths=("/search_many",),
            summary="The k best documents for each query, all from one generation of the index",
            request=obj("", tuple(options), queries=array(query, "Questions.", maxItems=limits.batch), **options),
            answer=_search_many,
            response=schemas.SEARCH_MANY,
        ),
        Endpoint(
            paths=("/explain",),
            summary="Which words of a document matched which words of a query",
            request=obj(
                "",
                ("mode", "matrix"),
                query=text,
                id=string("The document's id.", maxLength=limits.characters),
                mode=options["mode"],
                matrix=boolean("Also return all similarities, [query tokens, document tokens]; default: false."),
            ),
            answer=_explain,
            response=schemas.EXPLAIN,
        ),
        Endpoint(
            paths=("/get",),
            summary="Documents by their ids",
            request=obj(
                "", ids=array(string("An id.", maxLength=limits.characters), "Ids.", maxItems=limits.documents)
            ),
            answer=_get,
            response=obj(documents=schemas.DOCUMENTS),
        ),
        Endpoint(
            paths=("/rerank", "/v1/rerank", "/v2/rerank"),
            summary="Texts sorted by relevance to a query, in the format of Cohere and Jina",
            request=obj(
                "",
                ("top_n", "return_documents", *ignored),
                query=text,
                documents=array(document, "The texts to sort.", maxItems=limits.documents),
                top_n=integer("How many to return; default: all.", 1, maximum=limits.documents),
                return_documents=boolean("Also return the texts; default: false."),
                **ignored,
            ),
            answer=_rerank,
            response=schemas.RERANK,
        ),
        Endpoint(
            paths=("/encode",),
            summary="Token vectors of texts",
            request=obj(
                "",
                ("kind", "encoding_format"),
                texts=array(plain, "The texts to encode.", maxItems=limits.batch),
                kind=enum(("document", "query"), "The kind of the texts; default: document."),
                encoding_format=enum(("float", "base64"), "base64: little-endian float32, row by row."),
            ),
            answer=_encode,
            response=schemas.ENCODE,
        ),
    )


def _search_options(limits: ServiceLimits) -> dict[str, Schema]:
    """The fields that a search takes beside its query, all optional."""
    text = limits.characters
    return {
        "k": integer("Number of hits; default: 10.", 1, maximum=limits.k),
        "mode": enum(MODES, "Rank by late interaction, by words (BM25), or by both; default: late."),
        **filters(limits),
        "group_by": string("A metadata key: only the best hit of the documents that share its value.", maxLength=text),
        # The bounds keep an integer of any length and infinity out.
        "min_score": number("Leave out hits whose similarity is lower.", minimum=-1e38, maximum=1e38),
        "nprobe": integer("Cells that are probed per query token.", 1, maximum=limits.nprobe),
        "candidates": integer("Documents whose vectors are scored.", 1, maximum=limits.candidates),
        "exact": boolean("Rank every document; default: false."),
    }


def filters(limits: ServiceLimits) -> dict[str, Schema]:
    """The fields that choose documents."""
    name = string("An id.", maxLength=limits.characters)
    return {
        "where": {"type": "object", "description": 'A metadata filter: {"year": {"$gte": 2020}}.'},
        "ids": array(name, "Search only these documents.", maxItems=limits.documents),
    }


def _ignored_fields(limits: ServiceLimits) -> dict[str, Schema]:
    """The fields that Cohere's clients send to rerank and that change nothing here."""
    length, name = "Ignored: the model reads each document up to its own length.", limits.characters
    return {
        "model": string("Ignored: the index's own model is used.", maxLength=name),
        "max_tokens_per_doc": integer(length, 1, maximum=LARGEST),
        "max_chunks_per_doc": integer(length, 1, maximum=LARGEST),
        "rank_fields": array(string("A field.", maxLength=name), "Ignored: text is ranked.", maxItems=limits.documents),
        "priority": integer("Ignored: requests are answered in the order in which they came.", maximum=LARGEST),
        "relevant_spans": {"type": "object", "description": "Ignored: /explain returns spans."},
    }


def encode_together(calls: Sequence[Call]) -> None:
    """Set the query vectors of each call, all of one generation. Raises as `Index.search` does."""
    start = time.perf_counter()
    vectors = calls[0].served.index.query_vectors([call.fields["query"] for call in calls])
    milliseconds = 1e3 * (time.perf_counter() - start)
    for call, encoded in zip(calls, vectors, strict=True):
        call.encoded, call.encode_ms = encoded, milliseconds


def _search(call: Call) -> Json:
    index, options = call.served.index, _without(call.fields, "query")
    if call.needs_vectors and call.encoded is None:
        encode_together([call])
    start = time.perf_counter()
    hits = index.search(call.fields["query"], vectors=call.encoded, **options)
    took = {"encode": call.encode_ms, "search": 1e3 * (time.perf_counter() - start)}
    return {"hits": hits.to_dicts(), **_missing(hits), "generation": index.generation, "took_ms": took}


def _search_many(call: Call) -> Json:
    index, queries, options = call.served.index, call.fields["queries"], _without(call.fields, "queries")
    start = time.perf_counter()
    vectors = index.query_vectors(queries) if call.needs_vectors else None
    encoded = time.perf_counter()
    results = index.search_many(queries, vectors=vectors, **options)
    took = {"encode": 1e3 * (encoded - start), "search": 1e3 * (time.perf_counter() - encoded)}
    listed = [{"hits": hits.to_dicts(), **_missing(hits)} for hits in results]
    return {"results": listed, "generation": index.generation, "took_ms": took}


def _missing(hits: Hits) -> Json:
    """Return the marks of an answer of a router to which some parts did not contribute."""
    return {"partial": True, "missing": list(hits.missing)} if hits.missing else {}


def _explain(call: Call) -> Json:
    index, document_id = call.served.index, call.fields["id"]
    mode = {name: value for name, value in call.fields.items() if name == "mode"}
    # Raises UnknownId: the search would return nothing.
    index.get([document_id])
    hits = index.search(call.fields["query"], 1, ids=[document_id], **mode)
    if not hits:
        raise InvalidInput(f"expected a document with a word of the query, found none in {document_id!r}; use hybrid")
    (hit,) = hits
    explanation = hit.explain().to_dict(matrix=call.fields.get("matrix", False))
    shown = {"id": hit.id, "text": hit.text, "metadata": hit.metadata, "generation": index.generation}
    return {**shown, **explanation}


def _get(call: Call) -> Json:
    return {"documents": [asdict(document) for document in call.served.index.get(call.fields["ids"])]}


def _rerank(call: Call) -> Json:
    query, documents = call.fields["query"], call.fields["documents"]
    texts = [document if isinstance(document, str) else document["text"] for document in documents]
    hits = rerank(query, texts, call.model, call.fields.get("top_n"))
    results: list[Json] = [{"index": int(hit.id), "relevance_score": hit.similarity} for hit in hits]
    if call.fields.get("return_documents", False):
        for result, hit in zip(results, hits, strict=True):
            result["document"] = {"text": hit.text}
    return {"model": call.model.hash, "results": results}


def _encode(call: Call) -> Json:
    if call.fields.get("kind") == "query":
        vectors = call.model.encode_queries(call.fields["texts"])
    else:
        ragged = call.model.encode_documents(call.fields["texts"])
        vectors = [ragged[i] for i in range(len(ragged))]
    packed = call.fields.get("encoding_format") == "base64"
    written = [_base64(rows) if packed else rows.tolist() for rows in vectors]
    return {"model": call.model.hash, "dim": call.model.dim, "vectors": written}


def _without(fields: Json, name: str) -> Json:
    return {key: value for key, value in fields.items() if key != name}


def _base64(rows: Floats) -> str:
    return base64.b64encode(rows.astype("<f4").tobytes()).decode()
