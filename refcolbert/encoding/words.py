"""Words of texts, as the full-text search of SQLite (FTS5) cuts them.

A tokenizer turns a text into terms. These are the tokenizers:

    porter      words in lower case without diacritics, and of English words the stem (Porter, 1980)
    unicode61   words in lower case without diacritics
    trigram     every three neighbouring characters in lower case: for languages without spaces, and for code

For FTS5 they are `porter unicode61 remove_diacritics 2`, `unicode61 remove_diacritics 2` and `trigram`.

SQLite only tokenizes here: a temporary table in memory takes the texts, and its vocabulary gives the terms back. A
query is a text like any other. So quotes, AND, * and all other signs of SQLite's query language mean nothing in it.
"""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ..engine.terms import TermLists, build
from ..errors import InvalidInput, MissingDependency

__all__ = ["TOKENIZERS", "WordTokenizer"]

# Name -> the argument `tokenize` of an FTS5 table.
# Without 2, a letter with two diacritics would keep them.
UNICODE = "unicode61 remove_diacritics 2"
TOKENIZERS = {"porter": f"porter {UNICODE}", "unicode61": UNICODE, "trigram": "trigram"}
# A combining accent belongs to the letter before it.
WORD = re.compile(r"(?:[^\W_][\u0300-\u036f]*)+")


@dataclass(frozen=True, slots=True)
class WordTokenizer:
    """Cuts texts into terms. Raises `InvalidInput` for an unknown name.

    Its methods raise `MissingDependency` if SQLite lacks the tokenizer.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in TOKENIZERS:
            raise InvalidInput(f"words must be one of {', '.join(TOKENIZERS)}, found {self.name!r}")

    def terms(self, text: str) -> list[bytes]:
        """Return the terms of a text, in its order, repetitions included.

        >>> WordTokenizer("porter").terms('"Parsing dates" AND C++')
        [b'pars', b'date', b'and', b'c']
        """
        return [term for (term,) in self._read([text], "SELECT term FROM vocabulary ORDER BY offset")]

    def lists(self, texts: Sequence[str | None]) -> TermLists:
        """Return the inverted lists of texts. A document without a text has no terms.

        >>> WordTokenizer("porter").lists(["Cats and cats", None, "A cat"]).entries(b"cat")[0].tolist()
        [0, 2]
        """
        rows = self._read(texts, "SELECT term, doc, count(*) FROM vocabulary GROUP BY term, doc ORDER BY term, doc")
        return build(rows, len(texts))

    def places(self, text: str) -> list[tuple[int, int, list[bytes]]]:
        """Return the words of a text: start, end and terms of each.

        Words are runs of letters and digits here. The tokenizers cut there too, except at a few rare signs. `trigram`
        also has terms across words, which are not returned.

        >>> WordTokenizer("porter").places("Parsing, dates")
        [(0, 7, [b'pars']), (9, 14, [b'date'])]
        """
        words = [(match.start(), match.end()) for match in WORD.finditer(text)]
        terms: list[list[bytes]] = [[] for _ in words]
        texts = [text[start:end] for start, end in words]
        for term, number in self._read(texts, "SELECT term, doc FROM vocabulary ORDER BY doc, offset"):
            terms[number].append(term)
        return [(start, end, own) for (start, end), own in zip(words, terms, strict=True)]

    def _read(self, texts: Sequence[str | None], query: str) -> list[Any]:
        """Return the rows of a query on the vocabulary of a temporary table of texts; row i is text i."""
        try:
            with closing(sqlite3.connect(":memory:")) as connection:
                # SQLite cuts a term at 32,768 bytes, even within a character.
                connection.text_factory = bytes
                tokenizer = TOKENIZERS[self.name]
                # An empty `content` keeps the terms and not the texts.
                connection.execute(
                    f"CREATE VIRTUAL TABLE texts USING fts5(text, content='', columnsize=0, tokenize='{tokenizer}')"
                )
                connection.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(texts, instance)")
                # SQLite ends a text at NUL.
                rows = ((row, text.replace("\0", " ")) for row, text in enumerate(texts) if text)
                connection.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", rows)
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            raise MissingDependency(
                f"expected SQLite with full-text search (FTS5) and its tokenizer {self.name}, found SQLite "
                f"{sqlite3.sqlite_version} without ({error}); use a Python that is built with it, or an index with "
                "words=None"
            ) from error
