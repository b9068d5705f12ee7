"""The endpoints by which a service is a part of a collection; a router asks them (`parts`, `router`).

Every request names the settings that the router expects. A service with others refuses: its scores could not be
compared with those of the other parts.
"""

from collections.abc import Callable
from typing import Any, cast

from ..engine.bm25 import MAX_CORRECTED
from ..engine.search import SearchOptions
from ..errors import InvalidInput
from ..parts import LocalPart, PoolRequest
from ..reading import IndexReader
from . import wire
from .endpoints import LARGEST, Call, Endpoint, filters
from .http_errors import Refusal
from .limits import ServiceLimits
from .schemas import DOCUMENTS, array, boolean, integer, number, obj, string

__all__ = ["part_endpoints"]

Json = dict[str, Any]

LONGEST_MISSPELT = 32  # base64 of 24 letters
DEEPER = 64  # best_of_groups asks for more hits than it returns, up to as many times

SCORES = {"type": ["string", "null"], "description": "Base64 of little-endian float64; null in another mode."}
POOL = obj(
    "Documents that can be among the k best, by position.",
    late=SCORES,
    words=SCORES,
    by_late=string("Base64 of bytes: 1 if the document is among the best by MaxSim."),
    by_words=string("Base64 of bytes: 1 if it is among the best by BM25."),
    documents=DOCUMENTS,
)
EXPLANATION = {
    "type": "object",
    "description": "As /explain returns it with `matrix`, but `similarities` is base64 of little-endian float32.",
}


def part_endpoints(limits: ServiceLimits) -> tuple[Endpoint, ...]:
    """The endpoints of a part with these limits."""
    packed = string("Base64.", maxLength=limits.body_bytes)
    word = obj(term=packed, asked=packed, weight=number("In the whole collection.", minimum=0, maximum=1e38))
    words = obj(
        terms=array(word, "In the order in which their scores are added.", maxItems=limits.body_bytes),
        n_terms=integer("Terms of the query, repetitions included.", maximum=LARGEST),
        mean_words=number("Words of a document of the collection.", minimum=1e-12, maximum=1e38),
    )
    text = string("The text of the query.", maxLength=limits.characters)
    query = obj("A query.", ("query", "vectors", "words"), query=text, vectors=packed, words=words)
    own = filters(limits)
    name = string("An id.", maxLength=limits.characters)
    common = {
        "settings": {"type": "object", "description": "Version, model, dim, words and pool_factor of all parts."},
        "seconds": number("Time after which the answer is not needed.", minimum=0, maximum=86400),
    }
    count = integer("A number of documents.")
    return (
        Endpoint(
            paths=("/parts/counts",),
            summary="For a router: counts of documents, and of those with each term",
            request=obj(
                "",
                tuple(own),
                terms=array(packed, "Terms.", maxItems=limits.body_bytes),
                similar=array(
                    string("Base64.", maxLength=LONGEST_MISSPELT),
                    "Terms that may be misspelt. Those one edit away, several hundred each, are counted.",
                    maxItems=MAX_CORRECTED * limits.batch,
                ),
                **own,
                **common,
            ),
            answer=_answered(_counts),
            response=obj(
                n_docs=count,
                n_allowed=count,
                n_live=count,
                total_words=integer("Words of the live documents."),
                frequencies={"type": "object", "description": "Base64 of a term: live documents with it, if any."},
            ),
        ),
        Endpoint(
            paths=("/parts/pools",),
            summary="For a router: the documents that can be among the k best of the collection, with their scores",
            request=obj(
                "",
                tuple(own),
                queries=array(query, "Queries.", maxItems=limits.batch),
                k=integer("Number of hits.", 1, maximum=DEEPER * limits.k),
                # With a filter a router asks for more cells, as one index would probe them.
                nprobe=integer("Cells that are probed per query token.", 1, maximum=LARGEST),
                candidates=integer("Documents whose vectors are scored.", 1, maximum=limits.candidates),
                exact=boolean("Rank every document."),
                **own,
                **common,
            ),
            answer=_answered(_pools),
            response=obj(pools=array(POOL, "One per query.")),
        ),
        Endpoint(
            paths=("/parts/get",),
            summary="For a router: the documents that this part has among some ids",
            request=obj("", ids=array(name, "Ids.", maxItems=limits.documents), **common),
            answer=_answered(_get),
            response=obj(documents=DOCUMENTS),
        ),
        Endpoint(
            paths=("/parts/explain",),
            summary="For a router: why a document of this part matched",
            request=obj("", query=query, id=name, **common),
            answer=_answered(_explain),
            response=EXPLANATION,
        ),
    )


def _answered(answer: Callable[[LocalPart, Json], Json]) -> Callable[[Call], Json]:
    """Return the function of an endpoint that answers from this part. It raises `Refusal` for other settings."""

    def answered(call: Call) -> Json:
        """Answer one request."""
        part = LocalPart(cast("IndexReader", call.served.index))
        own, expected = wire.settings(part.manifest), call.fields["settings"]
        if own != expected:
            raise Refusal(
                "other_settings", f"expected {own}, found {expected}; serve all parts with one version and model"
            )
        try:
            return answer(part, call.fields)
        except InvalidInput:
            raise
        # The schema leaves open what is in base64.
        except ValueError as error:
            raise InvalidInput(f"expected arrays in base64, found others: {error}") from error

    return answered


def _counts(part: LocalPart, fields: Json) -> Json:
    terms, similar = (list(map(wire.term, fields[name])) for name in ("terms", "similar"))
    return wire.counts_json(part.counts(terms, similar, fields.get("where"), fields.get("ids")))


def _pools(part: LocalPart, fields: Json) -> Json:
    ready = [wire.query(query, part.manifest.dim) for query in fields["queries"]]
    options = SearchOptions(**{name: fields[name] for name in ("nprobe", "candidates", "exact")})
    pairs = [(query.vectors, query.words) for query in ready]
    found = part.pools(PoolRequest(pairs, fields["k"], options, fields.get("where"), fields.get("ids")))
    return {"pools": list(map(wire.pool_json, found.pools, found.documents))}


def _get(part: LocalPart, fields: Json) -> Json:
    return {"documents": wire.documents_json(part.get(fields["ids"]))}


def _explain(part: LocalPart, fields: Json) -> Json:
    return wire.explanation_json(part.explain(wire.query(fields["query"], part.manifest.dim), fields["id"]))
