"""HTML for notebooks: well formed, every text escaped, colors that follow the answers."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from refcolbert import Index, rerank
from refcolbert.explanation.alignment import QueryWord
from refcolbert.explanation.html import PALETTE, color_of, strength

HOSTILE = "<script>alert(1)</script> & \"date\" 'x' <img src=x onerror=alert(2)> \u202eabc </div>"


class Page(HTMLParser):
    """The elements, attributes and text that a browser would see; fails on tags that do not close."""

    def __init__(self, html) -> None:
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        """Record an element and its attributes."""
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        """Assert that the element was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Record text."""
        self.text += data


def test_a_hostile_document_is_text(encoder):
    """Markup in a document or a query appears as text: no element, no attribute but style, title and dir."""
    (hit,) = rerank("<b>date</b> \"'", [HOSTILE], encoder)
    for html in (hit._repr_html_(), hit.explain()._repr_html_()):
        page = Page(html)
        assert HOSTILE in re.sub(r"\[(CLS|SEP|D)\]", "", page.text)
        assert set(page.tags) <= {"div", "span", "b", "small"}
        assert {name for name, _ in page.attributes} <= {"style", "title", "dir"}


def test_words_have_the_color_of_the_query_word_they_answer(encoder):
    """A query word and the document's word that answered it share a color; the title has their similarity."""
    (hit,) = rerank("date", ["a date"], encoder)
    html = hit.explain()._repr_html_()
    match = hit.explain().matches[2]  # after [CLS] and the marker
    rgb = ",".join(map(str, PALETTE[0]))
    colored = re.findall(rf"<span style=\"background:rgba\({rgb},[^>]*\" title=\"([^\"]*)\">([^<]*)", html)
    assert colored[0] == (f"date → {match.text}", "date ")
    assert colored[1][0].startswith(f"date {match.similarity:.2f}")
    assert colored[1][1] == match.text


def test_the_score_is_shown_and_its_parts_add_up(encoder):
    """The numbers beside the query's words add up to the score, within their rounding."""
    (hit,) = rerank("parse a date", ["a date from a string"], encoder)
    text = Page(hit.explain()._repr_html_()).text
    words, score = re.match(r"(.*) = ([\d.]+)", text).groups()
    parts = [float(part) for part in re.findall(r" (-?\d\.\d\d|\d\d\.\d\d)(?: |$)", words)]
    assert len(parts) == len(hit.explain().words)
    assert float(score) == pytest.approx(sum(parts), abs=0.005 * len(parts) + 0.0005)


def test_a_hit_without_its_model_still_shows_its_text(tmp_path, encoder, monkeypatch):
    """A notebook shows rank, id and text where the explanation cannot be made."""
    with Index.create(tmp_path / "index", encoder) as index:
        index.add([{"id": "<i>", "text": HOSTILE}])
    with Index.open(tmp_path / "index") as index:
        q = np.ones((1, 16))
        (hit,) = index.search(q)
        monkeypatch.setattr("refcolbert.encoding.encoder.Encoder.load", _gone)
        page = Page(hit._repr_html_())
    assert HOSTILE in page.text
    assert page.text.startswith("1. <i> · ")
    assert set(page.tags) == {"div", "b"}


def _gone(*args, **kwargs):
    from refcolbert.errors import ModelNotFound

    raise ModelNotFound("gone")


def test_colors_go_round_and_markers_have_none():
    """Only the user's words take colors, in order, and the first comes again after the last."""
    words = [_word("marker"), *[_word("text")] * (len(PALETTE) + 1), _word("expansion")]
    own = [color_of(words, number) for number in range(len(words))]
    assert own == [None, *range(len(PALETTE)), 0, None]


def _word(kind):
    return QueryWord(text="x", kind=kind, rows=(0,), similarity=1.0, found=())


def test_depth_grows_with_similarity():
    """A color is deeper where the similarity is greater, absent at 0 and below, full at 1."""
    depths = [strength(s) for s in (-1, 0, 0.25, 0.5, 1, 1.0001)]
    assert depths == [0, 0, 0.0625, 0.25, 1, 1]
