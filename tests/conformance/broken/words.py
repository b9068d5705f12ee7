"""Faults in scores by words, in their statistics, and in fusion."""

import math

from ..complete import Index
from ..oracle import definition
from .faults import fault


def bm25(query, documents, *, idf=definition.idf, length=len, frequencies=None, lengths=None):
    """BM25 of each document with another idf, other lengths, or the statistics of other documents."""
    counted = documents if frequencies is None else frequencies
    measured = documents if lengths is None else lengths
    mean = max(sum(map(length, measured)), 1) / max(len(measured), 1)
    scores = [0.0] * len(documents)
    for term in sorted(set(query)):
        df, n = definition.document_frequency(term, counted), len(counted)
        for i, document in enumerate(documents):
            if term in document:
                weight = query.count(term) * idf(df, n) * 2.2
                scores[i] += definition.term_score(weight, document.count(term), length(document), mean)
    return scores


@fault("58", "word_scores")
def repeated_query_term_counted_once(query, documents):
    """The query is taken as a set."""
    return definition.word_scores(sorted(set(query)), documents)


@fault("58", "word_scores")
def idf_without_one(query, documents):
    """ln((N - df + .5) / (df + .5)) is negative for a term of most documents."""
    return bm25(query, documents, idf=lambda df, n: math.log((n - df + 0.5) / (df + 0.5)))


@fault("58", "word_scores")
def length_in_characters(query, documents):
    """A text is as long as its characters."""
    return bm25(query, documents, length=lambda terms: len(" ".join(terms)))


@fault("58", "word_scores")
def length_in_distinct_terms(query, documents):
    """Repetitions do not make a text longer."""
    return bm25(query, documents, length=lambda terms: len(set(terms)))


@fault("58", "word_scores")
def counts_ignored(query, documents):
    """Each document has a term once or not at all."""
    return definition.word_scores(query, [sorted(set(document)) for document in documents])


class Statistics(Index):
    """An index that takes the statistics of words from documents that a subclass chooses."""

    def __init__(self, dim) -> None:
        super().__init__(dim)
        self.every, self.parts = {}, []  # terms by id, deleted documents included; ids of each addition

    def add(self, ids, documents, terms=None):
        """Note the terms and the part."""
        super().add(ids, documents, terms)
        self.every.update(zip(ids, terms, strict=True))
        self.parts.append(list(ids))

    def scored(self, query, ids):
        """The scores {id: score} of the documents in the index."""
        return dict(zip(self.terms, definition.word_scores(query, list(self.terms.values())), strict=True))

    def search_words(self, terms, k, ids=None):
        """Rank by `scored`."""
        found = [(name, s) for name, s in self.scored(terms, ids).items() if s > 0 and (ids is None or name in ids)]
        return [found[i] for i in definition.top_k([score for _, score in found], k)]


@fault("59", "Index")
class df_counts_deleted_documents(Statistics):  # noqa: N801
    """Document frequencies are those of the lists, which still have deleted documents."""

    def scored(self, query, ids):
        """Take df from every document."""
        live = list(self.terms.values())

        def idf(df, n):
            return definition.idf(min(df, len(live)), len(live))

        scores = bm25(query, live, frequencies=list(self.every.values()), idf=idf)
        return dict(zip(self.terms, scores, strict=True))


@fault("59", "Index")
class mean_length_counts_deleted_documents(Statistics):  # noqa: N801
    """The mean length is that of all documents ever added."""

    def scored(self, query, ids):
        """Take lengths from every document."""
        scores = bm25(query, list(self.terms.values()), lengths=list(self.every.values()))
        return dict(zip(self.terms, scores, strict=True))


@fault("59", "Index")
class statistics_per_segment(Statistics):  # noqa: N801
    """Each addition is scored by itself, as shards without shared statistics are."""

    def scored(self, query, ids):
        """Score part after part."""
        scores = {}
        for part in self.parts:
            live = [name for name in part if name in self.terms]
            scores |= zip(live, definition.word_scores(query, [self.terms[name] for name in live]), strict=True)
        return scores


@fault("59", "Index")
class statistics_of_the_choice(Statistics):  # noqa: N801
    """Only documents that the filter allows are counted."""

    def scored(self, query, ids):
        """Score the chosen documents by themselves."""
        live = [name for name in self.terms if ids is None or name in ids]
        return dict(zip(live, definition.word_scores(query, [self.terms[name] for name in live]), strict=True))


@fault("60", "Index")
class zero_scores_returned(Index):  # noqa: N801
    """Documents without any word of the query fill the answer up to k."""

    def search_words(self, terms, k, ids=None):
        """Rank all."""
        names = [name for name in self.documents if ids is None or name in ids]
        scores = dict(zip(self.documents, definition.word_scores(terms, list(self.terms.values())), strict=True))
        return [(names[i], scores[names[i]]) for i in definition.top_k([scores[name] for name in names], k)]


@fault("60", "Index")
class equal_word_scores_by_id(Index):  # noqa: N801
    """Equal scores are ordered by id."""

    def search_words(self, terms, k, ids=None):
        """Sort again."""
        hits = super().search_words(terms, len(self.documents), ids)
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:k]


@fault("61", "similarity")
def divided_by_all_query_rows(score, q):
    """Zero vectors, which add nothing, are counted."""
    return score / len(q)


@fault("62", "fuse")
def words_not_scaled(late, words, n_terms):
    """BM25 enters the sum as it is, so that it counts more in a longer query."""
    return definition.fuse(late, words, 1)


@fault("62", "fuse")
def words_divided_by_the_terms(late, words, n_terms):
    """BM25 is divided by the number of terms, not by its root."""
    return definition.fuse(late, words, n_terms**2)


class Pooled(Index):
    """A hybrid search whose parts a subclass changes."""

    def late(self, q, terms, depth, ids):
        """The scores {id: MaxSim} of the pool."""
        found = [*self.search(q, depth, ids), *self.search_words(terms, depth, ids)]
        return {name: definition.maxsim(q, self.documents[name]) for name, _ in found}

    def search_hybrid(self, q, terms, k, ids=None):
        """Fuse over `late`."""
        late, live = self.late(q, terms, 2 * k + 12, ids), list(self.terms.values())
        names = [name for name in self.documents if name in late]
        words = dict(zip(self.documents, definition.word_scores(terms, live), strict=True))
        fused = definition.fuse([late[name] for name in names], [words[name] for name in names], len(terms))
        return [(names[i], fused[i]) for i in definition.top_k(fused, k)]


@fault("62", "Index")
class late_pool_alone(Pooled):  # noqa: N801
    """Only the best documents by MaxSim are fused."""

    def late(self, q, terms, depth, ids):
        """Leave out the documents that only BM25 finds."""
        return dict(self.search(q, depth, ids))


@fault("62", "Index")
class no_late_score_outside_its_pool(Pooled):  # noqa: N801
    """Documents that only BM25 finds get 0 in place of their MaxSim."""

    def late(self, q, terms, depth, ids):
        """Compute no more scores."""
        first = dict(self.search(q, depth, ids))
        return {name: first.get(name, 0.0) for name in super().late(q, terms, depth, ids)}


@fault("63", "Index")
class not_respelled(Index):  # noqa: N801
    """A misspelt word finds nothing."""

    def search_words(self, terms, k, ids=None):
        """Leave out the terms that no document has."""
        known = {term for document in self.terms.values() for term in document}
        return super().search_words([term for term in terms if term in known], k, ids)


@fault("63", "Index")
class respelled_at_full_weight(Index):  # noqa: N801
    """A guess counts as much as a word that is there."""

    def search_words(self, terms, k, ids=None):
        """Put the term that was meant into the query."""
        live = list(self.terms.values())
        known = {term for document in live for term in document}
        meant = [term if term in known else definition.respelled(term, live) or term for term in terms]
        return super().search_words(meant, k, ids)
