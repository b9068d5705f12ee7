"""Files that need the extra `files`: tables, pages, source code and .gitignore."""

import datetime
import gzip
import io
import os
import sys

import pytest

from refcolbert import Document
from refcolbert.corpus.readers import FORMATS, LIBRARIES, read_documents, read_stream
from refcolbert.errors import InvalidInput, MissingDependency, MissingField

for library in ("pyarrow", "bs4", "pypdf", "tree_sitter", "pathspec"):
    pytest.importorskip(library, reason="the extra `files` is not installed")


def written(path, content):
    """`path`, holding `content`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---- tables


def table(**columns):
    """An Arrow table, by default of two documents."""
    import pyarrow

    return pyarrow.table(columns or {"id": ["a", "b"], "text": ["one", "two"], "year": [2020, None]})


def packed(table, kind):
    """The bytes of a table in a kind of file."""
    from pyarrow import ipc, parquet

    file = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, file)
    else:
        with (ipc.new_file if kind == "file" else ipc.new_stream)(file, table.schema) as writer:
            writer.write_table(table)
    return file.getvalue()


@pytest.mark.parametrize(("name", "kind"), [("t.parquet", "parquet"), ("t.arrow", "file"), ("t.arrow", "stream")])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_row_of_a_table_is_a_document(tmp_path, name, kind, compressed):
    """Columns are fields, and missing values are left out."""
    content = packed(table(), kind)
    path = written(tmp_path / (name + ".gz" * compressed), gzip.compress(content) if compressed else content)
    documents = [Document(id="a", text="one", metadata={"year": 2020}), Document(id="b", text="two")]
    assert list(read_documents(path)) == documents


def test_values_of_a_table_become_json(tmp_path):
    """Titles go in front, integers become ids, dates text; lists and mappings stay. A row without id has a number."""
    rows = table(
        sku=[7, 8],
        body=["x", "y"],
        title=["T", None],
        day=[datetime.date(2024, 1, 31), None],
        tags=[["a"], None],
        metadata=[{"k": 1}, {"k": 2}],
        text=["short", "shorter"],
    )
    path = written(tmp_path / "t.parquet", packed(rows, "parquet"))
    first, second = read_documents(path, text_field="body", id_field="sku")
    metadata = {"title": "T", "day": "2024-01-31", "tags": ["a"], "k": 1, "text": "short"}
    assert first == Document(id="7", text="T x", metadata=metadata)
    assert second == Document(id="8", text="y", metadata={"k": 2, "text": "shorter"})
    assert [document.id for document in read_documents(path)] == ["t.parquet:1", "t.parquet:2"]


@pytest.mark.parametrize("layout", ["parquet", "arrow"])
def test_a_table_is_read_from_a_pipe(layout):
    """Parquet has its table of contents at the end, and a pipe has no way back."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(packed(table(), "parquet" if layout == "parquet" else "stream"))
    with os.fdopen(reading, "rb") as stream:
        assert [document.id for document in read_stream(stream, layout)] == ["a", "b"]


def test_rows_are_numbered_through_a_large_table(tmp_path):
    """A table is read in parts, whose rows are not numbered from one again."""
    path = written(tmp_path / "t.parquet", packed(table(text=[f"text {i}" for i in range(2500)]), "parquet"))
    assert [d.id for d in read_documents(path)] == [f"t.parquet:{i + 1}" for i in range(2500)]


def test_a_folder_of_a_hugging_face_dataset_is_read(tmp_path):
    """Its Arrow files are documents, and its JSON files are left out."""
    written(tmp_path / "data-00000-of-00001.arrow", packed(table(), "stream"))
    written(tmp_path / "state.json", '{"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": null}')
    written(tmp_path / "dataset_info.json", '{"features": {"text": {"dtype": "string"}}}')
    assert [d.id for d in read_documents(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_a_table_that_cannot_be_read_is_named(tmp_path, name):
    """Other bytes, no text in a row, and a table without such a column are errors."""
    with pytest.raises(InvalidInput, match=rf"{name}: not an? \w+ file"):
        list(read_documents(written(tmp_path / name, b"text")))
    kind = "parquet" if name == "t.parquet" else "stream"
    with pytest.raises(InvalidInput, match=rf"{name}:2: expected string 'text'"):
        list(read_documents(written(tmp_path / name, packed(table(text=["x", None]), kind))))
    with pytest.raises(MissingField, match=rf"{name}: expected a field 'text', found \['body'\]; .*--text-field"):
        list(read_documents(written(tmp_path / name, packed(table(body=["x"]), kind))))


@pytest.mark.parametrize("layout", ["parquet", "arrow"])
def test_no_damage_to_a_table_is_more_than_an_error(layout):
    """Wherever a byte is another one, the table is read or refused: Arrow itself would crash."""
    content = packed(table(text=["one", "two"], tags=[["a"], None]), "parquet" if layout == "parquet" else "stream")
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        try:
            list(read_stream(io.BytesIO(damaged), layout))
        except InvalidInput:
            refused += 1
    assert refused > 100


# ---- HTML

PAGE = """<!doctype html><html><head><title>Cats &amp;
 dogs</title><style>p {}</style></head><body><nav>Home</nav><main><h1>Pets</h1>
<p>They <b>sleep</b>,
all day.</p><script>alert(1)</script><ul><li>one<li>two</ul><pre>a
b</pre></main><footer>Imprint</footer></body></html>"""


def test_an_html_page_is_its_title_and_text(tmp_path):
    """Each block is a line; scripts, styles, navigation and what is outside of main are not text."""
    text = "Cats & dogs > Pets\n\nThey sleep,\nall day.\none\ntwo\na\nb"
    (document,) = read_documents(written(tmp_path / "p.html", PAGE))
    assert document == Document(id="p.html", text=text, metadata={"title": "Cats & dogs > Pets"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<h1>A</h1>x<h2>B</h2>y<h1>C</h1>z", ["#a A x", "#b A > B y", "#c A > C z"]),
        ("<title>A - Site</title><h1>A</h1><h3>B</h3>x<h2>C</h2>y", ["#b A > B x", "#c A > C y"]),
        ("<title>T</title>x<h2>B</h2>y", [" T x", "#b T > B y"]),
        ("<h2 id=one>A<a>\u00b6</a></h2>x<h2 id=one><p>B <b>b</b></h2>y", ["#one A x", "#one-1 B b y"]),
        ("<section><h2>A</h2><p>x</section><p>y<h2>B</h2>", ["#a A x|y", "#b B"]),
        ("<h2>A</h2><blockquote><h3>B</h3>x</blockquote><ul><li><h3>C</h3></ul>y<h2>D</h2>", ["#a A B|x|C|y", "#d D"]),
        ("<nav><h2>No</h2></nav><h2>A</h2>x<h2>B</h2>y", ["#a A x", "#b B y"]),
    ],
    ids=["levels", "site", "no h1", "anchors", "sections", "quoted", "navigation"],
)
def test_an_html_page_is_cut_at_its_headings(tmp_path, content, expected):
    """Each heading begins a document with the path of headings as title, as in Markdown."""
    found = list(read_documents(written(tmp_path / "p.html", content)))
    shown = [" ".join(d.text.split("\n\n")).replace("\n", "|") for d in found]
    assert [f"{d.id.removeprefix('p.html')} {text}" for d, text in zip(found, shown, strict=True)] == expected
    assert {d.metadata["passage_of"] for d in found} == {"p.html"}
    assert all(d.text.startswith(d.metadata["title"]) for d in found)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<h1>T</h1>x", "T\n\nx"),
        ("plain", "plain"),
        ("<title>T</title>", "T"),
        ("\ufeff<p>caf\u00e9", "caf\u00e9"),
        ('<meta charset="iso-8859-1"><p>caf\u00e9'.encode("latin-1"), "caf\u00e9"),
        ("<p>cut <b>off", "cut off"),
        ("a<br>b<hr>c<i>d</i><!-- no --><div>e<p>f</p>g</div>h", "a\nb\ncd\ne\nf\ng\nh"),
        ("<p>x</p>" * 3 + "<noscript>no</noscript><template>no</template><style>no</style>", "x\nx\nx"),
        ("<svg><nav>a</nav></svg><nav><svg></svg></nav>b", "b"),
        ("<div>" * 2000 + "deep", "deep"),
        ("<!doctype html><html><head><title>T</title><body><p>x", "T\n\nx"),
        ("<body>a</body><p>b", "a\nb"),
        ("<main>a</main><main>b</main>", "ab"),
        ("<p>a</p><main><!-- made by a script --></main>", "a"),
    ],
    ids=[
        *("heading", "no tags", "title alone", "UTF-8", "declared encoding", "cut", "lines", "not text", "nested"),
        *("deep", "head without an end", "text after the body", "two main elements", "empty main element"),
    ],
)
def test_html_of_all_kinds_is_read(tmp_path, content, text):
    """Pages without a title or a body, in other encodings, and damaged ones give their text."""
    assert [d.text for d in read_documents(written(tmp_path / "p.htm", content))] == [text]


@pytest.mark.parametrize("content", ["", "<script>show()</script>"])
def test_an_html_page_without_text_is_warned_of(tmp_path, caplog, content):
    """A page that a script fills has nothing that could be found."""
    assert list(read_documents(written(tmp_path / "app.html", content))) == []
    (record,) = caplog.records
    assert "app.html: found no text" in record.getMessage()


# ---- PDF


def pdf(*pages, title=None, key=None):
    """A PDF file with a line of text per page; None: an empty page."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    names = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    font = writer._add_object(DictionaryObject({NameObject(k): NameObject(v) for k, v in names.items()}))
    for text in pages:
        page = writer.add_blank_page(200, 200)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode() if text else b"")
        page[NameObject("/Contents")] = writer._add_object(content)
    if title:
        writer.add_metadata({"/Title": title})
    if key:
        writer.encrypt(key, algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def test_a_pdf_page_is_a_document(tmp_path):
    """The id opens the page in a browser, empty pages are left out, and the title goes in front."""
    written(tmp_path / "a" / "m.pdf", pdf("Cats sleep.", None, "Dogs bark.", title="Pets"))
    shared = {"title": "Pets", "passage_of": "a/m.pdf"}
    assert list(read_documents(tmp_path)) == [
        Document(id="a/m.pdf#page=1", text="Pets\n\nCats sleep.", metadata={"page": 1, **shared}),
        Document(id="a/m.pdf#page=3", text="Pets\n\nDogs bark.", metadata={"page": 3, **shared}),
    ]


def test_a_pdf_without_text_is_warned_of(tmp_path, caplog):
    """Scans are pictures: nothing of them can be found."""
    assert list(read_documents(written(tmp_path / "scan.pdf", pdf(None)))) == []
    (record,) = caplog.records
    assert "scan.pdf: found no text" in record.getMessage()


@pytest.mark.parametrize(
    "content", [b"", b"%PDF-1.7\n", pdf("x")[:150], pdf("x", key="x")], ids=["empty", "head", "cut", "locked"]
)
def test_a_pdf_that_cannot_be_read_is_named(tmp_path, content):
    """Damaged and encrypted files are an InvalidInput."""
    with pytest.raises(InvalidInput, match=r"m\.pdf: not a PDF file that can be read"):
        list(read_documents(written(tmp_path / "m.pdf", content)))


# ---- source code

PYTHON = '''"""Pets."""
import os
# Far above.

# Comes first.
@decorated
def feed(pet):
    def inner():
        pass
    return inner

class Cat(Pet):
    """A cat."""

    def sleep(self):
        return 1

    legs = 4

if os.name:
    def feed(pet):
        return 2
'''


def test_python_is_a_document_per_definition(tmp_path):
    """Decorators and comments above belong to a definition; the rest of a class and of the file are documents, too."""
    written(tmp_path / "a" / "pets.py", PYTHON)
    texts = {
        "a/pets.py": (1, 'a/pets.py\n\n"""Pets."""\nimport os\n# Far above.\n\nif os.name:'),
        "a/pets.py#feed": (
            5,
            "a/pets.py > feed\n\n# Comes first.\n@decorated\ndef feed(pet):\n"
            "    def inner():\n        pass\n    return inner",
        ),
        "a/pets.py#Cat": (12, 'a/pets.py > Cat\n\nclass Cat(Pet):\n    """A cat."""\n\n    legs = 4'),
        "a/pets.py#Cat.sleep": (15, "a/pets.py > Cat.sleep\n\ndef sleep(self):\n    return 1"),
        "a/pets.py#feed-1": (21, "a/pets.py > feed\n\ndef feed(pet):\n    return 2"),
    }
    assert list(read_documents(tmp_path)) == [
        Document(
            id=name,
            text=text,
            metadata={"line": line, "title": text.partition("\n")[0], "passage_of": "a/pets.py"},
        )
        for name, (line, text) in texts.items()
    ]


@pytest.mark.parametrize(
    ("name", "source", "anchors"),
    [
        (
            "a.ts",
            "/** d */\nexport class A {\n m() {\n }\n}\nexport const f = (a) => {\n}\ninterface I {\n a: string\n}\n"
            "namespace N {\n export function g() {}\n}\n",
            {"A": 1, "A.m": 3, "f": 6, "I": 8, "N": 11, "N.g": 12},
        ),
        ("a.js", "function f() {\n return <b>x</b>\n}\nvar g = function () {\n}\n", {"f": 1, "g": 4}),
        (
            "A.java",
            "/** d */\npublic class A {\n @Override\n public int m() {\n }\n A() {}\n abstract int n();\n}\n",
            {"A": 1, "A.m": 3, "A.A": 6},
        ),
        (
            "a.go",
            "package a\n// d\ntype S struct {\n a int\n}\n// d\nfunc (s *S) M() {\n}\n"
            "func (q Q[T]) N() {\n}\nfunc F() {\n}\n",
            {"": 1, "S": 2, "S.M": 6, "Q.N": 9, "F": 11},
        ),
        (
            "a.rs",
            "/// d\n#[derive(Debug)]\nstruct S {\n}\nimpl<T> R for S<T> {\n fn m(&self) {\n }\n}\n"
            "mod a {\n fn g() {}\n}\n",
            {"S": 1, "S-1": 5, "S.m": 6, "a": 9, "a.g": 10},
        ),
        (
            "a.h",
            "#ifndef A\nstruct s;\nstruct t {\n int a;\n};\nstatic struct t *f(int a) {\n}\n#endif\n",
            {"": 1, "t": 3, "f": 6},
        ),
        (
            "a.cpp",
            "namespace n {\ntemplate<class T>\nclass C {\n int &r(int a) {\n }\n};\n}\nvoid n::C::q() {\n}\n",
            {"n": 1, "n.C": 2, "n.C.r": 4, "n::C::q": 8},
        ),
    ],
    ids=["TypeScript", "JavaScript", "Java", "Go", "Rust", "C", "C++"],
)
def test_source_code_is_split_by_definitions(tmp_path, name, source, anchors):
    """Each language gives the names of its definitions and their first lines; every line is in one document."""
    documents = list(read_documents(written(tmp_path / name, source)))
    assert {d.id.partition("#")[2]: d.metadata["line"] for d in documents} == anchors
    bodies = [line.strip() for d in documents for line in d.text.partition("\n\n")[2].split("\n")]
    assert sorted(filter(None, bodies)) == sorted(line.strip() for line in source.split("\n") if line.strip())


@pytest.mark.parametrize(
    ("source", "ids"),
    [
        ("", []),
        ("def f():\n    pass\n", ["m.py"]),
        ("x = 1\r\n\r\ndef f():\r\n    return 2\r\n", ["m.py", "m.py#f"]),
        ("x = " + "1 + " * 20_000 + "1\ndef f(): pass", ["m.py", "m.py#f"]),
        ("def f(:\n\nclass A:\n    def g(self): pass\n", None),
        ("def caf\u00e9(): pass\nx = '\U0001f431'\n", ["m.py", "m.py#caf\u00e9"]),
    ],
    ids=["empty", "one definition", "CRLF", "deep", "damaged", "not ASCII"],
)
def test_source_code_of_all_kinds_is_read(tmp_path, source, ids):
    """A file of one part keeps its name as id, and a file that does not parse is read, too."""
    documents = list(read_documents(written(tmp_path / "m.py", source)))
    assert ids is None or [d.id for d in documents] == ids
    assert all("\r" not in d.text for d in documents)


def test_source_code_of_an_unknown_language_is_one_document():
    """A stream has a layout, but no ending that says the language."""
    (document,) = read_stream(io.BytesIO(PYTHON.encode()), "code")
    assert document == Document(id="stdin", text=f"stdin\n\n{PYTHON}", metadata={"title": "stdin"})


# ---- folders


def test_files_in_a_gitignore_are_left_out(tmp_path, caplog):
    """Patterns hold below their folder, a deeper file has precedence, and ignored entries are counted."""
    for name in ("a.txt", "log/b.txt", "log/b2.txt", "keep/c.txt", "keep/d.txt", "keep/log/e.txt", "f.tmp.txt"):
        written(tmp_path / name, name)
    written(tmp_path / ".gitignore", "# comment\nlog/\n*.tmp.txt\nd.txt\n")
    written(tmp_path / "keep" / ".gitignore", "!d.txt\n")
    assert [d.id for d in read_documents(tmp_path)] == ["a.txt", "keep/c.txt", "keep/d.txt"]
    assert caplog.records[0].getMessage() == f"{tmp_path}: left out hidden (2), in .gitignore (3)"


@pytest.mark.parametrize(("layout", "library"), [(k, name) for k, names in LIBRARIES.items() for name in names])
def test_a_file_whose_library_is_missing_names_the_extra(tmp_path, monkeypatch, layout, library):
    """A named file and a stream raise an error before anything is read."""
    monkeypatch.setitem(sys.modules, library, None)
    path = written(tmp_path / f"x{FORMATS[layout][0]}", b"")
    for read in (lambda: read_documents(path), lambda: read_stream(io.BytesIO(), layout)):
        with pytest.raises(MissingDependency, match=rf"{library}.*pip install 'refcolbert\[files\]'"):
            read()


def test_a_folder_is_read_without_the_extra(tmp_path, monkeypatch, caplog):
    """Files that need it are counted with the command that installs it."""
    for name in (".gitignore", "a.txt", "b.pdf", "c.py"):
        written(tmp_path / name, "a.txt")
    for library in ("pypdf", "tree_sitter", "pathspec"):
        monkeypatch.setitem(sys.modules, library, None)
    assert [d.id for d in read_documents(tmp_path)] == ["a.txt"]
    extra = "after pip install 'refcolbert[files]' (1)"
    assert caplog.records[0].getMessage() == (
        f"{tmp_path}: left out .gitignore, which is followed {extra}, .pdf, which is read {extra}, "
        f".py, which is read {extra}, hidden (1)"
    )
