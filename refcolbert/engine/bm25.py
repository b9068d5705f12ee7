"""BM25: a score by the words that a query and a document share (Robertson and Zaragoza, 2009).

With N live documents, df of them with the term, f the term's count in a document and L the document's number of words:

    idf     ln(1 + (N - df + .5) / (df + .5))
    weight  n idf (K1 + 1)                                     n: how often the query has the term
    score   sum over the query's terms of weight f / (f + K1 (1 - B + B L / mean of L))

The score of a term is below its weight, whatever f is. N, df and the mean of L count all live documents of the index.
So a score does not depend on the segments that the documents are in, nor on a filter.

A term that no live document has may be misspelt. If it consists of 4 to 24 letters a to z, its place is taken by the
term that is one edit away (`one_edit_away`) and in the most documents; of equals, the first in the alphabet. Its weight
is then halved. Trigrams are shorter, and numbers and identifiers with digits are meant as they are. This is done for
the first MAX_CORRECTED such terms of a query.

A worked example. Of 4 documents with 10 words each, one has "strptime" and three have "date". For the query "strptime
date", idf is ln(1 + 3.5 / 1.5) = 1.20 and ln(1 + 1.5 / 3.5) = .36. A document with both words once has the score
1.20 * 2.2 / 2.2 + .36 * 2.2 / 2.2 = 1.56.

Terms are added from the largest weight to the smallest, equal weights by the query's spelling. Float64 sums depend on
the order of their terms, and this order is the same in every search.

`best_by_words` need not read the long lists of common words (MaxScore: Turtle and Flood, 1995). A document that has
none of the terms added so far can only get the weights of the terms that are left. Once the k-th best score exceeds
their sum, no such document can be among the k best. The rest is added for the documents that still can be.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from ..arrays import Bools, Bytes, Doubles, Ints
from .segments import SegmentedIndex
from .terms import one_edit_away
from .topk import top_k

__all__ = [
    "K1",
    "MAX_CORRECTED",
    "B",
    "Collection",
    "QueryTerm",
    "QueryWords",
    "Statistics",
    "WeightedTerm",
    "best_by_words",
    "query_terms",
    "term_scores",
    "unknown_terms",
    "weigh",
    "word_scores",
]

K1, B = 1.2, 0.75
CORRECTABLE = re.compile(rb"[a-z]{4,24}")
MAX_CORRECTED = 8  # terms of a query, the first ones: each looks up several hundred other terms
MISSPELT = 0.5  # share of its weight that a term gets in the place of a misspelling
LONG_LIST = 1 << 12  # entries; a shorter list is read sooner than it is decided whether it can be spared


class Collection(Protocol):
    """What a term's weight depends on. All counts are of live documents."""

    @property
    def n_live(self) -> int:
        """The number of documents."""

    @property
    def total_words(self) -> int:
        """The number of words of all of them."""

    def document_frequency(self, term: bytes) -> int:
        """Return the number of documents with a term."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A collection of which only the counts are known, for example because its documents are on several machines."""

    n_live: int
    total_words: int
    frequencies: Mapping[bytes, int]  # term -> number of live documents; 0 for a term that is missing

    def document_frequency(self, term: bytes) -> int:
        """Return the number of documents with a term."""
        return self.frequencies.get(term, 0)


class WeightedTerm(NamedTuple):
    """One term of a query."""

    term: bytes
    asked: bytes  # the term of the query: the same one, or a misspelling of it
    weight: float  # its score in any document is below this


@dataclass(frozen=True, slots=True)
class QueryWords:
    """The words of a query, weighted for a collection. Scores by them need nothing else of the collection."""

    terms: tuple[WeightedTerm, ...]  # distinct ones, in the order in which their scores are added
    n_terms: int  # of the query, repetitions included
    mean_words: float  # of a document of the collection, never 0


@dataclass(frozen=True, slots=True, eq=False)
class QueryTerm:
    """One term of a query, and its inverted list in an index."""

    term: bytes
    asked: bytes
    weight: float
    mean_words: float
    documents: Ints  # [n] ascending numbers of the documents that have it, deleted ones included
    counts: Bytes  # [n] how often they have it


def weigh(terms: Sequence[bytes], collection: Collection) -> QueryWords:
    """Return the words of a query, weighted for a collection, misspelt ones replaced.

    terms  of the query, repetitions included
    """
    misspelt = set(unknown_terms(terms, collection))
    weighted = []
    for asked, count in Counter(terms).items():
        term, times, df = asked, float(count), collection.document_frequency(asked)
        if asked in misspelt:
            near = [(collection.document_frequency(other), other) for other in one_edit_away(asked)]
            df, term = min(near, key=lambda pair: (-pair[0], pair[1]))
            term, times = (term, MISSPELT * count) if df else (asked, times)
        idf = math.log(1 + (collection.n_live - df + 0.5) / (df + 0.5))
        weighted.append(WeightedTerm(term, asked, times * idf * (K1 + 1)))
    weighted.sort(key=lambda t: (-t.weight, t.asked))
    mean_words = max(collection.total_words, 1) / max(collection.n_live, 1)
    return QueryWords(tuple(weighted), len(terms), mean_words)


def unknown_terms(terms: Sequence[bytes], collection: Collection) -> list[bytes]:
    """Return the terms whose place is taken by a similar one, if there is one: at most MAX_CORRECTED."""
    distinct = dict.fromkeys(term for term in terms if CORRECTABLE.fullmatch(term))
    return list(islice((term for term in distinct if not collection.document_frequency(term)), MAX_CORRECTED))


def query_terms(words: QueryWords, index: SegmentedIndex) -> list[QueryTerm]:
    """Return the terms of a query with their inverted lists, in the order in which their scores are added.

    index  all of whose segments have words
    """
    return [QueryTerm(*term, words.mean_words, *index.term_entries(term.term)) for term in words.terms]


def word_scores(terms: Sequence[QueryTerm], index: SegmentedIndex, documents: Ints) -> Doubles:
    """Return the BM25 score of each of these documents (ascending), 0 for one that has no term of the query: [n]."""
    scores = np.zeros(len(documents))
    for term in terms:
        scores += term_scores(term, index, documents)
    return scores


def term_scores(term: QueryTerm, index: SegmentedIndex, documents: Ints) -> Doubles:
    """Return the score of one term in each of these documents (ascending): [n]."""
    places = np.searchsorted(term.documents, documents)  # [n] where each document is in the list, if it is there
    found = np.flatnonzero(places < len(term.documents))
    found = found[term.documents[places[found]] == documents[found]]  # [n_found]
    scores = np.zeros(len(documents))
    scores[found] = _scores(term, term.counts[places[found]], index, documents[found])
    return scores


def best_by_words(
    terms: Sequence[QueryTerm],  # as `query_terms` returns them
    index: SegmentedIndex,
    k: int,
    eligible: Bools,  # [n_docs] documents that may be returned
) -> tuple[Ints, Doubles]:
    """Return the k eligible documents with the best BM25 scores, best first, and the scores: [n_hits] each.

    A document without any term of the query is not returned. Equal scores are ordered by position.
    """
    scores = np.zeros(len(eligible))  # [n_docs] the sum over the terms read so far
    unread = total = sum(term.weight for term in terms)  # `unread`: no document can get more from the terms left
    remaining = list(terms)
    while remaining:
        term = remaining[0]
        # The sums cannot exceed `unread` before the weights that were read do.
        long = len(term.documents) > LONG_LIST and total - unread > unread
        if long and _kth(scores[(scores > 0) & eligible], k) > unread:
            break
        scores[term.documents] += _scores(term, term.counts, index, term.documents)
        remaining, unread = remaining[1:], unread - term.weight
    documents = np.flatnonzero((scores > 0) & eligible)
    scores = scores[documents]  # [n]
    for term in remaining:
        reachable = scores + unread >= _kth(scores, k)
        documents, scores = documents[reachable], scores[reachable]
        scores += term_scores(term, index, documents)
        unread -= term.weight
    order = top_k(scores, k, index.positions[documents])
    return documents[order], scores[order]


def _kth(scores: Doubles, k: int) -> float:
    """Return the k-th largest of scores, 0 if there are fewer than k."""
    return float(np.partition(scores, len(scores) - k)[len(scores) - k]) if len(scores) >= k else 0.0


def _scores(term: QueryTerm, counts: Bytes, index: SegmentedIndex, documents: Ints) -> Doubles:
    """Return the score of a term in documents [n] that have it so many times: [n]."""
    lengths = index.n_words[documents] / term.mean_words  # [n]
    f = counts.astype(np.float64)
    scores: Doubles = term.weight * f / (f + K1 * (1 - B + B * lengths))
    return scores
