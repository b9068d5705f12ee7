"""The words that query and document share: their shares of BM25, their places, and how a search by words is shown."""

import re

import pytest

from refcolbert import Index
from refcolbert.errors import InvalidInput

TEXT = "Parsing \U0001f600 <dates>: parse a date, or two dates"


@pytest.fixture
def hit_of(tmp_path, encoder):
    """The hit of TEXT for a query, in an index of two documents with these words."""

    def make(query, mode, words="porter"):
        index = Index.create(tmp_path / words, encoder, words=words)
        index.add([TEXT, "the flow over a wing"])
        return index.search(query, 1, mode=mode, ids=["0"])[0]

    return make


@pytest.mark.parametrize("mode", ["words", "hybrid"])
def test_the_shares_add_up_to_bm25(hit_of, mode):
    """The scores of the shared words add up to the hit's BM25, the largest first."""
    hit = hit_of("parse wing dates", mode)
    shared = hit.explain().shared_words
    assert [word.text for word in shared] == ["dates", "parse"]
    assert sum(word.score for word in shared) == pytest.approx(hit.parts.words)


def test_places_are_those_of_every_spelling(hit_of):
    """A stem is found in each of its spellings, behind an emoji and between signs too."""
    dates, parse = hit_of("parse dates", "words").explain().shared_words
    assert [TEXT[slice(*span)] for span in dates.spans] == ["dates", "date", "dates"]
    assert [TEXT[slice(*span)] for span in parse.spans] == ["Parsing", "parse"]
    assert (dates.term, parse.term) == ("date", "pars")


def test_the_trigrams_of_a_word_are_one_entry(hit_of):
    """With trigrams a word of the query has one entry, with the trigrams that the document has and all their score."""
    hit = hit_of("dated", "words", "trigram")
    (word,) = hit.explain().shared_words
    assert (word.text, word.term) == ("dated", "ate dat")
    assert word.score == pytest.approx(hit.score)


def test_late_interaction_has_no_shared_words(hit_of):
    """Only modes that rank by words have them."""
    assert hit_of("parse dates", "late").explain().shared_words == ()


def test_a_search_by_words_prints_words_alone(hit_of):
    """The table has the BM25 score and the shared words, and no line of MaxSim."""
    hit = hit_of("parse dates", "words")
    dates, parse = hit.explain().shared_words
    assert str(hit.explain()) == (
        f"words {hit.score:.4f}\ndates  {dates.score:6.3f}  x3\nparse  {parse.score:6.3f}  x2"
    )


def test_a_search_by_words_has_nothing_to_draw(hit_of):
    """Without similarities there is no heatmap, and the error says which mode has one."""
    with pytest.raises(InvalidInput, match="use 'hybrid'"):
        hit_of("parse dates", "words").explain().plot()


def test_a_notebook_shows_the_words_of_a_search_by_words(hit_of):
    """The shared words with their shares stand for the score, and no MaxSim of 0 does."""
    hit = hit_of("parse dates", "words")
    text = re.sub("<[^>]*>", "", hit._repr_html_())
    shares = " ".join(f"{word.text} {word.score:.2f}" for word in hit.explain().shared_words)
    assert f"{shares} = {hit.score:.3f}" in text
    assert "0.000" not in text


@pytest.mark.parametrize("mode", ["words", "hybrid"])
def test_a_notebook_underlines_shared_words_in_the_text(hit_of, mode):
    """Each place of a shared word is underlined, beside the colors of the matches; signs are escaped."""
    html = hit_of("parse dates", mode).explain()._repr_html_()
    body = html[html.index("dir=") :]
    assert re.findall(r'<b style="text-decoration[^>]*>([^<]*)</b>', body) == [
        "Parsing",
        "dates",
        "parse",
        "date",
        "dates",
    ]
    assert "&lt;" in body
    assert ("background:" in body) == (mode == "hybrid")
