"""Documents: what may be given, and the immutable database that holds them."""

import multiprocessing
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Document
from refcolbert.documents import as_documents
from refcolbert.errors import CorruptIndexError, DuplicateId, InvalidInput
from refcolbert.storage.document_file import DocumentFile, pack

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
documents = st.lists(
    st.builds(
        Document,
        id=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=8),
        text=st.none() | st.text(max_size=20),
        metadata=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    ),
    max_size=6,
    unique_by=lambda document: document.id,
)

THREE = [
    Document(id="b", text="two words", metadata={"n": 1}),
    Document(id="a", text="", metadata={"n": 2}),
    Document(id="ü/😀", text=None, metadata={}),
]


def packed(path, batch):
    """The bytes of the file that holds these documents."""
    path.touch()
    pack(batch, path)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    """A document file of THREE, in a folder whose name needs quoting."""
    folder = tmp_path / "100% a?b #c"
    folder.mkdir()
    packed(folder / "documents.sqlite", THREE)
    return folder / "documents.sqlite"


@pytest.fixture
def file(path):
    """The open document file of THREE."""
    opened = DocumentFile(path, 3)
    yield opened
    opened.close()


# ---- what may be given


def test_strings_mappings_and_documents_become_documents():
    """All three forms may be mixed. One without an id gets its position in the index, and an integer becomes text."""
    named = {"id": "x", "text": "named", "metadata": {"a": 1}}
    given_documents = ["plain", {"text": "mapped"}, named, THREE[0], {"id": 0, "text": "numbered"}]
    assert as_documents(given_documents, 7, need_text=True) == [
        Document(id="7", text="plain"),
        Document(id="8", text="mapped"),
        Document(id="x", text="named", metadata={"a": 1}),
        THREE[0],
        Document(id="0", text="numbered"),
    ]


def test_any_iterable_of_documents_is_taken():
    """A generator is read once."""
    assert [d.id for d in as_documents((text for text in "abc"), 0, need_text=True)] == ["0", "1", "2"]
    assert as_documents([], 0, need_text=True) == []


def test_a_text_may_be_missing_only_with_vectors():
    """Without need_text a document may consist of its id alone."""
    assert as_documents([{"id": "x"}, {"text": None}], 4, need_text=False) == [Document(id="x"), Document(id="5")]
    with pytest.raises(InvalidInput, match=r"document 5: expected a text.*vectors="):
        as_documents(["there", {"text": None}], 4, need_text=True)


def test_the_callers_metadata_is_copied():
    """Changing the mapping afterwards does not change the document."""
    metadata = {"a": 1}
    (document,) = as_documents([{"text": "x", "metadata": metadata}], 0, need_text=True)
    metadata["a"] = 2
    assert document.metadata == {"a": 1}


def circular():
    """Metadata that contain themselves."""
    metadata = {}
    metadata["self"] = metadata
    return metadata


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (1, "expected a string, a mapping or a refcolbert.Document, found int"),
        (None, "found NoneType"),
        (b"bytes", "found bytes"),
        (["text"], "found list"),
        ({"text": "x", "title": "y"}, r"unknown keys \['title'\]"),
        ({"text": "x", 1: "y", "title": "z"}, "unknown keys"),
        ({"id": "", "text": "x"}, "at least one character, found ''"),
        ({"id": 5.0, "text": "x"}, "id must be an integer or a string of at least one character, found 5.0"),
        ({"id": True, "text": "x"}, "id must be an integer or a string of at least one character, found True"),
        ({"id": "\ud800", "text": "x"}, "lone surrogate"),
        ({"text": 5}, "must be a string, found int"),
        ({"text": "\udfff"}, "lone surrogate"),
        ({"text": b"x"}, "must be a string, found bytes"),
        ({"text": "x", "metadata": [1]}, "must be a mapping"),
        ({"text": "x", "metadata": "x"}, "must be a mapping"),
        ({"text": "x", "metadata": {1: 2}}, "string keys"),
        ({"text": "x", "metadata": {"a": {1: 2, "1": 3}}}, "metadata"),
        ({"text": "x", "metadata": {"a": object()}}, "plain JSON"),
        ({"text": "x", "metadata": {"a": {1, 2}}}, "plain JSON"),
        ({"text": "x", "metadata": {"a": float("nan")}}, "plain JSON"),
        ({"text": "x", "metadata": {"a": [float("-inf")]}}, "plain JSON"),
        ({"text": "x", "metadata": {"a": "\ud800"}}, "lone surrogate"),
        ({"text": "x", "metadata": {"\ud800": 1}}, "lone surrogate"),
        ({"text": "x", "metadata": circular()}, "plain JSON"),
    ],
    ids=range(24),
)
def test_what_does_not_fit_is_refused_by_its_place(bad, message):
    """The error names the document by its position in the index and says what is wrong."""
    with pytest.raises(InvalidInput, match=f"document 11.*{message}"):
        as_documents(["good", bad, "good"], 10, need_text=True)


@pytest.mark.parametrize("bad", ["one text", b"one", {"text": "one"}, Document(id="a", text="one"), None, 5])
def test_one_document_is_not_a_list_of_documents(bad):
    """A text is not taken for a list of letters, nor a mapping for a list of keys."""
    with pytest.raises(InvalidInput, match="expected a list"):
        as_documents(bad, 0, need_text=True)


@pytest.mark.parametrize(
    "twice", [[{"id": "x", "text": "1"}, {"id": "x", "text": "2"}], ["first", {"id": "0", "text": "2"}]]
)
def test_an_id_may_occur_once(twice):
    """Two equal ids are a DuplicateId, also when one of them is a position."""
    with pytest.raises(DuplicateId, match="occurs twice"):
        as_documents(twice, 0, need_text=True)


def test_a_document_is_immutable():
    """No field can be assigned."""
    with pytest.raises(FrozenInstanceError):
        THREE[0].text = "other"


# ---- the database


@given(documents)
def test_packed_documents_come_back(tmp_path_factory, batch):
    """ids, texts and metadata of any documents are what was packed, row by row."""
    path = tmp_path_factory.mktemp("pack") / "documents.sqlite"
    packed(path, batch)
    file = DocumentFile(path, len(batch))
    assert file.get(range(len(batch))) == batch
    assert file.ids() == [document.id for document in batch]
    assert file.rows([document.id for document in batch]) == {document.id: row for row, document in enumerate(batch)}
    file.close()


@given(documents)
def test_equal_documents_give_equal_bytes(tmp_path_factory, batch):
    """pack is a function of its input, whatever the file is called."""
    folder = tmp_path_factory.mktemp("pack")
    assert packed(folder / "a.sqlite", batch) == packed(folder / "b", iter(batch))


def test_the_file_is_sqlite_that_anyone_can_read(path):
    """A plain SQLite client sees one strict table."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT row, id, text, metadata FROM documents ORDER BY row").fetchall()
    connection.close()
    assert rows == [(0, "b", "two words", '{"n": 1}'), (1, "a", "", '{"n": 2}'), (2, "ü/😀", None, "{}")]


def test_get_keeps_the_order_asked_for(file):
    """Rows come in the caller's order, also when one is asked for twice."""
    assert file.get([2, 0, 2]) == [THREE[2], THREE[0], THREE[2]]
    assert file.get([]) == []


def test_rows_leaves_out_what_is_not_there(file):
    """Unknown ids are absent from the answer; ids are compared exactly."""
    assert file.rows(["a", "A", "a ", "nowhere", "ü/😀"]) == {"a": 1, "ü/😀": 2}
    assert file.rows([]) == {}


def test_a_nul_does_not_end_an_id(tmp_path):
    """Ids that differ only after a NUL are different ids, unless such an id is refused."""
    names = ["x", "x\0y", "x\0", "\0"]
    try:
        batch = as_documents([{"id": name, "text": "t"} for name in names], 0, need_text=True)
    except InvalidInput:
        return
    packed(tmp_path / "d.sqlite", batch)
    file = DocumentFile(tmp_path / "d.sqlite", len(names))
    assert [file.rows([name]) for name in names] == [{name: row} for row, name in enumerate(names)]


def test_many_ids_are_looked_up_at_once(file):
    """The number of ids is not limited by the number of SQL parameters."""
    assert file.rows([str(i) for i in range(100_000)] + ["a"]) == {"a": 1}


def test_a_row_that_is_not_there_is_damage(file):
    """The rows come from the segment's arrays, so a missing one means a damaged file."""
    with pytest.raises(CorruptIndexError, match=r"expected rows \[3\]"):
        file.get([0, 3])


def test_matching_gives_ascending_rows(file):
    """Rows of a filter are int64, in order."""
    found = file.matching({"n": {"$gte": 1}})
    assert (found.tolist(), found.dtype) == ([0, 1], "int64")
    assert (file.matching({"n": 3}).tolist(), file.matching({"n": 3}).dtype) == ([], "int64")


def test_reading_leaves_nothing_beside_the_file(path, file):
    """No journal, lock or temporary file appears, and the bytes stay as they were."""
    before = path.read_bytes()
    file.get([0])
    file.matching({"n": 1})
    assert [p.name for p in path.parent.iterdir()] == ["documents.sqlite"]
    assert path.read_bytes() == before


def test_a_file_may_be_read_only(path, file):
    """Read access is enough for file and folder."""
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert file.get([0]) == [THREE[0]]
    finally:
        path.parent.chmod(0o700)


def test_a_closed_file_opens_again(file):
    """close drops the connection, the next use makes a new one, and closing twice is harmless."""
    file.get([0])
    file.close()
    file.close()
    assert file.get([1]) == [THREE[1]]


def test_threads_share_one_file(file):
    """Each thread has its own connection and reads the same."""
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: file.get([i % 3])[0], range(200))) == [THREE[i % 3] for i in range(200)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
def test_a_thread_that_ends_leaves_no_file_open(path, file):
    """Connections go with their threads, and the last ones with the DocumentFile or its close."""

    def n_open():
        links = [p.resolve() for p in Path("/proc/self/fd").iterdir()]
        return links.count(path.resolve())

    for _ in range(20):
        thread = threading.Thread(target=file.get, args=([0],))
        thread.start()
        thread.join()
    assert n_open() == 0
    file.get([0])
    assert n_open() == 1
    file.close()
    assert n_open() == 0
    opened = DocumentFile(path, 3)
    opened.get([0])
    del opened
    assert n_open() == 0


def test_a_forked_child_reads_on_its_own(file):
    """A child opens a connection of its own instead of using its parent's."""
    file.get([0])
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def answer():
        opened = []
        sys.addaudithook(lambda event, _: opened.append(event) if event == "sqlite3.connect" else None)
        sender.send((file.get([1]), file.matching({"n": 2}).tolist(), len(opened)))

    child = context.Process(target=answer)
    child.start()
    assert receiver.poll(30)
    assert receiver.recv() == ([THREE[1]], [1], 1)
    child.join()
    assert file.get([2]) == [THREE[2]]


def other_schema(sql):
    """The bytes of a database made by `sql`."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(sql)
    data = connection.serialize()
    connection.close()
    return data


COLUMNS = "row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT, metadata TEXT NOT NULL"
SQL = f"CREATE TABLE documents ({COLUMNS}) STRICT"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a database at all" * 100,
        lambda path: path.read_bytes()[:2048],
        lambda path: path.read_bytes().replace(b"CREATE TABLE documents", b"CREATE TABLE documentz"),
        lambda path: path.read_bytes().replace(b"CREATE TABLE documents", b"CREATE TABLE \xff\xfeuments"),
        other_schema("CREATE TABLE other (a)"),
        other_schema("CREATE VIEW documents AS SELECT 0 AS row, 'a' AS id, '' AS text, '{}' AS metadata"),
        other_schema(SQL + "; CREATE TRIGGER t AFTER INSERT ON documents BEGIN SELECT 1; END"),
        other_schema(SQL + "; CREATE VIEW v AS SELECT 1"),
        other_schema(SQL.replace(" STRICT", "")),
    ],
    ids=["empty", "text", "cut", "renamed", "renamed to bytes", "other table", "view", "trigger", "more", "not strict"],
)
@pytest.mark.parametrize(
    "use", [lambda f: f.ids(), lambda f: f.get([0]), lambda f: f.rows(["a"]), lambda f: f.matching({"n": 1})]
)
def test_another_file_is_not_a_document_file(path, data, use):
    """Damaged bytes and a database of another schema, views and triggers included, are a CorruptIndexError."""
    path.write_bytes(data(path) if callable(data) else data)
    with pytest.raises(CorruptIndexError, match=r"documents\.sqlite"):
        use(DocumentFile(path, 3))


def test_a_file_that_is_missing_is_damage(path):
    """The manifest names the file, so its absence is a CorruptIndexError."""
    path.unlink()
    with pytest.raises(CorruptIndexError, match=r"documents\.sqlite"):
        DocumentFile(path, 3).ids()


def test_a_document_of_another_library_is_named_with_its_module():
    """The class of another library may be called Document too, so the error says where it is from."""
    foreign = type("Document", (), {"__module__": "other_library.schema"})
    with pytest.raises(InvalidInput, match=r"a refcolbert\.Document, found other_library\.schema\.Document"):
        as_documents([foreign()], 0, need_text=True)
