"""JSON Schemas of what the service returns."""

from typing import Any

__all__ = ["ENCODE", "ERROR", "EXPLAIN", "INFO", "RERANK", "SEARCH", "SEARCH_MANY", "STATUS"]

Schema = dict[str, Any]


def _object(about: str = "", *, optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object that has these properties, all but the optional ones always, and no other."""
    required = [name for name in properties if name not in optional]
    found: Schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {**found, "description": about} if about else found


def _list(items: Schema, about: str = "") -> Schema:
    return {"type": "array", "items": items, **({"description": about} if about else {})}


def _number(about: str) -> Schema:
    return {"type": "number", "description": about}


def _whole(about: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": about}


def _text(about: str) -> Schema:
    return {"type": "string", "description": about}


TEXT = {"type": ["string", "null"], "description": "The document's text, null where the index holds none."}
METADATA = {"type": "object", "description": "The document's metadata."}
GENERATION = _whole("The generation of the index that answered: each write makes the next one.")
KIND = {"enum": ["text", "marker", "expansion"], "description": "What the user wrote, what frames it, or [MASK]."}
SPAN = {
    "type": ["array", "null"],
    "items": {"type": "integer"},
    "minItems": 2,
    "maxItems": 2,
    "description": "Start and end in the text, in Unicode code points; null for a marker.",
}
ROWS = _list({"type": "integer"}, "Which tokens.")

HIT = _object(
    rank=_whole("1 is the best."),
    score=_number("MaxSim of the query with the vectors that are held."),
    id=_text("The document's id."),
    text=TEXT,
    metadata=METADATA,
)
HITS = _list(HIT, "Best first: score descending, then age.")
TOOK = _object(encode=_number("Milliseconds."), search=_number("Milliseconds."))
SEARCH = _object(hits=HITS, generation=GENERATION, took_ms=TOOK)
SEARCH_MANY = _object(results=_list(_object(hits=HITS), "One a query."), generation=GENERATION, took_ms=TOOK)

MATCH = _object(
    "A query token and the document token that answered it best.",
    query_token=_text("As the vocabulary spells it."),
    kind=KIND,
    document_token=_text("As the vocabulary spells it."),
    document_row=_whole("Which document token."),
    similarity=_number("Of the two."),
    span=SPAN,
    text=_text("What stands there in the document."),
)
WORD = _object(
    "A word of the query, a marker, or all expansion tokens together.",
    text=_text("As the user wrote it."),
    kind=KIND,
    rows=ROWS,
    similarity=_number("What it adds to the score."),
    found={"type": "array", "description": "Words of the document, each with how many of the tokens it answered."},
)
SEGMENT = _object(
    "A piece of the document; their texts joined are its text.",
    text=_text("Empty for a marker that answered something."),
    token=_text("That marker, else empty."),
    rows=ROWS,
    answers=_list(
        _object(word=_whole("Which word of the query."), similarity=_number("The greatest.")),
        "The words of the query that it answered, the closest first.",
    ),
)
EXPLAIN = _object(
    "Why a document matched; the similarities of the matches add up to the score.",
    id=_text("The document's id."),
    text=TEXT,
    metadata=METADATA,
    generation=GENERATION,
    score=_number("MaxSim."),
    matches=_list(MATCH, "One a query token."),
    words=_list(WORD, "The query."),
    segments=_list(SEGMENT, "The document."),
    document_tokens=_list({"type": "string"}, "With `matrix`: the document's tokens."),
    similarities=_list(_list({"type": "number"}), "With `matrix`: [query tokens, document tokens]."),
    optional=("document_tokens", "similarities"),
)

RESULT = _object(
    index=_whole("Which of the documents."),
    relevance_score=_number("MaxSim over the number of query tokens: at most 1."),
    document=_object(text=_text("Its text.")),
    optional=("document",),
)
RERANK = _object(model=_text("The model's content hash."), results=_list(RESULT, "Best first."))
ENCODE = _object(
    model=_text("The model's content hash."),
    dim=_whole("Columns of a vector."),
    vectors={
        "type": "array",
        "description": "One a text: rows of numbers, or base64.",
        "items": {"oneOf": [{"type": "string"}, _list(_list({"type": "number"}))]},
    },
)

INFO = {"type": "object", "description": "What the index holds and how, as `Index.info` says it."}
STATUS = _object(status=_text("ok"))
ERROR = _object(
    error=_object(
        code=_text("One of a closed list."),
        message=_text("What was expected, what was found."),
        request_id=_text("Also in the header X-Request-ID, and in the service's log."),
        optional=("request_id",),
    )
)
