"""Texts cut into words: every text is text, whatever SQLite's query language means by its signs."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert.encoding import words
from refcolbert.encoding.words import TOKENIZERS, WordTokenizer
from refcolbert.errors import InvalidInput, MissingDependency

SAME = {
    "C++": ["c"],
    '"parsing dates" AND more': ["pars", "date", "and", "more"],
    "cat* OR dat*": ["cat", "or", "dat"],
    "NEAR(parsing dates, 5)": ["near", "pars", "date", "5"],
    "^first -second": ["first", "second"],
    "text:column rowid:1": ["text", "column", "rowid", "1"],
    "{a b}: c": ["a", "b", "c"],
    "'; DROP TABLE texts; --": ["drop", "tabl", "text"],
    '"unbalanced': ["unbalanc"],
    "(": [],
    "*": [],
    "?! ...": [],
    "": [],
    "\0": [],
    "a\0b": ["a", "b"],
    "NOT": ["not"],
    "naïve Café": ["naiv", "cafe"],
}


@pytest.mark.parametrize("text", SAME)
def test_signs_of_a_query_language_mean_nothing(text):
    """A query is cut like any text; quotes, operators, columns, prefixes and NUL are signs between words."""
    assert WordTokenizer("porter").terms(text) == [term.encode() for term in SAME[text]]


@pytest.mark.parametrize(
    ("name", "text", "terms"),
    [
        ("porter", "Running RUNS ran", ["run", "run", "ran"]),
        ("unicode61", "Running RUNS Ångström", ["running", "runs", "angstrom"]),
        ("unicode61", "日本語 text_1", ["日本語", "text", "1"]),
        ("unicode61", "Một re\u0301sume\u0301", ["mot", "resume"]),
        ("trigram", "ABcd", ["abc", "bcd"]),
        ("trigram", "日本語文", ["日本語", "本語文"]),
        ("trigram", "ab", []),
        ("trigram", "abc\0def", ["abc", "bc ", "c d", " de", "def"]),
    ],
)
def test_each_tokenizer_cuts_in_its_way(name, text, terms):
    """porter stems, unicode61 does not, trigram has every three neighbours."""
    assert WordTokenizer(name).terms(text) == [term.encode() for term in terms]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(texts=st.lists(st.none() | st.text(max_size=30), max_size=5))
def test_lists_count_the_terms_of_each_text(name, texts):
    """The lists of texts, whichever signs they have, hold the terms of each text and nothing else."""
    tokenizer = WordTokenizer(name)
    counts = [Counter(tokenizer.terms(text or "")) for text in texts]
    lists = tokenizer.lists(texts)
    assert lists.lengths.tolist() == [sum(count.values()) for count in counts]
    assert all(a < b for a, b in pairwise(lists.terms()))
    found = [Counter() for _ in texts]
    for term in lists.terms():
        for row, count in zip(*(array.tolist() for array in lists.entries(term)), strict=True):
            found[row][term] = count
    assert found == counts


def test_a_query_of_many_words_is_cut():
    """Ten thousand words are ten thousand terms."""
    assert WordTokenizer("porter").terms("cat dog " * 5000) == [b"cat", b"dog"] * 5000


@pytest.mark.parametrize("name", ["porter", "unicode61"])
@pytest.mark.parametrize("letter", ["a", "é", "文", "\U00020000"])
def test_a_word_beyond_the_limit_of_sqlite_is_cut(name, letter):
    """A text without separators is one word; SQLite cuts it at 32,768 bytes, wherever that falls in a character."""
    text = letter * 40_000
    (term,) = WordTokenizer(name).terms(text)
    assert len(term) == 1 << 15
    assert WordTokenizer(name).lists(["cat", text]).entries(term)[0].tolist() == [1]
    assert WordTokenizer(name).places(text) == [(0, len(text), [term])]


@pytest.mark.parametrize("text", ["résumé", "re\u0301sume\u0301"])
def test_a_word_is_found_at_its_place_when_accents_are_characters_of_their_own(text):
    """A combining accent does not end a word."""
    assert WordTokenizer("unicode61").places(text) == [(0, len(text), [b"resume"])]


def test_an_unknown_name_is_refused():
    """The message lists the names there are."""
    for name in ("simple", "", "porter unicode61", "auto"):
        with pytest.raises(InvalidInput, match="porter, unicode61, trigram"):
            WordTokenizer(name)


def test_sqlite_without_the_tokenizer_is_a_missing_dependency(monkeypatch):
    """Whatever is asked; the message says what to do."""
    monkeypatch.setitem(words.TOKENIZERS, "porter", "unheard_of")
    tokenizer = WordTokenizer("porter")
    for ask in (tokenizer.terms, lambda text: tokenizer.lists([text]), tokenizer.places):
        with pytest.raises(MissingDependency, match="words=None"):
            ask("cats")
