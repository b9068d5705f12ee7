"""Readers: the documents of every layout, and errors that name the file and line."""

import csv
import gzip
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Document
from refcolbert.corpus.readers import FORMATS, cut_jsonl, read_documents, read_jsonl, read_jsonl_part, read_stream
from refcolbert.errors import InvalidInput, MissingField


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
    """Id, title, metadata and other keys go where the docstring says; without an id the line is the id."""
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
    """A line is id, tab, text, or the text alone; blank lines are skipped, and only newlines end a line."""
    assert [(d.id, d.text) for d in read_documents(written(tmp_path / "c.tsv", content))] == documents


@pytest.mark.parametrize("name", ["note.txt", "note.md", "note.rst", "NOTE.TXT"])
def test_a_text_file_is_one_document(tmp_path, name):
    """The whole file is the text, without a byte order mark, and its name the id."""
    path = written(tmp_path / name, "\ufeffone\n\ntwo\n")
    assert list(read_documents(path)) == [Document(id=name, text="one\n\ntwo\n")]


def test_a_folder_is_all_its_files_sorted(tmp_path):
    """Every file of a known layout is read, by its relative path; a record without an id is named by file and line."""
    contents = {
        "b.txt": "text",
        "a/z.md": "markdown",
        "a/deep/x.rst": "deep",
        "a/y.tsv": "one\n",
        "d.jsonl": '{"id": "j", "text": "x"}\n',
        "c.csv": "id,text\nk,z\n",
        "picture.png": b"\xff",
        ".git/x.md": "hidden",
        "a/.y.txt": "hidden",
    }
    for name, content in contents.items():
        written(tmp_path / name, content)
    assert [(d.id, d.text) for d in read_documents(tmp_path)] == [
        ("a/deep/x.rst", "deep"),
        ("a/y.tsv:1", "one"),
        ("a/z.md", "markdown"),
        ("b.txt", "text"),
        ("k", "z"),
        ("j", "x"),
    ]


def test_files_of_a_folder_that_are_left_out_are_counted(tmp_path, caplog):
    """One warning says how many files of which endings are not read, and why."""
    contents = {
        "README.md": "text",
        "a/b.csv": "name,year\nx,2020\n",
        "package.json": '{"name": "x", "files": ["a"]}',
        "tsconfig.json": "// settings",
        "picture.png": "",
        "a/photo.png": "",
        "Makefile": "",
        ".hidden.csv": "",
        ".git/x.md": "",
    }
    for name, content in contents.items():
        written(tmp_path / name, content)
    assert [document.id for document in read_documents(tmp_path)] == ["README.md"]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}: left out .csv without a field 'text' (1), .json without a field 'text' (2), .png (2), "
        "hidden (2), without an ending (1)"
    )


@pytest.mark.parametrize("names", [["a.md", "b.txt"], ["a.md", "b.jsonl", "c.csv"], ["corpus.jsonl", "a.md", "b.png"]])
def test_a_folder_that_is_read_in_full_gives_no_warning(tmp_path, caplog, names):
    """Files of known layouts are all read, and a BEIR folder is its corpus."""
    for name in names:
        written(tmp_path / name, "")
    list(read_documents(tmp_path))
    assert not caplog.records


def test_a_folder_of_records_without_a_text_is_an_error(tmp_path):
    """If nothing else is there, the error of the last such file names its fields and the option."""
    written(tmp_path / "a" / "b.csv", "name,year\nx,2020\n")
    with pytest.raises(MissingField, match=r"a/b\.csv:1: .*\['name', 'year'\].*--text-field"):
        read_documents(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [("b.jsonl", '{"text": '), ("b.json", '[{"text": "x"}'), ("c.json", "[" * 100_000)]
)
def test_a_damaged_file_of_a_folder_is_an_error(tmp_path, name, content):
    """Only files of other content are left out: data that cannot be read are not."""
    written(tmp_path / "a.txt", "text")
    written(tmp_path / name, content)
    with pytest.raises(InvalidInput, match=rf"{name}[:1]*: not JSON") as raised:
        read_documents(tmp_path)
    assert raised.type is InvalidInput


def test_a_link_to_a_folder_is_not_followed(tmp_path):
    """A link to a folder above would never end."""
    written(tmp_path / "a" / "b.txt", "text")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert [document.id for document in read_documents(tmp_path)] == ["a/b.txt"]


# ---- JSON, and fields of other names


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        ('[{"id": "a", "text": "x"}, {"text": "y", "n": 1}]', [("a", "x", {}), ("c.json:2", "y", {"n": 1})]),
        ('{"version": 3, "items": [{"id": 1, "title": "T", "text": "x"}]}', [("1", "T x", {"title": "T"})]),
        ('{"id": "a", "text": "x", "tags": ["t"]}', [("a", "x", {"tags": ["t"]})]),
        ("[]", []),
    ],
    ids=["array", "object with an array", "object with a text", "empty"],
)
def test_a_json_file_is_its_array(tmp_path, content, documents):
    """An array, an object with one, and an object that is a record itself; a record without an id has a number."""
    found = read_documents(written(tmp_path / "c.json", content))
    assert [(d.id, d.text, d.metadata) for d in found] == documents


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [], "b": []}', r"c\.json: expected an array of objects.* found an object of \['a', 'b'\]"),
        ('["text"]', r"c\.json: expected an array of objects.* found list"),
        ("3", "found int"),
        ('{"a": 1, // comment', "not JSON"),
        ('[{"body": "x"}]', r"c\.json:1: expected a field 'text', found \['body'\].*--text-field"),
    ],
    ids=range(5),
)
def test_a_json_file_of_another_shape_is_named(tmp_path, content, message):
    """The error says which shape is expected and which one it found."""
    with pytest.raises(MissingField, match=message):
        list(read_documents(written(tmp_path / "c.json", content)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.jsonl", '{"sku": 7, "body": "x", "text": "short", "id": 1}\n'),
        ("c.json", '[{"sku": 7, "body": "x", "text": "short", "id": 1}]'),
        ("c.csv", "sku,body,text,id\n7,x,short,1\n"),
    ],
)
def test_fields_of_other_names_are_text_and_id(tmp_path, name, content):
    """The named fields are used, and fields of the usual names are metadata like others."""
    (document,) = read_documents(written(tmp_path / name, content), text_field="body", id_field="sku")
    metadata = {"text": "short", "id": "1" if name == "c.csv" else 1}
    assert document == Document(id="7", text="x", metadata=metadata)


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv"])
def test_a_named_field_that_is_missing_is_an_error(tmp_path, name):
    """A wrong name of the field of ids would give ids by line, and that of the text no text."""
    path = written(tmp_path / name, '{"text": "x"}\n' if name == "c.jsonl" else "text\nx\n")
    with pytest.raises(InvalidInput, match=rf"{name}:1: expected a field 'sku', found \['text'\].*--id-field"):
        list(read_documents(path, id_field="sku"))
    with pytest.raises(MissingField, match=rf"{name}:1: expected a field 'body', found \['text'\].*--text-field"):
        list(read_documents(path, text_field="body"))


# ---- CSV


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        ("id,text\na,one\nb,two\n", [Document(id="a", text="one"), Document(id="b", text="two")]),
        ("text\none\n\ntwo", [Document(id="c.csv:2", text="one"), Document(id="c.csv:4", text="two")]),
        ("_id,title,text\r\na,T,one\r\n", [Document(id="a", text="T one", metadata={"title": "T"})]),
        ('text,year\n"a ""b""\nc, d",2020\n', [Document(id="c.csv:3", text='a "b"\nc, d', metadata={"year": 2020})]),
        ("id,text,title,metadata\n,,,\n", [Document(id="c.csv:2", text="")]),
        ("id,text,metadata\na,one,m\n", [Document(id="a", text="one", metadata={"metadata": "m"})]),
        ("\ufefftext\ncaf\u00e9\u2028x\n", [Document(id="c.csv:2", text="caf\u00e9\u2028x")]),
        ("text\n", []),
        ("", []),
    ],
    ids=range(9),
)
def test_a_csv_row_is_a_document(tmp_path, content, documents):
    """The header says which field is which, others are metadata; quoted fields hold anything, blank lines nothing."""
    assert list(read_documents(written(tmp_path / "c.csv", content))) == documents


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("2020", 2020), ("0", 0), ("-7", -7), ("999999999999999999", 10**18 - 1), ("12.50", 12.5), ("-0.25", -0.25)],
        *[(text, text) for text in ("007", "-0", "+1", "1e5", "1,5", ".5", "5.", "00.5", " 1", "1_0", "\u0661", "nan")],
        *[(text, text) for text in ("1234567890123456789", "2024-01-31", "1.2.3", "true", "-", "x")],
    ],
)
def test_a_csv_field_is_a_number_if_it_is_a_plain_one(tmp_path, field, value):
    """A decimal integer or fraction of a column of metadata is a number; ids and other fields stay text."""
    path = written(tmp_path / "c.csv", f'id,title,text,a,passage_of\n1,2,3,"{field}","{field}"\n')
    (document,) = read_documents(path)
    assert document == Document(id="1", text="2 3", metadata={"title": "2", "a": value, "passage_of": field})
    assert type(document.metadata["a"]) is type(value)


def test_an_empty_csv_field_is_left_out(tmp_path):
    """A row has only the metadata that it has."""
    path = written(tmp_path / "c.csv", "text,year,lang\none,,en\ntwo,2020,\n")
    assert [document.metadata for document in read_documents(path)] == [{"lang": "en"}, {"year": 2020}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,body\na,one\n", r"c\.csv:1: expected a field 'text', found \['id', 'body'\]; .*--text-field"),
        ("text,text\na,one\n", r"c\.csv:1: expected a header of different names"),
        ("id,text\na,one\nb,two,three\n", r"c\.csv:3: expected 2 fields as in the header, found 3"),
        ("id,text\na\n", r"c\.csv:2: expected 2 fields .* found 1"),
        ('id,text\na,"one" two\n', r"c\.csv:2: not CSV"),
        ('id,text\na,"one\n', r"c\.csv:2: not CSV"),
        (b"id,text\na,one\nb,caf\xe9\n", r"c\.csv:3: not UTF-8"),
    ],
    ids=range(7),
)
def test_a_csv_file_that_cannot_be_read_is_named(tmp_path, content, message):
    """The error names file and line and the expected content."""
    with pytest.raises(InvalidInput, match=message):
        list(read_documents(written(tmp_path / "c.csv", content)))


@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=20)), max_size=5))
def test_any_text_survives_csv(rows):
    """A file that the csv module wrote gives the same texts, whatever characters they hold."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("id", "text"), *rows])
    documents = read_stream(io.BytesIO(file.getvalue().encode("utf-8", "surrogatepass")), "csv")
    assert [(d.id, d.text) for d in documents] == rows


# ---- Markdown


def test_markdown_is_a_document_for_each_heading(tmp_path):
    """Sections have the path of headings as title and in front of their text, front matter, and their file."""
    text = "---\ntitle: Guide\nyear: 2024\n---\nintro\n\n# Install\n\n## Linux\n\napt\n\n## macOS\n\nbrew\n"
    written(tmp_path / "a" / "g.md", text)
    shared = {"year": 2024, "passage_of": "a/g.md"}
    assert list(read_documents(tmp_path)) == [
        Document(id="a/g.md", text="Guide\n\nintro", metadata={"title": "Guide", **shared}),
        Document(
            id="a/g.md#linux",
            text="Guide > Install > Linux\n\napt",
            metadata={"title": "Guide > Install > Linux", **shared},
        ),
        Document(
            id="a/g.md#macos",
            text="Guide > Install > macOS\n\nbrew",
            metadata={"title": "Guide > Install > macOS", **shared},
        ),
    ]


@pytest.mark.parametrize(
    ("content", "document"),
    [
        ("# T\n\nbody\n", Document(id="n.md", text="T\n\nbody", metadata={"title": "T"})),
        ("# T\n", Document(id="n.md", text="T", metadata={"title": "T"})),
        ("---\ntags: [a]\n---\nbody", Document(id="n.md", text="body", metadata={"tags": ["a"]})),
        ("---\ntitle: T\n---\n# T\nbody", Document(id="n.md", text="T\n\nbody", metadata={"title": "T"})),
        ("", Document(id="n.md", text="")),
    ],
    ids=range(5),
)
def test_markdown_of_one_section_is_one_document(tmp_path, content, document):
    """A single section has the file's name as its id, without an anchor."""
    assert list(read_documents(written(tmp_path / "n.md", content))) == [document]


# ---- compressed files and streams


@pytest.mark.parametrize("name", ["c.jsonl", "c.tsv", "c.csv", "c.md", "c.txt"])
def test_a_compressed_file_reads_like_the_plain_one(tmp_path, name):
    """Only the ids differ: they hold the name of the file."""
    content = '{"text": "x"}\n' if name == "c.jsonl" else "text\nx\n"
    plain = list(read_documents(written(tmp_path / name, content)))
    packed = list(read_documents(written(tmp_path / f"{name}.gz", gzip.compress(content.encode()))))
    assert [d.text for d in packed] == [d.text for d in plain]
    assert [d.id for d in packed] == [d.id.replace(name, f"{name}.gz") for d in plain]


def test_a_compressed_beir_folder_is_read(tmp_path):
    """corpus.jsonl.gz is read like corpus.jsonl."""
    written(tmp_path / "corpus.jsonl.gz", gzip.compress(BEIR.encode()))
    assert list(read_documents(tmp_path)) == BEIR_DOCUMENTS


PACKED = gzip.compress("\n".join(f"{i}\ttext {i * i}" for i in range(5000)).encode(), mtime=0)  # the same at any time


@pytest.mark.parametrize(
    "damaged",
    [PACKED[: len(PACKED) // 2], b"no gzip", PACKED[:-8] + bytes(8), PACKED[:400] + PACKED[500:]],
    ids=["cut off", "no gzip", "another checksum", "a gap"],
)
def test_a_damaged_compressed_file_is_named(tmp_path, damaged):
    """Cut, foreign and altered bytes are an InvalidInput with the number of the last good line."""
    with pytest.raises(InvalidInput, match=r"c\.tsv\.gz: cannot be read after line \d+"):
        list(read_documents(written(tmp_path / "c.tsv.gz", damaged)))


@pytest.mark.parametrize("layout", ["jsonl", "json", "csv", "tsv", "markdown", "text"])
def test_a_stream_reads_like_a_file(tmp_path, layout):
    """Only the ids differ: they hold the name given to the stream."""
    content = b'{"text": "x"}\n' if layout.startswith("json") else b"text\nx\n"
    path = written(tmp_path / f"stdin{FORMATS[layout][0]}", content)
    streamed = [d.text for d in read_stream(io.BytesIO(content), layout)]
    assert streamed == [d.text for d in read_documents(path)] == [d.text for d in read_documents(path, layout)]
    assert all(d.id.startswith("stdin") for d in read_stream(io.BytesIO(content), layout))


def test_an_unknown_layout_is_refused(tmp_path):
    """The error lists the known layouts; with a layout a file of any name is read."""
    with pytest.raises(InvalidInput, match=r"formats jsonl, json, csv, .*, code, found 'xml'"):
        read_stream(io.BytesIO(), "xml")
    assert [d.text for d in read_documents(written(tmp_path / "notes", "a\tone\n"), "tsv")] == ["one"]


# ---- lines and files that cannot be read


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "expected one JSON object, found list"),
        ('"text"', "found str"),
        ("[" * 100_000, "not JSON"),
        ('{"id": "a"}', r"expected a field 'text', found \['id'\]; .*--text-field"),
        ('{"id": "a", "text": null}', "expected string 'text'"),
        ('{"id": "a", "text": 5}', "expected string 'text'"),
        ('{"id": "a", "text": "x", "title": 5}', "'title'"),
        ('{"id": 1.5, "text": "x"}', "string or integer id"),
        ('{"id": true, "text": "x"}', "string or integer id"),
        ('{"id": ["a"], "text": "x"}', "string or integer id"),
        ('{"id": {}, "text": "x"}', "string or integer id"),
        ('{"id": "a", "text": "x", "metadata": [1]}', "object as 'metadata', found list"),
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
        ("none", "expected a file ending in .*, or a folder, found no such file"),
        ("picture.png", "expected a file ending in .jsonl, "),
        (
            "empty",
            r"expected corpus.jsonl or files ending in .jsonl, .ndjson, .json, .*, .pdf or of source code, found none",
        ),
    ],
)
def test_a_path_without_documents_is_refused_by_the_call(tmp_path, name, message):
    """The error is raised before iteration, and names the expected files."""
    written(tmp_path / "picture.png", b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=f"{name}.*{message}"):
        read_documents(tmp_path / name)


def test_read_jsonl_names_each_line(tmp_path):
    """Blank lines count as lines and are left out."""
    path = written(tmp_path / "x.jsonl", '\ufeff{"a": 1}\n\n \r\n{"b": 2}')
    assert list(read_jsonl(path)) == [("x.jsonl:1", {"a": 1}), ("x.jsonl:4", {"b": 2})]


@given(texts=st.lists(st.text(max_size=30), max_size=12), size=st.integers(1, 200), end=st.booleans())
def test_the_parts_of_a_jsonl_file_are_its_documents(tmp_path_factory, texts, size, end):
    """Parts of any size give the documents of the whole file, with the same ids, and no line twice."""
    path = tmp_path_factory.mktemp("parts") / "docs.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=bool(i % 2)) for i, text in enumerate(texts)]
    path.write_bytes("\n".join([*lines, ""] if end else lines).encode("utf-8", "backslashreplace"))
    parts = [list(read_jsonl_part(path, path.name, *part)) for part in cut_jsonl(path, size)]
    assert [document for part in parts for document in part] == list(read_documents(path))


def test_a_wrong_line_of_a_part_has_its_number_in_the_file(tmp_path):
    """An error in a part names the line of the file."""
    path = written(tmp_path / "docs.jsonl", '{"text": "one"}\n{"text": "two"}\nno\n')
    *_, last = cut_jsonl(path, 1)
    with pytest.raises(InvalidInput, match=r"docs\.jsonl:3: not JSON"):
        list(read_jsonl_part(path, path.name, *last))
