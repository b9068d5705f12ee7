"""Parts of a collection over HTTP: what is asked and answered, as JSON that keeps the bits of every number.

Arrays are base64 of little-endian numbers, terms are base64 of their bytes. Single numbers are JSON: Python writes a
float64 with as many digits as it takes to read the same one. Functions named `..._json` write, the others read. Reading
raises `ValueError`, `KeyError` or `TypeError` for values of another form.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..arguments import ReadyQuery
from ..arrays import Floats
from ..checks import check_vectors
from ..documents import Document
from ..engine.bm25 import QueryWords, WeightedTerm
from ..engine.hybrid import Pool
from ..explanation.alignment import Answer, Match, QueryWord, TextPiece
from ..explanation.explanation import Explanation
from ..explanation.words import WordMatch
from ..parts import Counts
from ..storage.format import Manifest

__all__ = [
    "counts",
    "counts_json",
    "documents",
    "documents_json",
    "explanation",
    "explanation_json",
    "numbers",
    "packed",
    "pool",
    "pool_json",
    "query",
    "query_json",
    "settings",
    "term",
    "term_json",
]

Json = dict[str, Any]


def settings(manifest: Manifest) -> Json:
    """Return what all parts of a collection, and the router, must have in common."""
    model = manifest.encoder.hash if manifest.encoder else None
    shared = {name: getattr(manifest, name) for name in ("dim", "words", "pool_factor")}
    return {"version": __version__, "model": model, **shared}


def packed(array: NDArray[Any], dtype: str) -> str:
    """Return base64 of the array's numbers, row by row."""
    return base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()


def numbers(text: str, dtype: str) -> NDArray[Any]:
    """Return the array [n] of base64."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)


def query_json(vectors: Floats | None, words: QueryWords | None) -> Json:
    """Return a query that is ready for the engine."""
    read: Json = {}
    if vectors is not None:
        read["vectors"] = packed(vectors, "<f4")
    if words is not None:
        weighted = [{"term": term_json(t.term), "asked": term_json(t.asked), "weight": t.weight} for t in words.terms]
        read["words"] = {"terms": weighted, "n_terms": words.n_terms, "mean_words": words.mean_words}
    return read


def query(read: Json, dim: int) -> ReadyQuery:
    """Return the query, with its text if that is known. Raises `InvalidInput` for wrong vectors."""
    vectors, words = read.get("vectors"), read.get("words")
    if vectors is not None:
        vectors = check_vectors(numbers(vectors, "<f4").reshape(-1, dim), "vectors", dim)
    if words is not None:
        weighted = [WeightedTerm(term(t["term"]), term(t["asked"]), t["weight"]) for t in words["terms"]]
        words = QueryWords(tuple(weighted), words["n_terms"], words["mean_words"])
    text = read.get("query")
    return ReadyQuery(np.empty(0) if text is None else text, vectors, words)


def counts_json(own: Counts) -> Json:
    """Return counts."""
    return asdict(own) | {"frequencies": {term_json(term): n for term, n in own.frequencies.items()}}


def counts(read: Json) -> Counts:
    """Return counts."""
    return Counts(**{**read, "frequencies": {term(text): n for text, n in read["frequencies"].items()}})


def pool_json(own: Pool, found: Sequence[Document]) -> Json:
    """Return a pool and its documents. Their numbers in the part's index mean nothing elsewhere."""
    return {
        "late": None if own.late is None else packed(own.late, "<f8"),
        "words": None if own.words is None else packed(own.words, "<f8"),
        "by_late": packed(own.by_late, "u1"),
        "by_words": packed(own.by_words, "u1"),
        "documents": documents_json(found),
    }


def pool(read: Json) -> tuple[Pool, list[Document]]:
    """Return a pool and its documents. Raises `ValueError` unless all have one length."""
    found = documents(read["documents"])
    late, words = (None if read[name] is None else numbers(read[name], "<f8") for name in ("late", "words"))
    by_late, by_words = (numbers(read[name], "u1").astype(np.bool_) for name in ("by_late", "by_words"))
    lengths = {len(found), *(len(array) for array in (late, words, by_late, by_words) if array is not None)}
    if len(lengths) > 1:
        raise ValueError(f"expected a pool of as many scores as documents, found the lengths {sorted(lengths)}")
    return Pool(np.arange(len(found)), late, words, by_late, by_words, ()), found


def documents_json(some: Sequence[Document]) -> list[Json]:
    """Return documents. `asdict` would copy their metadata."""
    return [{"id": one.id, "text": one.text, "metadata": one.metadata} for one in some]


def documents(read: Sequence[Mapping[str, Any]]) -> list[Document]:
    """Return documents."""
    return [Document(**one) for one in read]


def explanation_json(found: Explanation) -> Json:
    """Return an explanation with its similarities to the bit."""
    plain = {"text": found.text, "document_tokens": found.document_tokens}
    similarities = {"rows": len(found.similarities), "similarities": packed(found.similarities, "<f4")}
    return {**found.to_dict(), **plain, **similarities}


def explanation(read: Json) -> Explanation:
    """Return an explanation."""
    similarities = numbers(read["similarities"], "<f4")
    return Explanation(
        score=read["score"],
        matches=tuple(Match(**{**m, "span": _span(m["span"])}) for m in read["matches"]),
        similarities=similarities.reshape(read["rows"], len(read["document_tokens"])),
        document_tokens=tuple(read["document_tokens"]),
        text=read["text"],
        words=tuple(
            QueryWord(**{**w, "rows": tuple(w["rows"]), "found": tuple(map(tuple, w["found"]))}) for w in read["words"]
        ),
        segments=tuple(
            TextPiece(**{**s, "rows": tuple(s["rows"]), "answers": tuple(Answer(**a) for a in s["answers"])})
            for s in read["segments"]
        ),
        shared_words=tuple(WordMatch(**{**w, "spans": tuple(map(_span, w["spans"]))}) for w in read["shared_words"]),
    )


def _span(read: Sequence[int] | None) -> tuple[int, int] | None:
    return None if read is None else (read[0], read[1])


def term_json(one: bytes) -> str:
    """Return a term."""
    return base64.b64encode(one).decode()


def term(text: str) -> bytes:
    """Return a term."""
    return base64.b64decode(text, validate=True)
