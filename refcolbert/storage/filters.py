"""Metadata filters, compiled to SQL with bound parameters. The operators are those of MongoDB and of vector databases.

    {"year": {"$gte": 2020}, "lang": "en"}          all fields must match
    {"$or": [{"lang": "en"}, {"lang": "de"}]}       also $and; {"$not": {...}}
    {"author.name": "Ada"}                          a path into nested objects

The condition on a field is a value, which means equality, or a mapping of operators: $eq $ne $gt $gte $lt $lte $in $nin
$contains $exists. A filter has at most 200 conditions, nested at most 20 deep. Put a long list of values into one $in,
which has no limit. A comparison holds only between values of one kind (number, text, true/false, null), so
{"year": {"$gt": 3}} never matches a text. $ne and $nin are the negations of $eq and $in: they also match where the
field is missing.

Where a field is a list, a condition holds if it holds for an element: {"tags": "a"} matches {"tags": ["a", "b"]}.
{"tags": {"$contains": "a"}} means that a list has the element "a", or that a text has "a" in it, with the same case.

A date or datetime of Python is compared as its ISO 8601 text, such as "2024-01-31" or "2024-01-31T12:00:00". So store
dates as such text, in one format and one time zone: as texts, they are then ordered by time.

When a filter matches no document, a warning of the logger "refcolbert" names its fields that no document has, and those
whose values are all of other kinds.
"""

import json
import math
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from ..errors import InvalidInput

__all__ = ["compile_filter", "compile_kinds", "kinds_wanted"]

Condition = tuple[str, list[Any]]

# Kind of a JSON value -> SQLite's types of such values.
KINDS = {"number": ("integer", "real"), "text": ("text",), "true/false": ("true", "false"), "null": ("null",)}
# Well below the limits of SQLite's parser.
MAX_CONDITIONS, MAX_FILTER_DEPTH = 200, 20
COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def compile_filter(where: Mapping[str, Any]) -> Condition:
    """Return an SQL condition over the column `metadata`, and its parameters. The filter {} matches everything.

    Raises `InvalidInput` for an unknown operator, a path that cannot be addressed, a value that is not a JSON scalar.

    >>> compile_filter({"lang": {"$exists": True}})[1]
    ['$."lang"']
    """
    condition = _filter(where, MAX_FILTER_DEPTH)
    # Each condition has one.
    if condition[0].count("IFNULL") > MAX_CONDITIONS:
        raise InvalidInput(
            f"a filter must have at most {MAX_CONDITIONS} conditions, found more; put values of a field into one $in"
        )
    return condition


def kinds_wanted(where: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return field -> the kinds of value that a filter requires there, {} if any will do.

    Conditions that negate are left out, because documents without the field satisfy them.

    >>> kinds_wanted({"year": {"$gte": 2020}, "$not": {"lang": "en"}})
    {'year': {'number'}}
    """
    wanted: dict[str, set[str]] = {}
    for key, value in where.items():
        if key in ("$and", "$or"):
            for field, kinds in (pair for part in value for pair in kinds_wanted(part).items()):
                wanted.setdefault(field, set()).update(kinds)
        elif key != "$not":
            for operator, operand in (value if isinstance(value, Mapping) else {"$eq": value}).items():
                if operator == "$exists" and operand:
                    wanted.setdefault(key, set())
                elif operator not in ("$ne", "$nin", "$exists"):
                    values = operand if operator == "$in" else [operand]
                    wanted.setdefault(key, set()).update(_typed(one)[0] for one in values)
    return wanted


def compile_kinds(field: str) -> Condition:
    """Return a query for (row, kind) of the values of a field, and its parameters. A list has those of its elements."""
    cases = "".join(f" WHEN '{name}' THEN '{kind}'" for kind, types in KINDS.items() for name in types)
    # For an object, json_each gives its members.
    kind = f"CASE CASE json_type(metadata, ?) WHEN 'object' THEN 'object' ELSE type END{cases} ELSE 'object' END"
    sql = f"SELECT row, {kind} FROM documents, json_each(metadata, ?) ORDER BY row"  # noqa: S608
    return sql, [_path(field), _path(field)]


def _filter(where: Any, depth: int) -> Condition:
    if not isinstance(where, Mapping):
        raise InvalidInput(f"a filter must be a mapping, found {where!r}")
    if depth == 0:
        raise InvalidInput(f"a filter must be nested at most {MAX_FILTER_DEPTH} deep, found more; flatten it")
    return _all([_clause(key, value, depth - 1) for key, value in where.items()])


def _clause(key: str, value: Any, depth: int) -> Condition:
    """Return the condition of one entry of a filter: $and, $or, $not, or a field with its value or operators."""
    if key in ("$and", "$or"):
        if not isinstance(value, list | tuple) or not value:
            raise InvalidInput(f"{key} must have a list of filters, found {value!r}")
        return _all([_filter(part, depth) for part in value], "AND" if key == "$and" else "OR")
    if key == "$not":
        return _not(_filter(value, depth))
    path = _path(key)
    operators = value if isinstance(value, Mapping) else {"$eq": value}
    return _all([_operator(path, operator, operand) for operator, operand in operators.items()])


def _operator(path: str, operator: str, operand: Any) -> Condition:
    """Return the condition of one operator on the field at `path`."""
    table: dict[str, Callable[[], Condition]] = {
        "$eq": lambda: _equal(path, operand),
        "$ne": lambda: _not(_equal(path, operand)),
        "$in": lambda: _in(path, operand),
        "$nin": lambda: _not(_in(path, operand)),
        "$contains": lambda: _contains(path, operand),
        "$exists": lambda: _exists(path, operand),
        **{name: lambda sign=sign: _compare(path, sign, operand) for name, sign in COMPARISONS.items()},  # type: ignore[misc]
    }
    if operator not in table:
        raise InvalidInput(f"unknown filter operator {operator!r}; expected one of {', '.join(table)}, $and, $or, $not")
    return table[operator]()


def _compare(path: str, sign: str, operand: Any) -> Condition:
    kind, value = _typed(operand)
    if kind == "null":
        raise InvalidInput(f"{sign} must have a number, a text, true or false, found null; use $eq or $ne")
    return _holds(path, kind, f"{{}} {sign} ?", value)


def _equal(path: str, operand: Any) -> Condition:
    return _holds(path, "null", "{} IS NULL") if operand is None else _compare(path, "=", operand)


def _in(path: str, operand: Any) -> Condition:
    """Return the condition that a field equals one of the values. Values of each kind are one bound parameter."""
    if not isinstance(operand, list | tuple | set | frozenset):
        raise InvalidInput(f"$in and $nin must have a list of values, found {operand!r}")
    groups: dict[str, list[Any]] = {}
    for kind, value in map(_typed, operand):
        groups.setdefault(kind, []).append(value)
    among = "{} IN (SELECT value FROM json_each(?))"
    parts = [
        _equal(path, None) if kind == "null" else _holds(path, kind, among, json.dumps(values))
        for kind, values in groups.items()
    ]
    return _all(parts, "OR") if parts else _leaf("0", [])


def _contains(path: str, operand: Any) -> Condition:
    """Return the condition that a list has an element, or that a text has a text in it."""
    kind, value = _typed(operand)
    if kind == "text":
        return _holds(path, kind, "{} = ?", value, alone="instr({}, ?) > 0")
    return _all([_equal(path, operand), _leaf("json_type(metadata, ?) = 'array'", [path])])


def _exists(path: str, operand: Any) -> Condition:
    if type(operand) is not bool:
        raise InvalidInput(f"$exists must have true or false, found {operand!r}")
    return _leaf(f"json_type(metadata, ?) IS {'NOT ' if operand else ''}NULL", [path])


def _holds(path: str, kind: str, test: str, *operands: Any, alone: str | None = None) -> Condition:
    """Return the condition that a field's value, or an element of a list, is of a kind and passes a test.

    `test` has {} in place of the value. `alone` is another test for a value that is not in a list.
    """
    types = ", ".join(f"'{name}'" for name in KINDS[kind])
    element = f"SELECT 1 FROM json_each(metadata, ?) WHERE type IN ({types}) AND {test.format('value')}"  # noqa: S608
    value = (alone or test).format("json_extract(metadata, ?)")
    cases = "".join(f" WHEN '{name}' THEN {value}" for name in KINDS[kind])
    sql = f"CASE json_type(metadata, ?) WHEN 'array' THEN EXISTS ({element}){cases} END"
    return _leaf(sql, [path, path, *operands, *[path, *operands] * len(KINDS[kind])])


def _typed(value: Any) -> tuple[str, Any]:
    """Return the key of KINDS for a value, and the value as JSON. Raises `InvalidInput` if no metadata can equal it."""
    if isinstance(value, date):
        value = value.isoformat()
    if value is None:
        return "null", value
    if isinstance(value, bool):
        return "true/false", value
    if isinstance(value, str):
        _check(value)
        return "text", value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "number", value
    if isinstance(value, float) and math.isfinite(value):
        return "number", value
    raise InvalidInput(f"a filter value must be text, a finite 64-bit number, true, false or None, found {value!r}")


def _path(field: Any) -> str:
    """Return the SQLite JSON path of a dotted field name."""
    if not isinstance(field, str) or not field or field.startswith("$"):
        raise InvalidInput(f"a filter field must be a name that does not start with '$', found {field!r}")
    if any(character in '"\\' or character < " " for character in field):
        raise InvalidInput(
            f"a filter field must be without quotes, backslashes and control characters, found {field!r}"
        )
    _check(field)
    return "$" + "".join(f'."{part}"' for part in field.split("."))


def _check(text: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"a filter must be without NUL and lone surrogates, as metadata are, found {text!r}")


def _leaf(sql: str, parameters: list[Any]) -> Condition:
    # A condition on a missing field is false, not NULL, so that NOT makes it true.
    return f"IFNULL({sql}, 0)", parameters


def _not(condition: Condition) -> Condition:
    return f"NOT ({condition[0]})", condition[1]


def _all(conditions: list[Condition], joint: str = "AND") -> Condition:
    sql = f" {joint} ".join(f"({sql})" for sql, _ in conditions) or "1"
    return sql, [parameter for _, parameters in conditions for parameter in parameters]
