"""The share of each word in a BM25 score, and its places in the query and the document."""

from dataclasses import dataclass

import numpy as np

from ..encoding.tokens import Span
from ..encoding.words import WordTokenizer
from ..engine.bm25 import query_terms, term_scores
from ..engine.segments import SegmentedIndex

__all__ = ["WordMatch", "word_matches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordMatch:
    """One word of the query that the document has."""

    text: str  # the query's word, or the term itself where the query has no such word
    term: str  # as the tokenizer leaves it; of a word with several, as trigrams, those that the document has
    score: float  # its share of the BM25 score
    spans: tuple[Span, ...]  # places in the document's text


def word_matches(
    tokenizer: WordTokenizer, query: str, text: str | None, index: SegmentedIndex, number: int
) -> tuple[WordMatch, ...]:
    """Return the words that a query shares with document `number` of the index, the largest share first.

    Their scores add up to the document's BM25 score.
    """
    words = {term: query[start:end] for start, end, terms in tokenizer.places(query) for term in terms}
    shares: dict[str, dict[bytes, float]] = {}  # word -> its terms with their scores
    for term in query_terms(tokenizer.terms(query), index):
        score = float(term_scores(term, index, np.array([number]))[0])
        if score:
            shares.setdefault(words.get(term.term, _decoded(term.term)), {})[term.term] = score
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


def _decoded(term: bytes) -> str:
    return term.decode(errors="replace")
