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
    """One term of the query that the document has."""

    text: str  # the query's word, or the term itself where the query has no such word
    term: str  # as the tokenizer leaves it
    score: float  # its share of the BM25 score
    spans: tuple[Span, ...]  # places in the document's text


def word_matches(
    tokenizer: WordTokenizer, query: str, text: str | None, index: SegmentedIndex, number: int
) -> tuple[WordMatch, ...]:
    """Return the terms that a query shares with document `number` of the index, the largest share first.

    Their scores add up to the document's BM25 score.
    """
    document = np.array([number])
    terms = query_terms(tokenizer.terms(query), index)
    scored = [(term, float(term_scores(term, index, document)[0])) for term in terms]
    words = {term: query[start:end] for start, end, own in tokenizer.places(query) for term in own}
    places = tokenizer.places(text or "")
    matches = [
        WordMatch(
            text=words.get(term.asked, term.asked.decode(errors="replace")),
            term=term.term.decode(errors="replace"),
            score=score,
            spans=tuple((start, end) for start, end, own in places if term.term in own),
        )
        for term, score in scored
        if score
    ]
    return tuple(sorted(matches, key=lambda match: -match.score))
