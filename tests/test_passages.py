"""Readers: the documents of every layout, and the place of what cannot be read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Document
from refcolbert.errors import InvalidInput
from refcolbert.passages import read_documents, read_jsonl


def written(path, content):
    """`path`, holding `content`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


BEIR = '{"_id": "d1", "title": "Cats", "text": "sleep all day"}\n{"_id": "d2", "title": "", "text": "Dogs bark"}\n'
BEIR_DOCUMENTS = [
    Document(id="d1", text="Cats sleep all day", metadata={"title": "Cats"}),
    Document(id="d2", text="Dogs bark"),
]


@pytest.mark.parametrize("ask", [lambda folder: folder, lambda folder: folder / "corpus.jsonl", str])
def test_a_beir_folder_is_read_by_its_corpus(tmp_path, ask):
    """Folder, file and a string path give the same; the title goes in front of the text and into the metadata."""
    written(tmp_path / "corpus.jsonl", BEIR)
    written(tmp_path / "queries.jsonl", '{"_id": "q", "text": "not a document"}\n')
    written(tmp_path / "notes.txt", "not a document")
    assert list(read_documents(ask(tmp_path))) == BEIR_DOCUMENTS


@pytest.mark.parametrize(
    ("line", "document"),
    [
        ({"text": "x"}, Document(id="c.jsonl:1", text="x")),
        ({"id": "a", "text": "x"}, Document(id="a", text="x")),
        ({"_id": "a", "text": "x"}, Document(id="a", text="x")),
        ({"id": 7, "text": "x"}, Document(id="7", text="x")),
        ({"id": 0, "text": "x"}, Document(id="0", text="x")),
        ({"id": "a", "_id": "b", "text": "x"}, Document(id="a", text="x")),
        ({"id": "a", "text": ""}, Document(id="a", text="")),
        ({"id": "a", "text": " x ", "title": ""}, Document(id="a", text=" x ")),
        ({"id": "a", "text": "x", "year": 3}, Document(id="a", text="x", metadata={"year": 3})),
        ({"id": "a", "text": "x", "metadata": {"y": [1]}}, Document(id="a", text="x", metadata={"y": [1]})),
        ({"id": "a", "text": "x", "metadata": None}, Document(id="a", text="x")),
        ({"id": "a", "text": "x", "y": 1, "metadata": {"y": 2}}, Document(id="a", text="x", metadata={"y": 2})),
        ({"id": "a", "title": "T", "text": ""}, Document(id="a", text="T", metadata={"title": "T"})),
    ],
    ids=range(13),
)
def test_a_jsonl_line_is_a_document(tmp_path, line, document):
    """Id, title, metadata and other keys go where the docstring says; without an id the line is named."""
    assert list(read_documents(written(tmp_path / "c.jsonl", json.dumps(line)))) == [document]


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=20)), max_size=5, unique_by=lambda pair: pair[0]
    )
)
def test_any_text_survives_jsonl(tmp_path_factory, pairs):
    """Ids and texts come back whatever characters they hold, line separators included."""
    lines = [json.dumps({"id": name, "text": text}, ensure_ascii=False) for name, text in pairs]
    path = written(tmp_path_factory.mktemp("jsonl") / "c.jsonl", "\n".join(lines))
    assert [(d.id, d.text) for d in read_documents(path)] == pairs


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        ("a\tone\nb\ttwo\n", [("a", "one"), ("b", "two")]),
        ("one\n\n  \ntwo", [("c.tsv:1", "one"), ("c.tsv:4", "two")]),
        ("a\tone\ttab\r\nb\t\r\n", [("a", "one\ttab"), ("b", "")]),
        ("a\t caf\u00e9 \u2028 x\x0cy \n", [("a", " caf\u00e9 \u2028 x\x0cy ")]),
        ('a\t"quoted" text\n', [("a", '"quoted" text')]),
        ("\ufeffa\tone\n", [("a", "one")]),
        ("", []),
    ],
    ids=range(7),
)
def test_a_tsv_line_is_a_document(tmp_path, content, documents):
    """Id, tab, text, or the text alone; blank lines are none, and nothing but newlines ends a line."""
    assert [(d.id, d.text) for d in read_documents(written(tmp_path / "c.tsv", content))] == documents


@pytest.mark.parametrize("name", ["note.txt", "note.md", "note.rst", "NOTE.TXT"])
def test_a_text_file_is_one_document(tmp_path, name):
    """The whole file is the text and its name the id; a byte order mark is none of the text."""
    path = written(tmp_path / name, "\ufeffone\n\ntwo\n")
    assert list(read_documents(path)) == [Document(id=name, text="one\n\ntwo\n")]


def test_a_folder_is_its_text_files_sorted(tmp_path):
    """Every text file below a folder is a document by its relative path; other files are not looked at."""
    for name in ("b.txt", "a/z.md", "a/deep/x.rst", "picture.png", "data.json"):
        written(tmp_path / name, b"\xff" if name == "picture.png" else name)
    assert [(d.id, d.text) for d in read_documents(tmp_path)] == [
        ("a/deep/x.rst", "a/deep/x.rst"),
        ("a/z.md", "a/z.md"),
        ("b.txt", "b.txt"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "expected one JSON object, found list"),
        ('"text"', "found str"),
        ("[" * 100_000, "not JSON"),
        ('{"id": "a"}', "expected string 'text'"),
        ('{"id": "a", "text": null}', "expected string 'text'"),
        ('{"id": "a", "text": 5}', "expected string 'text'"),
        ('{"id": "a", "text": "x", "title": 5}', "'title'"),
        ('{"id": 1.5, "text": "x"}', "string or integer id"),
        ('{"id": true, "text": "x"}', "string or integer id"),
        ('{"id": ["a"], "text": "x"}', "string or integer id"),
        ('{"id": {}, "text": "x"}', "string or integer id"),
        ('{"id": "a", "text": "x", "metadata": [1]}', "object as 'metadata'"),
        (b'{"id": "a", "text": "\xff"}', "not UTF-8"),
    ],
    ids=range(14),
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, line, message):
    """The error names file and line, and the documents before it came."""
    line = line if isinstance(line, bytes) else line.encode()
    reader = read_documents(written(tmp_path / "c.jsonl", b'{"text": "good"}\n\n' + line + b"\n"))
    assert next(reader).text == "good"
    with pytest.raises(InvalidInput, match=rf"c\.jsonl:3: .*{message}"):
        next(reader)


@pytest.mark.parametrize("name", ["c.tsv", "c.txt"])
def test_text_that_is_not_utf8_is_refused(tmp_path, name):
    """The error names the file; no character is replaced."""
    with pytest.raises(InvalidInput, match=rf"{name}.*not UTF-8"):
        list(read_documents(written(tmp_path / name, b"caf\xe9\n")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.jsonl", "no such file"),
        ("none.txt", "no such file"),
        ("none", "expected a file ending in"),
        ("picture.png", "expected a file ending in .jsonl, .tsv"),
        ("empty", r"expected corpus.jsonl or files ending in .txt, .md, .rst, found none"),
    ],
)
def test_a_path_without_documents_is_refused_at_once(tmp_path, name, message):
    """Nothing is iterated before the error says what was expected there."""
    written(tmp_path / "picture.png", b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=f"{name}.*{message}"):
        read_documents(tmp_path / name)


def test_read_jsonl_names_each_line(tmp_path):
    """Blank lines are counted and not given."""
    path = written(tmp_path / "x.jsonl", '\ufeff{"a": 1}\n\n \r\n{"b": 2}')
    assert list(read_jsonl(path)) == [("x.jsonl:1", {"a": 1}), ("x.jsonl:4", {"b": 2})]
