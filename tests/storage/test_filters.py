"""Metadata filters: SQLite's answer against an evaluator in plain Python, written from the docstring of `filters`."""

import operator
import re
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Index
from refcolbert.documents import as_documents
from refcolbert.errors import InvalidInput
from refcolbert.storage.document_file import DocumentFile, pack
from refcolbert.storage.filters import compile_filter

MISSING = object()
ORDER = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


# ---- the oracle


def kind_of(value):
    """Which values may be compared with each other; objects and lists have no kind."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, int | float) else None


def lookup(metadata, field):
    """The value at a dotted path, or MISSING."""
    for part in field.split("."):
        if not isinstance(metadata, dict) or part not in metadata:
            return MISSING
        metadata = metadata[part]
    return metadata


def equal(value, operand):
    """Whether two values are of one kind and the same."""
    return value is not MISSING and kind_of(value) == kind_of(operand) and value == operand


def holds(value, name, operand):
    """Whether one operator holds for a field's value: for an element of it if it is a list."""
    values = value if isinstance(value, list) else [value]
    if name == "$exists":
        return (value is not MISSING) == operand
    if name == "$contains":
        if isinstance(value, str):
            return isinstance(operand, str) and operand in value
        return isinstance(value, list) and any(equal(one, operand) for one in value)
    if name in ("$eq", "$ne"):
        return any(equal(one, operand) for one in values) == (name == "$eq")
    if name in ("$in", "$nin"):
        return any(equal(one, wanted) for one in values for wanted in operand) == (name == "$in")
    return any(one is not MISSING and kind_of(one) == kind_of(operand) and ORDER[name](one, operand) for one in values)


def satisfies(metadata, where):
    """Whether metadata satisfy a filter."""
    for key, value in where.items():
        if key == "$and":
            found = all(satisfies(metadata, part) for part in value)
        elif key == "$or":
            found = any(satisfies(metadata, part) for part in value)
        elif key == "$not":
            found = not satisfies(metadata, value)
        else:
            operators = value if isinstance(value, dict) else {"$eq": value}
            found = all(holds(lookup(metadata, key), name, operand) for name, operand in operators.items())
        if not found:
            return False
    return True


# ---- what is drawn: few names and values, so that they meet

names = st.sampled_from(["a", "b", "é", "a b", "it's", "x]"])
integers = st.integers(-2, 2) | st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
finite = st.floats(allow_nan=False, allow_infinity=False)
floats = st.sampled_from([0.1, -0.0, 1.0, 1.5, 2.0**53, 1e300, 5e-324]) | finite
texts = st.sampled_from(["", "a", "b", "1", "true", "null", "ä", "😀", "it's", 'say "x"']) | st.text(
    st.characters(exclude_characters="\0", codec="utf-8"), max_size=3
)
orderable = st.booleans() | integers | floats | texts
scalars = st.none() | orderable
metadatas = st.dictionaries(
    names,
    scalars
    | st.lists(scalars | st.lists(scalars, max_size=1) | st.dictionaries(names, scalars, max_size=1), max_size=3)
    | st.dictionaries(names, scalars | st.dictionaries(names, scalars, max_size=2), max_size=2),
    max_size=4,
)
fields = st.lists(names, min_size=1, max_size=3).map(".".join)
conditions = scalars | st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("$eq", "$ne", "$contains"), scalars),
        **dict.fromkeys(ORDER, orderable),
        **dict.fromkeys(("$in", "$nin"), st.lists(scalars, max_size=4)),
        "$exists": st.booleans(),
    },
)
leaves = st.dictionaries(fields, conditions, max_size=2)
filters = st.recursive(
    leaves,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "$and": st.lists(inner, min_size=1, max_size=3),
            "$or": st.lists(inner, min_size=1, max_size=3),
            "$not": inner,
            "a": conditions,
        },
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    """Metadata -> a document file that holds one document for each."""
    folder = tmp_path_factory.mktemp("filters")

    def make(metadatas):
        path = folder / "documents.sqlite"
        path.write_bytes(b"")
        pack(as_documents([{"metadata": metadata} for metadata in metadatas], 0, need_text=False), path)
        return DocumentFile(path, len(metadatas))

    return make


def matching(file_of, metadatas, where):
    """The rows that satisfy a filter."""
    file = file_of(metadatas)
    try:
        return file.matching(where).tolist()
    finally:
        file.close()


@given(st.lists(metadatas, min_size=1, max_size=8), st.lists(filters, min_size=1, max_size=6))
def test_a_filter_selects_what_the_docstring_says(file_of, metadatas, wheres):
    """SQLite selects the rows that the evaluator selects, for any metadata and filter."""
    file = file_of(metadatas)
    for where in wheres:
        expected = [row for row, metadata in enumerate(metadatas) if satisfies(metadata, where)]
        assert file.matching(where).tolist() == expected, (metadatas, where)
    file.close()


POOL = [None, False, True, -1, 0, 0.0, 1, 1.5, 2**63 - 1, "", "1", "a", "b", "é"]


@pytest.mark.parametrize("name", ["$eq", "$ne", "$in", "$nin", "$contains", *ORDER])
def test_an_operator_compares_every_two_values_rightly(file_of, name):
    """Each operator holds for exactly the pairs for which it should, a missing field and an object included."""
    lists = [[], POOL, POOL[:1], POOL[3:], [[1]], [{"a": 1}]]
    metadatas = [*({"a": value} for value in [*POOL, *lists, *([one] for one in POOL)]), {}, {"a": {"b": 1}}]
    file = file_of(metadatas)
    for value in POOL:
        if value is None and name in ORDER:
            continue
        operand = [value] if name in ("$in", "$nin") else value
        expected = [row for row, metadata in enumerate(metadatas) if holds(lookup(metadata, "a"), name, operand)]
        assert file.matching({"a": {name: operand}}).tolist() == expected, (name, operand)
    file.close()


BOOKS = [
    {"year": 1999, "lang": "en", "author": {"name": "Ada"}, "free": True},
    {"year": 2020.5, "lang": "de", "author": {"name": "Bob"}, "free": False},
    {"year": "2024", "lang": None, "tags": ["x"], "free": 1},
    {},
]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ({}, [0, 1, 2, 3]),
        ({"lang": "en"}, [0]),
        ({"lang": None}, [2]),
        ({"lang": "EN"}, []),
        ({"year": {"$gte": 1999}}, [0, 1]),
        ({"year": {"$gt": 1999, "$lt": 2021}}, [1]),
        ({"year": {"$lte": 1999}}, [0]),
        ({"year": {"$lt": 1999}}, []),
        ({"year": {"$gt": "2000"}}, [2]),
        ({"year": 1999.0}, [0]),
        ({"free": True}, [0]),
        ({"free": 1}, [2]),
        ({"free": {"$gt": False}}, [0]),
        ({"author.name": "Ada"}, [0]),
        ({"author.name.first": "Ada"}, []),
        ({"author": {"$exists": True}}, [0, 1]),
        ({"lang": {"$exists": False}}, [3]),
        ({"lang": {"$ne": "en"}}, [1, 2, 3]),
        ({"lang": {"$nin": ["en", None]}}, [1, 3]),
        ({"lang": {"$in": []}}, []),
        ({"lang": {"$nin": []}}, [0, 1, 2, 3]),
        ({"lang": {"$in": {"en", "de"}}}, [0, 1]),
        ({"free": {"$in": [1, False]}}, [1, 2]),
        ({"lang": {}}, [0, 1, 2, 3]),
        ({"tags": "x"}, [2]),
        ({"tags": {"$ne": "x"}}, [0, 1, 3]),
        ({"tags": {"$in": ["y", "x"]}}, [2]),
        ({"tags": {"$nin": ["y", "x"]}}, [0, 1, 3]),
        ({"tags": {"$gt": "w"}}, [2]),
        ({"tags": {"$contains": "x"}}, [2]),
        ({"tags": {"$contains": ""}}, []),
        ({"author.name": {"$contains": "d"}}, [0]),
        ({"author.name": {"$contains": "D"}}, []),
        ({"lang": {"$contains": ""}}, [0, 1]),
        ({"free": {"$contains": True}}, []),
        ({"tags.0": "x"}, []),
        ({"$or": [{"lang": "en"}, {"year": {"$gt": 2020}}]}, [0, 1]),
        ({"$and": [{"lang": "en"}, {"year": {"$gt": 2020}}]}, []),
        ({"$not": {"lang": "en"}}, [1, 2, 3]),
        ({"$not": {"lang": {"$gt": ""}}}, [2, 3]),
        ({"lang": "en", "$or": [{"free": True}, {"free": False}]}, [0]),
    ],
)
def test_the_forms_of_a_filter(file_of, where, rows):
    """Each form of the docstring selects what was worked out by hand, and so does the evaluator."""
    assert [row for row, metadata in enumerate(BOOKS) if satisfies(metadata, where)] == rows
    assert matching(file_of, BOOKS, where) == rows


@pytest.mark.parametrize(
    "where",
    [
        None,
        [],
        "year > 3",
        {"": 1},
        {"$eq": 1},
        {"$where": "1"},
        {'a"b': 1},
        {1: 1},
        {None: 1},
        {"a": {"$regex": "x"}},
        {"a": {"b": 1}},
        {"a": {"$gt": 1, "$like": 2}},
        {"a": {1: 2}},
        {"a": [1]},
        {"a": b"x"},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": 2**63},
        {"a": -(2**63) - 1},
        {"a": 1j},
        {"a": {"$gt": None}},
        {"a": {"$lte": None}},
        {"a": {"$gt": [1]}},
        {"a": {"$in": 1}},
        {"a": {"$in": "xy"}},
        {"a": {"$in": {"x": 1}}},
        {"a": {"$in": [[1]]}},
        {"a": {"$nin": None}},
        {"a": {"$nin": [float("nan")]}},
        {"a": {"$contains": ["x"]}},
        {"a": {"$exists": 1}},
        {"a": {"$exists": None}},
        {"$and": []},
        {"$or": []},
        {"$or": {"a": 1}},
        {"$and": [1]},
        {"$not": []},
        {"$not": 1},
        {"$and": [{"$or": [{"a": {"$bad": 1}}]}]},
    ],
    ids=repr,
)
def test_another_value_is_not_a_filter(where):
    """An unknown operator, an ill-typed operand or field is an InvalidInput before any row is read."""
    with pytest.raises(InvalidInput):
        compile_filter(where)


def test_an_unknown_operator_is_told_the_known_ones():
    """The message names what was found and what there is."""
    with pytest.raises(InvalidInput, match=r"'\$regex'.*\$eq.*\$exists.*\$and, \$or, \$not"):
        compile_filter({"a": {"$regex": "x"}})


SECRET = [{"a": "x"}, {"a": "y", "b": 1}]
ATTEMPTS = [
    "x' OR '1'='1",
    "x') OR 1=1 --",
    'x" OR "1"="1',
    "x'; DROP TABLE documents; --",
    "?",
    "?1",
    ":a",
    "%",
    "*",
    "x\\",
    "$.a",
    "metadata",
    "x' UNION SELECT row FROM documents --",
]


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"$in": [v]}, lambda v: {"$gt": v + "~", "$lt": v}])
def test_a_value_is_never_read_as_sql(file_of, attempt, wrap):
    """Text that would be SQL matches nothing but itself, and the documents are still there."""
    assert matching(file_of, SECRET, {"a": wrap(attempt)}) == []
    assert matching(file_of, [*SECRET, {"a": attempt}], {"a": attempt}) == [2]


def test_a_contained_text_is_no_pattern(file_of):
    """% and _ and * stand for themselves."""
    metadatas = [{"a": text} for text in ("50% off", "50 off", "a_b", "a*b", "axb")]
    found = {text: matching(file_of, metadatas, {"a": {"$contains": text}}) for text in ("%", "a_b", "a*b", "off")}
    assert found == {"%": [0], "a_b": [2], "a*b": [3], "off": [0, 1]}


DAYS = [{"at": "2024-01-31"}, {"at": "2024-02-01"}, {"at": ["2023-12-31", "2024-03-01"]}, {"at": 20240201}]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (date(2024, 2, 1), [1]),
        ({"$gte": date(2024, 2, 1)}, [1, 2]),
        ({"$lt": datetime(2024, 1, 31, 12)}, [0, 2]),
        ({"$in": [date(2024, 1, 31), date(2023, 12, 31)]}, [0, 2]),
        ({"$ne": date(2024, 1, 31)}, [1, 2, 3]),
        ({"$contains": date(2024, 3, 1)}, [2]),
        (datetime(2024, 1, 31, tzinfo=UTC), []),
    ],
    ids=repr,
)
def test_a_date_is_its_iso_text(file_of, condition, rows):
    """A date in a filter is compared as text with the dates that metadata hold as text."""
    assert matching(file_of, DAYS, {"at": condition}) == rows


@pytest.mark.parametrize("attempt", [*ATTEMPTS, "a') = 'x' OR ('1", "a[0]", "a*", "**", "a'||'"])
def test_a_field_is_never_read_as_sql_or_path(file_of, attempt):
    """A field that would be SQL or another path is refused, or names a field that is not there."""
    try:
        found = matching(file_of, SECRET, {attempt: {"$exists": True}})
    except InvalidInput:
        found = []
    assert found == []


@pytest.mark.parametrize("attempt", ["$eq) OR (1", "$gt; --", "=", "$GT", " $eq"])
def test_an_operator_is_never_read_as_sql(attempt):
    """Only the operators of the table are compiled."""
    with pytest.raises(InvalidInput, match="unknown filter operator"):
        compile_filter({"a": {attempt: 1}})


@given(filters)
def test_the_sql_holds_nothing_of_the_callers(where):
    """The condition is made of constants: every name and value of the filter is a bound parameter."""
    sql, parameters = compile_filter(where)
    assert sql.count("?") == len(parameters)
    allowed = "json_type json_extract json_each instr metadata IFNULL NOT IN IS NULL AND OR SELECT value FROM"
    allowed += " CASE WHEN THEN END EXISTS WHERE type 'array'"
    allowed += " 'integer' 'real' 'text' 'true' 'false' 'null' 0 1 ? > >= < <= ="
    for mark in "(),":
        sql = sql.replace(mark, " ")
    assert set(sql.split()) <= set(allowed.split())


@pytest.mark.parametrize("where", [{"a": "\ud800"}, {"\ud800": 1}, {"a": {"$in": ["\ud800"]}}, {"a.\ud800": 1}])
def test_a_lone_surrogate_is_refused(file_of, where):
    """Text that has no UTF-8 is an InvalidInput, in a value and in a field."""
    with pytest.raises(InvalidInput):
        matching(file_of, [{"a": 1}], where)


def check_right_or_refused(file_of, metadatas, where):
    """Check that the rows are those that the evaluator selects, or that metadata or filter are refused."""
    try:
        found = matching(file_of, metadatas, where)
    except InvalidInput:
        return
    assert found == [row for row, metadata in enumerate(metadatas) if satisfies(metadata, where)]


@pytest.mark.parametrize("text", ["x\0y", "x", "x\0", "\0", ""])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"$ne": v}, lambda v: {"$in": [v]}, lambda v: {"$lte": v}])
def test_a_nul_does_not_end_a_text(file_of, text, wrap):
    """Texts that differ only after a NUL are different texts."""
    metadatas = [{"a": stored} for stored in ("x\0y", "x", "x\0", "\0", "")]
    check_right_or_refused(file_of, metadatas, {"a": wrap(text)})


@pytest.mark.parametrize("field", ["a\nb", "a\tb", "a\\b", "a\\nb", "a\\", "a\0b", "\x01", "\x7f", "\u2028", "a/b"])
@pytest.mark.parametrize("condition", [1, {"$exists": False}, {"$ne": 1}])
def test_a_field_that_json_escapes_is_found(file_of, field, condition):
    """A name with control characters or a backslash addresses the field of that name and no other."""
    check_right_or_refused(file_of, [{field: 1}, {"a": 1}, {"ab": 1}, {"a\\nb": 1}], {field: condition})


def nested(depth, wrap):
    """A filter of that depth."""
    where = {"a": 1}
    for _ in range(depth):
        where = wrap(where)
    return where


@pytest.mark.parametrize("depth", [10, 30, 100, 1_000, 20_000])
@pytest.mark.parametrize("wrap", [lambda w: {"$not": w}, lambda w: {"$and": [w]}, lambda w: {"$or": [{"a": 2}, w]}])
def test_a_deep_filter_is_answered_or_refused(file_of, depth, wrap):
    """However deep a filter is, the answer is right or an InvalidInput: the file is not to blame."""
    try:
        found = matching(file_of, [{"a": 1}, {"a": 3}], nested(depth, wrap))
    except InvalidInput:
        assert depth > 10
    else:
        assert found == [0]


@pytest.mark.parametrize("n", [10, 900, 1_100, 20_000])
@pytest.mark.parametrize(
    "where",
    [
        lambda n: {"$or": [{"a": i} for i in range(n)]},
        lambda n: {"$and": [{"a": {"$ne": i + 2}} for i in range(n)]},
        lambda n: {"a": {"$in": list(range(n))}},
        lambda n: {f"f{i}": {"$exists": False} for i in range(n)},
        lambda n: {"$not": {"$or": [{"a": {"$in": []}}] * n}},
    ],
    ids=["or", "and", "in", "fields", "no values"],
)
def test_a_wide_filter_is_answered_or_refused(file_of, n, where):
    """However many parts a filter has, the answer is right or an InvalidInput; ten parts are never too many."""
    metadatas = [{"a": 1}, {"a": 5}, {"a": 10**6}]
    try:
        found = matching(file_of, metadatas, where(n))
    except InvalidInput:
        assert n > 10
    else:
        assert found == [row for row, metadata in enumerate(metadatas) if satisfies(metadata, where(n))]


# ---- a filter that matches nothing


@pytest.fixture
def shelf(tmp_path):
    """An index with a segment of BOOKS and one of two more, the last one deleted."""
    index = Index.create(tmp_path / "i", dim=2)
    for books in (BOOKS, [{"year": 2021, "tags": [1, 2]}, {"deleted": 5}]):
        index.add([{"metadata": metadata} for metadata in books], vectors=[[[1, 0]]] * len(books))
    index.delete(["5"])
    return index


@pytest.mark.parametrize(
    ("where", "warning"),
    [
        ({"yaer": 2020}, "yaer: no document has a value"),
        ({"deleted": 5}, "deleted: no document has a value"),
        ({"author.name": {"$gt": 3}}, "author.name: expected number, found text in 2 documents"),
        ({"author": "Ada"}, "author: expected text, found object in 2 documents"),
        ({"year": True}, "year: expected true/false, found number in 3 documents, text in 1 document"),
        (
            {"lang": {"$in": [1, True]}},
            "lang: expected number or true/false, found text in 2 documents, null in 1 document",
        ),
        ({"tags": None}, "tags: expected null, found text in 1 document, number in 1 document"),
        (
            {"yaer": {"$exists": True}, "free": "yes"},
            "yaer: .*; free: expected text, found true/false in 2 documents, number",
        ),
        ({"$or": [{"yaer": 2020}, {"lang": 1, "x": {"$ne": 1}}]}, "yaer: [^;]*; lang: expected number[^;]*"),
    ],
    ids=repr,
)
def test_a_filter_that_cannot_match_is_told(shelf, caplog, where, warning):
    """One warning names the fields that no live document has, or that have values of other kinds alone."""
    assert shelf.search([[1, 0]], where=where) == []
    (record,) = caplog.records
    assert re.match(f"the filter matches no document: {warning}", record.getMessage())


@pytest.mark.parametrize(
    "where",
    [
        {"lang": "en"},
        {"lang": "fr"},
        {"year": {"$gt": 3000}},
        {"tags": 3},
        {"lang": {"$exists": True, "$nin": ["en", "de", None]}},
        {"lang": "fr", "yaer": {"$ne": 3}, "$not": {"yaer": 2020}},
        {"lang": {"$in": []}},
    ],
    ids=repr,
)
def test_a_filter_that_could_match_is_not_told(shelf, caplog, where):
    """No warning comes after a match, nor for values that are of the right kind, nor for fields that may be missing."""
    shelf.search([[1, 0]], where=where)
    assert not caplog.records


def test_an_empty_index_gives_no_warning(tmp_path, caplog):
    """Where there is no document, the filter is not to blame."""
    Index.create(tmp_path / "i", dim=2).search([[1, 0]], where={"a": 1})
    assert not caplog.records
