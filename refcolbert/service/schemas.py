"""JSON Schemas: functions that build them, the check of a request against one, and the schemas of all answers."""

from collections.abc import Sequence
from typing import Any

__all__ = [
    "DOCUMENTS",
    "ENCODE",
    "ERROR",
    "EXPLAIN",
    "INFO",
    "RERANK",
    "SEARCH",
    "SEARCH_MANY",
    "STATUS",
    "Schema",
    "array",
    "boolean",
    "enum",
    "in_words",
    "integer",
    "matches",
    "number",
    "obj",
    "one_of",
    "string",
]

Schema = dict[str, Any]

# ---- builders: `about` is the description in the OpenAPI document


def obj(about: str = "", optional: Sequence[str] = (), /, **properties: Schema) -> Schema:
    """An object with these properties and no others; all but the `optional` ones are required."""
    required = [name for name in properties if name not in optional]
    schema: Schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {**schema, "description": about} if about else schema


def array(items: Schema, about: str = "", **bounds: int) -> Schema:
    """A list; `bounds` are minItems and maxItems."""
    return {"type": "array", "items": items, **bounds, **({"description": about} if about else {})}


def integer(about: str, least: int = 0, **bounds: int) -> Schema:
    """An integer >= `least`; `bounds` is maximum."""
    return {"type": "integer", "minimum": least, **bounds, "description": about}


def number(about: str, **bounds: float) -> Schema:
    """A number; `bounds` are minimum and maximum, which a field of a request has."""
    return {"type": "number", **bounds, "description": about}


def string(about: str, **bounds: int) -> Schema:
    """A text; `bounds` is maxLength."""
    return {"type": "string", **bounds, "description": about}


def boolean(about: str) -> Schema:
    """True or false."""
    return {"type": "boolean", "description": about}


def enum(values: Sequence[str], about: str) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": list(values), "description": about}


def one_of(*schemas: Schema, about: str) -> Schema:
    """A value of one of these schemas."""
    return {"oneOf": list(schemas), "description": about}


def _or_null(about: str) -> Schema:
    return {"type": ["number", "null"], "description": about}


# ---- the check


def matches(value: Any, schema: Schema) -> bool:
    """True if a value that came from JSON matches a schema of the kinds that requests have."""
    match schema:
        case {"oneOf": schemas}:
            return any(matches(value, one) for one in schemas)
        case {"enum": words}:
            return isinstance(value, str) and value in words
        case {"type": "boolean"}:
            return type(value) is bool
        case {"type": "integer", "minimum": least, "maximum": most}:
            return type(value) is int and least <= value <= most
        case {"type": "number", "minimum": least, "maximum": most}:
            return type(value) in (int, float) and bool(least <= value <= most)
        case {"type": "string", "maxLength": most}:
            return isinstance(value, str) and len(value) <= most
        # One pass without recursion: a query may hold tens of thousands of numbers.
        case {"type": "array", "items": {"type": "number"}}:
            return isinstance(value, list) and all(type(one) in (int, float) for one in value)
        case {"type": "array", "items": items, "maxItems": most}:
            least = schema.get("minItems", 0)
            return isinstance(value, list) and least <= len(value) <= most and all(matches(v, items) for v in value)
        case {"type": "object", "properties": properties, "required": required}:
            return (
                isinstance(value, dict)
                and value.keys() >= set(required)
                and all(name in properties and matches(value[name], properties[name]) for name in value)
            )
    return isinstance(value, dict)


def in_words(schema: Schema) -> str:
    """The values that a schema of a request allows, for an error message.

    >>> in_words(array(integer("", 1, maximum=9), maxItems=3))
    'a list of at most 3 items, each an integer from 1 to 9'
    """
    match schema:
        case {"oneOf": schemas}:
            return ", or ".join(map(in_words, schemas))
        case {"enum": words}:
            return f"one of {', '.join(words)}"
        case {"type": "boolean"}:
            return "true or false"
        case {"type": "integer" | "number" as kind, "minimum": least, "maximum": most}:
            return f"{'an' if kind == 'integer' else 'a'} {kind} from {least} to {most}"
        case {"type": "string", "maxLength": most}:
            return f"a text of at most {most} characters"
        case {"type": "array", "items": {"type": "number"}}:
            return "a list of numbers"
        case {"type": "array", "items": items, "maxItems": most}:
            return f"a list of {'1 to' if 'minItems' in schema else 'at most'} {most} items, each {in_words(items)}"
        case {"type": "object", "properties": properties}:
            return f"an object with {', '.join(f'{name}: {in_words(inner)}' for name, inner in properties.items())}"
    return "an object"


# ---- answers

TEXT = {"type": ["string", "null"], "description": "The document's text; null if the index holds none."}
METADATA = {"type": "object", "description": "The document's metadata."}
DOCUMENTS = array(obj(id=string("The document's id."), text=TEXT, metadata=METADATA), "Documents.")
GENERATION = integer("The generation of the index that answered. Each write makes the next generation.")
KIND = {
    "enum": ["text", "marker", "expansion"],
    "description": "text: from the text. marker: added by the model. expansion: a [MASK] token of the query.",
}
SPAN = {
    "type": ["array", "null"],
    "items": {"type": "integer"},
    "minItems": 2,
    "maxItems": 2,
    "description": "Start and end in the text, in Unicode code points; null for a marker.",
}
ROWS = array({"type": "integer"}, "The numbers of its tokens.")

HIT = obj(
    rank=integer("1 is the best."),
    score=number("Decides the order: MaxSim, BM25, or in the mode hybrid the fused score."),
    id=string("The document's id."),
    text=TEXT,
    metadata=METADATA,
    parts=obj(
        late=_or_null("MaxSim of the query and the stored vectors; null in the mode words."),
        words=_or_null("BM25, 0 without a word of the query; null in the mode late."),
    ),
    similarity=_or_null("MaxSim per query vector, -1 to 1 for unit vectors; null in the mode words."),
)
HITS = array(HIT, "Best first: by descending score, then oldest first.")
TOOK = obj(encode=number("Milliseconds."), search=number("Milliseconds."))
PARTIAL = {
    "partial": boolean("True if some parts of the collection did not answer the router; else absent."),
    "missing": array({"type": "string"}, "The names of these parts."),
}
SEARCH = obj("", tuple(PARTIAL), hits=HITS, **PARTIAL, generation=GENERATION, took_ms=TOOK)
RESULTS = array(obj("", tuple(PARTIAL), hits=HITS, **PARTIAL), "One per query.")
SEARCH_MANY = obj(results=RESULTS, generation=GENERATION, took_ms=TOOK)

MATCH = obj(
    "A query token and its most similar document token.",
    query_token=string("As in the vocabulary."),
    kind=KIND,
    document_token=string("As in the vocabulary."),
    document_row=integer("The number of the document token."),
    similarity=number("The similarity of the two tokens."),
    span=SPAN,
    text=string("The document's text at that place."),
)
WORD = obj(
    "A word of the query, a marker, or all expansion tokens together.",
    text=string("As the user wrote it."),
    kind=KIND,
    rows=ROWS,
    similarity=number("Its share of the score."),
    found={"type": "array", "description": "Words of the document, each with the number of tokens that it matched."},
)
SEGMENT = obj(
    "A piece of the document. The texts of all pieces joined are the document's text.",
    text=string("Empty for a marker that matched a query token."),
    token=string("That marker, else empty."),
    rows=ROWS,
    answers=array(
        obj(word=integer("The number of the query word."), similarity=number("The highest similarity.")),
        "The query words that it matched, the most similar first.",
    ),
)
SHARED_WORD = obj(
    "A word of the query that the document has.",
    text=string("As the user wrote it."),
    term=string("As the tokenizer of the index leaves it."),
    score=number("Its share of BM25."),
    spans=array(SPAN, "Its places in the document's text."),
)
EXPLAIN = obj(
    "Why a document matched. The similarities of the matches add up to the score.",
    ("document_tokens", "similarities"),
    id=string("The document's id."),
    text=TEXT,
    metadata=METADATA,
    generation=GENERATION,
    score=number("MaxSim, also in the mode hybrid; 0 in the mode words."),
    matches=array(MATCH, "One per query token; none in the mode words."),
    words=array(WORD, "The query; none in the mode words."),
    segments=array(SEGMENT, "The document."),
    shared_words=array(SHARED_WORD, "In the modes words and hybrid; their scores add up to BM25."),
    document_tokens=array({"type": "string"}, "With `matrix`: the document's tokens."),
    similarities=array(array({"type": "number"}), "With `matrix`: [query tokens, document tokens]."),
)

RESULT = obj(
    "",
    ("document",),
    index=integer("The document's place in the request, from 0."),
    relevance_score=number("MaxSim divided by the number of query tokens: at most 1."),
    document=obj(text=string("The document's text.")),
)
RERANK = obj(model=string("The model's content hash."), results=array(RESULT, "Best first."))
ENCODE = obj(
    model=string("The model's content hash."),
    dim=integer("Numbers per vector."),
    vectors=array({"oneOf": [{"type": "string"}, array(array({"type": "number"}))]}, "One per text: rows, or base64."),
)

INFO = {
    "type": "object",
    "description": "What the index holds and how, as `Index.info` returns it. `words` is null for an index without.",
}
STATUS = obj(
    "",
    ("parts",),
    status=string("ok"),
    parts=obj(answering=integer("Parts of a router that answer."), of=integer("All of them.")),
)
ERROR = obj(
    error=obj(
        "",
        ("request_id",),
        code=string("One of a closed list."),
        message=string("What was expected and what was found."),
        request_id=string("Also in the header X-Request-ID, and in the service's log."),
    )
)
