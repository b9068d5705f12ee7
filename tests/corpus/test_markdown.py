"""Markdown: headings that begin a section, and front matter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert.corpus.markdown import front_matter, sections


def brief(text):
    """(path, anchor, body) of each section."""
    return [(" > ".join(s.path), s.anchor, s.body) for s in sections(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("plain\n\ntext", [("", "", "plain\n\ntext")]),
        ("# A\nx", [("A", "a", "x")]),
        ("before\n# A\nx", [("", "", "before"), ("A", "a", "x")]),
        ("# A\nx\n## B\ny\n# C\nz", [("A", "a", "x"), ("A > B", "b", "y"), ("C", "c", "z")]),
        ("# A\n### B\nx\n## C\ny", [("A > B", "b", "x"), ("A > C", "c", "y")]),
        ("## A\nx\n# B\ny", [("A", "a", "x"), ("B", "b", "y")]),
        ("A\n===\nx\n\nB\n---\ny", [("A", "a", "x"), ("A > B", "b", "y")]),
        ("# A\n```\n# no heading\n```\n", [("A", "a", "```\n# no heading\n```")]),
        ("# A\n    # code\n", [("A", "a", "    # code")]),
        ("# A\n> # quoted\n\n- # listed\n", [("A", "a", "> # quoted\n\n- # listed")]),
        ("# A\n#tag is no heading", [("A", "a", "#tag is no heading")]),
        ("# A `code` and *stress* [link](x) #", [("A code and stress link", "a-code-and-stress-link", "")]),
        ("# A\nx\n# A\ny\n# A\nz", [("A", "a", "x"), ("A", "a-1", "y"), ("A", "a-2", "z")]),
        ("# What's new?!\nx", [("What's new?!", "whats-new", "x")]),
        ("# \U0001f600\nx\n#\ny", [("\U0001f600", "section", "x"), ("", "section-1", "y")]),
        ("# A\r\nx\r\n## B\r\ny\r\n", [("A", "a", "x"), ("A > B", "b", "y")]),
    ],
    ids=range(17),
)
def test_a_text_is_cut_at_its_headings(text, expected):
    """Path, anchor and body are those of the rendered page."""
    assert brief(text) == expected


@pytest.mark.parametrize(
    ("text", "titles"),
    [("# A\n## B\nx", ["A > B"]), ("# A\n# B\nx", ["A", "B"]), ("# A\n## B", ["A > B"]), ("# A", ["A"])],
)
def test_a_heading_over_nothing_is_in_the_path_of_what_follows_or_stands_alone(text, titles):
    """No heading is lost: it is in the path of a deeper one, or a section of its own."""
    assert [" > ".join(s.path) for s in sections(text)] == titles


@given(st.text(alphabet="#ab -=\n>`\u00e9\r*", max_size=60))
def test_no_word_is_lost(text):
    """Every letter of the text is in a path or a body, whatever the markup."""
    shown = "".join("".join(s.path) + s.body for s in sections(text))
    assert all(shown.count(letter) >= text.count(letter) for letter in "ab\u00e9")


@pytest.mark.parametrize(
    ("text", "fields", "rest"),
    [
        ("---\ntitle: T\n---\nx", {"title": "T"}, "x"),
        ("---\ntitle: T\n...\nx", {"title": "T"}, "x"),
        (
            "---\na: 1\nb: [x, 2.5, true, null]\nc: {d: e}\n---\n",
            {"a": 1, "b": ["x", 2.5, True, None], "c": {"d": "e"}},
            "",
        ),
        ("---\nday: 2024-05-06\n1: .nan\n---\n", {"day": "2024-05-06", "1": "nan"}, ""),
        ("---\r\na: 1\r\n---\r\nx\r\n", {"a": 1}, "x\n"),
    ],
    ids=range(5),
)
def test_front_matter_becomes_plain_json(text, fields, rest):
    """A YAML mapping between dashes at the beginning is taken off the text."""
    assert front_matter(text) == (fields, rest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x\n---\na: 1\n---\n",
        "---\nno mapping\n---\nx",
        "---\na: [1\n---\nx",
        "---\nday: 2024-99-99\n---\nx",
        "---\na: &x [1]\nb: *x\n---\n",
        "---\na: !!python/object:os.system x\n---\n",
        "---\na: 1\nno end",
        "----\na: 1\n----\n",
    ],
    ids=range(9),
)
def test_other_beginnings_than_front_matter_are_text(text):
    """The text is unchanged, and no code in it runs."""
    assert front_matter(text) == ({}, text)
