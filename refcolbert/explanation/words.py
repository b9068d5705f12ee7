"""The share of each word in a BM25 score, and its places in the query and the document."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ..encoding.tokens import Span
from ..encoding.words import WordTokenizer
from ..engine.bm25 import QueryWords, query_terms, term_scores
from ..engine.segments import SegmentedIndex
from .alignment import TextPiece

__all__ = ["WordMatch", "shared_parts", "word_matches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordMatch:
    """One word of the query that the document has."""

    text: str  # the query's word, or the term itself where the query has no such word
    term: str  # as the tokenizer leaves it; of a word with several, as trigrams, those that the document has
    score: float  # its share of the BM25 score
    spans: tuple[Span, ...]  # places in the document's text


def word_matches(
    tokenizer: WordTokenizer, query: str, weighted: QueryWords, text: str | None, index: SegmentedIndex, number: int
) -> tuple[WordMatch, ...]:
    """Return the words that a query shares with document `number` of the index, the largest share first.

    `weighted` are the words of `query`, as `weigh` returns them for the collection.

    Their scores add up to the document's BM25 score.
    """
    words = {term: query[start:end] for start, end, terms in tokenizer.places(query) for term in terms}
    shares: dict[str, dict[bytes, float]] = {}  # word of the query -> its terms in the index, with their scores
    for term in query_terms(weighted, index):
        score = float(term_scores(term, index, np.array([number]))[0])
        if score:
            shares.setdefault(words.get(term.asked, _decoded(term.asked)), {})[term.term] = score
    places = tokenizer.places(text or "")
    matches = [
        WordMatch(
            text=word,
            term=" ".join(map(_decoded, own)),
            score=sum(own.values()),
            spans=tuple((start, end) for start, end, terms in places if not own.keys().isdisjoint(terms)),
        )
        for word, own in shares.items()
    ]
    return tuple(sorted(matches, key=lambda match: -match.score))


def shared_parts(segments: Sequence[TextPiece], words: Sequence[WordMatch]) -> list[list[tuple[str, bool]]]:
    """Return the text of each segment in parts, each with True if it belongs to a shared word."""
    inside = {i for word in words for span in word.spans if span for i in range(*span)}
    parts, start = [], 0
    for segment in segments:
        end = start + len(segment.text)
        runs = groupby(range(start, end), key=inside.__contains__)
        parts.append([("".join(segment.text[i - start] for i in places), shared) for shared, places in runs])
        start = end
    return parts


def _decoded(term: bytes) -> str:
    return term.decode(errors="replace")
