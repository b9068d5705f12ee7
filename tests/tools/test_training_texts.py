"""Rows from the formats of documentation, and the kinds of queries made of them."""

import gzip
import json
import subprocess
from collections import Counter

import pytest
from click.testing import CliRunner

from tools.training import pairs, texts
from tools.training.leaks import TestTexts
from tools.training.parse import Row, article, docstrings, man_page, rst_sections
from tools.training.sources import SOURCES

ARTICLE = """<article xmlns:x="http://www.w3.org/1999/xlink"><front><article-meta>
<title-group><article-title>Colour of <italic>cobalt</italic></article-title></title-group>
<permissions><license x:href="http://creativecommons.org/licenses/{}/4.0/"/></permissions>
<abstract><p>It keeps [<xref ref-type="bibr">3</xref>] its colour.</p></abstract></article-meta></front>
<body><sec><title>Methods</title><p>As before.</p>
<sec><title>2.1 Light in the chamber</title><p>It was <xref ref-type="fig">Fig 1</xref> strong.</p></sec></sec></body>
</article>"""
PAGE = r"""
.\" a comment
.TH OPEN 2
.SH NAME
open, creat \- open and possibly create a file
.SH DESCRIPTION
The \fBopen\fP() system call opens
.BR file (7).
.EX
int code;
.EE
.SH OPTIONS
.TP
.BR \-\-append , " \-a"
Write at the end. An older file is kept.
.SH ERRORS
.TP
.B EACCES
The file may not be read.
"""
RST = """
Is Python slow?
===============

It depends. See :func:`~time.sleep` and :rfc:`2616`::

   code = 1

.. function:: sleep(secs)
              sleep(other)

   Suspend the thread. The time may be *longer*.

.. data:: zone

   Name it. It has an hour.
"""
CODE = b'''
def solve(a):
    """Solve a system.

    Of equations, in full.

    Raises
    ------
    LinAlgError
        If the matrix is singular.

    Examples
    --------
    >>> solve(1)
    """

def _private():
    """Hidden from all.

    Nobody reads it.
    """
'''
DOCUMENT = (
    "cobalt.keep: Cobalt pigments keep their colour under strong light, and amber does not keep it as well at all."
)


def test_an_open_article_gives_abstract_and_titled_sections():
    """Numbers of references and of sections are left out, and so are headings that every article has."""
    abstracts, sections = article(ARTICLE.format("by").encode())
    assert [(row.query, row.positive.strip()) for row in abstracts] == [("Colour of cobalt", "It keeps its colour.")]
    assert [(row.query, row.positive.strip()) for row in sections] == [("Light in the chamber", "It was Fig 1 strong.")]


@pytest.mark.parametrize("licence", ["by-nc", "by-sa", "by-nd", "by-nc-nd"])
def test_an_article_under_another_licence_gives_nothing(licence):
    """Non-commercial, share-alike and no-derivatives articles give no rows."""
    assert article(ARTICLE.format(licence).encode()) == ([], [])


def test_a_manual_page_gives_description_options_and_errors():
    """Macros and code are left out; an option is asked for by its first sentence, errors by one of them."""
    description, errors, option = man_page(PAGE)
    assert description == Row(
        "open and possibly create a file", "open:  The open() system call opens file(7).", identifier="open"
    )
    assert (errors.query, errors.error) == ("open errors", "open EACCES")
    assert "EACCES The file may not be read." in errors.positive
    assert option == Row("Write at the end.", "open --append, -a: An older file is kept.", "open --append")


def test_restructured_text_gives_questions_and_objects():
    """A heading that is a question stays one; an object's second signature is no part of its description."""
    question, described, datum = rst_sections(RST, "", "time")
    assert question.query == "Is Python slow?"
    assert " ".join(question.positive.split()) == "time: It depends. See time.sleep and RFC 2616:"
    assert described == Row("Suspend the thread.", "time.sleep: The time may be longer.", "time.sleep")
    assert datum == Row("Name it.", "time.zone: It has an hour.", "time.zone")


def test_a_docstring_gives_its_name_and_error():
    """Examples and private functions are left out; the error is what the Raises section says."""
    (row,) = [row for row in docstrings("lin/alg.py", CODE) if row.positive.strip(": ") != "lin.alg"]
    assert (row.query, row.identifier, row.error) == (
        "Solve a system.",
        "lin.alg.solve",
        "LinAlgError the matrix is singular",
    )
    assert "Of equations, in full." in row.positive
    assert ">>>" not in row.positive


def test_texts_are_cut_at_the_end_of_a_sentence():
    """A long text ends with the last sentence that fits."""
    found = texts.cut("A sentence of words. " * 200)
    assert found.endswith("words.")
    assert texts.LONGEST - 25 < len(found) <= texts.LONGEST


def test_only_english_texts_are_kept_once():
    """Other languages, short texts and doubles by letters and digits are left out."""
    rows = [
        Row("What is cobalt", DOCUMENT),
        Row("Asked again", DOCUMENT.upper()),
        Row(
            "Auf Deutsch", "Kobalt behält seine Farbe unter starkem Licht über viele Jahre hinweg, Bernstein nie. " * 2
        ),
        Row("short", "Too short to answer."),
    ]
    assert [record["query"] for record in texts.kept(rows)] in (["What is cobalt"], ["Asked again"])


def test_a_repository_is_read_and_what_is_missing_is_named(tmp_path, monkeypatch):
    """Titles of a repository's JSON are written with its commit; sources without a repository are named."""
    repository, out = tmp_path / "some+texts" / "repo", tmp_path / "out"
    repository.mkdir(parents=True)
    (repository / "a.json").write_text(json.dumps({"title": "Colour of cobalt", "abstract": DOCUMENT}))
    (tmp_path / "packages.txt").write_text("")
    monkeypatch.setattr(texts, "PACKAGES", tmp_path / "packages.txt")
    git = ["git", "-C", repository, "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "texts"]):
        subprocess.run([*git, *words], check=True)
    done = CliRunner().invoke(texts.main, [str(out), "--arxiv", str(repository)])
    assert "python_peps: left out" in done.output
    with gzip.open(out / "arxiv_title_abstract.jsonl.gz", "rt") as file:
        assert json.loads(file.read())["query"] == "Colour of cobalt"
    about = (out / "arxiv_title_abstract.SOURCE.md").read_text()
    assert "Origin: some/texts @ " in about
    source = next(source for source in SOURCES if source.name == "arxiv_title_abstract")
    assert list(source.read(out)) == [("Colour of cobalt", DOCUMENT, {"identifier": "", "error": ""})]


def test_queries_of_every_kind_are_made():
    """Over many seeds a document is asked for by rare words, a slip, its name and its error."""
    extras = {"identifier": "cobalt.keep", "error": "FadeError too much light"}
    frequency = Counter({"colour": 9, "cobalt": 2, "pigments": 1})
    found = [
        pair
        for seed in range(300)
        for pair in pairs.pairs_of("Cobalt pigments and colour", DOCUMENT, "s", seed, extras, frequency)
    ]
    by_kind = {kind: {pair.query for pair in found if pair.kind == kind} for kind in pairs.KINDS}
    assert by_kind["word"] == {"pigments", "cobalt pigments"}
    assert by_kind["identifier"] == {"cobalt.keep"}
    assert by_kind["error"] == {"FadeError too much light"}
    assert by_kind["typo"]
    assert all(len(set(query.split()) - {"Cobalt", "pigments", "and", "colour"}) == 1 for query in by_kind["typo"])


def test_a_question_of_the_source_is_one():
    """A given query that ends with a question mark is of the kind "question"."""
    kinds = {pair.kind for seed in range(20) for pair in pairs.pairs_of("What is cobalt?", DOCUMENT, "s", seed)}
    assert "question" in kinds
    assert "given" not in kinds


def test_an_optional_source_without_file_is_counted(tmp_path, monkeypatch):
    """A missing file of an optional source is no error, and the counts name it."""
    monkeypatch.setattr(pairs, "SOURCES", [source for source in SOURCES if source.optional])
    found, counts = pairs.build(tmp_path, TestTexts(), seed=0)
    assert not found
    assert all(count == {"left out: no file": 1} for count in counts.values())
