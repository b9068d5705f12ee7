"""Frames: the rows of a table are documents. pandas is real. polars, Arrow and datasets are objects of their kind."""

import json
from collections.abc import Iterator
from datetime import date, datetime

import numpy as np
import pandas
import pytest

from refcolbert import Document, Index
from refcolbert.documents import as_documents, records
from refcolbert.errors import InvalidInput

ROWS = [
    {"id": 7, "text": "a", "year": 2020, "price": 1.5, "day": date(2024, 1, 2), "tags": ["x", "y"], "free": True},
    {"id": 8, "text": "b", "year": None, "price": float("nan"), "day": None, "tags": [], "free": None},
]
DOCUMENTS = [
    Document(
        id="7",
        text="a",
        metadata={"year": 2020, "price": 1.5, "day": "2024-01-02", "tags": ["x", "y"], "free": True},
    ),
    Document(id="8", text="b", metadata={"tags": []}),
]


class Polars:
    """A frame with the methods of polars that are called."""

    def __init__(self, rows) -> None:
        self.rows, self.columns = rows, list(rows[0])

    def __iter__(self) -> Iterator[str]:
        """Yield columns."""
        return iter(self.columns)

    def iter_rows(self, *, named):
        """Yield mappings."""
        return iter(self.rows if named else [tuple(row.values()) for row in self.rows])


class Arrow:
    """A table with the methods of Arrow that are called. It is not iterable."""

    def __init__(self, rows) -> None:
        self.rows, self.column_names, self.columns = rows, list(rows[0]), []

    def __len__(self) -> int:
        """Count rows."""
        return len(self.rows)

    def slice(self, start, length):
        """Return a part."""
        return Arrow(self.rows[start : start + length])

    def to_pylist(self):
        """Return at most the rows of one slice."""
        assert len(self.rows) < 3000
        return self.rows


class Dataset(list):
    """A Hugging Face dataset: it yields mappings."""

    column_names = None  # as in a stream


FRAMES = [pandas.DataFrame, Polars, Arrow, Dataset]


@pytest.mark.parametrize("frame", [*FRAMES, lambda rows: pandas.DataFrame(rows).convert_dtypes()])
def test_a_row_is_a_document(frame):
    """Text and id come from their columns, others are metadata, a missing value is left out and a date is text."""
    assert as_documents(frame(ROWS), 0, need_text=True) == DOCUMENTS


@pytest.mark.parametrize("frame", FRAMES)
def test_another_column_may_hold_the_texts(tmp_path, encoder, frame):
    """add, upsert and build take text= and id=. Without a column of ids, the position of a row is its id."""
    rows = frame([{"body": "the cat", "key": "k", "n": 1}])
    names = {"text": "body", "id": "key"}
    index = Index.create(tmp_path / "i", encoder)
    assert (index.add(rows, **names), index.upsert(rows, **names)) == (["k"], ["k"])
    built = Index.build(tmp_path / "b", rows, encoder, text="body")
    assert index.get(["k"]) == [Document(id="k", text="the cat", metadata={"n": 1})]
    assert built.get(["0"]) == [Document(id="0", text="the cat", metadata={"key": "k", "n": 1})]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_is_read_in_slices(frame):
    """All rows of a frame of more than one slice come, in order."""
    rows = frame([{"text": str(i)} for i in range(5000)])
    assert [d.text for d in as_documents(rows, 0, need_text=True)] == [str(i) for i in range(5000)]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("names", [{}, {"text": "nowhere"}, {"text": "body", "id": "nowhere"}])
def test_a_column_that_is_not_there_is_named(frame, names):
    """The error lists the columns and says which argument names another."""
    with pytest.raises(InvalidInput, match=r"expected a column '\w+', found \['body', 'n'\]; pass (text|id)="):
        list(records(frame([{"body": "x", "n": 1}]), **names, need_text=True))


def test_values_of_pandas_and_numpy_become_json():
    """Times are ISO 8601 text, numbers and arrays plain, and what is missing in them is None or left out."""
    frame = pandas.DataFrame(
        {
            "text": ["x", "y"],
            "at": pandas.to_datetime(["2024-01-02T03:04:05Z", None]),
            "small": np.array([5, 6], np.int8),
            "array": [np.array([1.5, np.nan]), np.array(["2024-01-02"], "datetime64[ns]")],
            "nested": [{"a": np.int64(1), "b": None, "c": datetime(2024, 1, 2)}, pandas.NA],
        }
    )
    first, second = [document.metadata for document in as_documents(frame, 0, need_text=True)]
    assert json.loads(json.dumps(first)) == {
        "at": "2024-01-02T03:04:05+00:00",
        "small": 5,
        "array": [1.5, None],
        "nested": {"a": 1, "c": "2024-01-02T00:00:00"},
    }
    assert second == {"small": 6, "array": ["2024-01-02T00:00:00"]}


def test_a_column_of_metadata_gives_their_entries():
    """Rows in the form of a mapping mean what the mapping means."""
    row = {"id": "a", "text": "x", "metadata": {"n": 1}, "m": 2}
    assert as_documents(Dataset([row]), 0, need_text=True) == [Document(id="a", text="x", metadata={"m": 2, "n": 1})]


def test_names_of_columns_need_a_frame():
    """text= is not ignored for a list, where each mapping has its keys."""
    with pytest.raises(InvalidInput, match="text= and id= name columns of a frame, found list"):
        records([{"body": "x"}], "body", need_text=True)


@pytest.mark.parametrize("one", ["a text", b"bytes", {"id": "a", "text": "x"}, DOCUMENTS[0], 5, None])
def test_one_document_is_refused_everywhere(tmp_path, encoder, one):
    """add, upsert and build take no document for a list, and a refused build leaves nothing behind."""
    index = Index.create(tmp_path / "i", encoder)
    for take in (index.add, index.upsert, lambda document: Index.build(tmp_path / "b", document, encoder)):
        with pytest.raises(InvalidInput, match=r"expected a list of documents or a frame, found one .*\[document\]"):
            take(one)
    assert [path.name for path in tmp_path.iterdir()] == ["i"]
