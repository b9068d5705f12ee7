"""BM25 over the terms of an SQLite FTS5 tokenizer, and changed queries: a typo, one word. For `fusion`."""

import math
import random
import re
import sqlite3
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from refcolbert.arrays import Doubles

LETTERS = 4  # a shorter word gets no typo
EXPANDED = 0.5  # weight of a vocabulary term in the place of an unknown term
Terms = Mapping[str, float]  # term -> weight, for a query


class Words:
    """BM25 over the terms of an SQLite FTS5 tokenizer."""

    def __init__(self, texts: Sequence[str], tokenizer: str = "porter unicode61") -> None:
        self.tokenizer = tokenizer
        terms, documents, counts = zip(*self._rows(texts, "term, doc, count(*)", "GROUP BY term, doc"), strict=True)
        self.documents, self.tf = np.array(documents) - 1, np.array(counts, np.float64)  # [n_postings], term by term
        df = Counter(terms)  # in the order of the postings
        ends = np.cumsum(list(df.values()))
        self.postings = {term: slice(end - df[term], end) for term, end in zip(df, ends, strict=True)}
        self.lengths = np.bincount(self.documents, self.tf, len(texts))  # [n_docs]

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the terms of each text, repeated as they occur."""
        out: list[list[str]] = [[] for _ in texts]
        for text, term in self._rows(texts, "doc, term", "ORDER BY doc, offset"):
            out[text - 1].append(term)
        return out

    def frequent(self, n: int) -> set[str]:
        """Return the n terms that occur most often."""
        return set(sorted(self.postings, key=lambda term: -self.tf[self.postings[term]].sum())[:n])

    def df(self, term: str) -> int:
        """Return the number of documents that have the term."""
        rows = self.postings.get(term, slice(0, 0))
        return int(rows.stop - rows.start)

    def idf(self, term: str) -> float:
        """Return ln(1 + (N - df + 1/2) / (df + 1/2)), which is above 0 for every term."""
        df = self.df(term)
        return math.log(1 + (len(self.lengths) - df + 0.5) / (df + 0.5))

    def scores(self, queries: Sequence[Terms], k1: float = 1.2, b: float = 0.75) -> Doubles:
        """Return the BM25 score of every document for each query: [n_queries, n_docs]."""
        norms = k1 * (1 - b + b * self.lengths / self.lengths.mean())  # [n_docs]
        out = np.zeros((len(queries), len(self.lengths)))
        for row, query in zip(out, queries, strict=True):
            for term, weight in query.items():
                rows = self.postings.get(term, slice(0, 0))
                documents, tf = self.documents[rows], self.tf[rows]
                row[documents] += weight * self.idf(term) * tf * (k1 + 1) / (tf + norms[documents])
        return out

    def expanded(self, terms: Sequence[str]) -> dict[str, float]:
        """Return the weights of a query, with an unknown term replaced by the most frequent term one edit away."""
        out: dict[str, float] = {}
        for term in terms:
            near = set() if self.df(term) else self.postings.keys() & set().union(*edits(term))
            meant = max(near, key=lambda t: (self.df(t), t), default=term)
            out[meant] = out.get(meant, 0) + (EXPANDED if near else 1)
        return out

    def _rows(self, texts: Sequence[str], columns: str, tail: str) -> list[tuple[Any, ...]]:
        """Tokenize the texts in a table of their own, and return rows of its tokens."""
        with closing(sqlite3.connect(":memory:")) as db:
            db.execute(f"CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='{self.tokenizer}')")
            db.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", enumerate(texts, 1))
            db.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab(texts, instance)")
            return db.execute(f"SELECT {columns} FROM tokens {tail}").fetchall()  # noqa: S608, constants of this file


def edits(word: str) -> tuple[set[str], ...]:
    """Return the words that are one letter longer or shorter, or have one replaced, or two exchanged neighbours."""
    cuts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    letters = string.ascii_lowercase
    return (
        {a + c + b for a, b in cuts for c in letters},
        {a + b[1:] for a, b in cuts if b},
        {a + c + b[1:] for a, b in cuts if b for c in letters} - {word},
        {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1} - {word},
    )


def with_typo(text: str, words: Words, frequent: set[str], chance: random.Random) -> str:
    """Return the query with one edit in one of its words, or unchanged if all are short or frequent."""
    found = list(re.finditer(f"[A-Za-z]{{{LETTERS},}}", text))
    stems = words.tokens([match[0] for match in found])
    found = [match for match, terms in zip(found, stems, strict=True) if not frequent.intersection(terms)]
    if not found:
        return text
    match = chance.choice(found)
    kind = chance.choice([kind for kind in edits(match[0].lower()) if kind])
    return text[: match.start()] + chance.choice(sorted(kind)) + text[match.end() :]


def rarest_word(text: str, words: Words) -> str:
    """Return the word of the query that the fewest documents have, but at least one; else the whole query."""
    found = re.findall(r"\w+", text)
    stems = words.tokens(found)
    known = [(words.df(terms[0]), i) for i, terms in enumerate(stems) if len(terms) == 1 and words.df(terms[0])]
    return found[min(known)[1]] if known else text
