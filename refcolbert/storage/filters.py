"""Metadata filters in the form users know, compiled to SQL with bound parameters.

    {"year": {"$gte": 2020}, "lang": "en"}          all fields must match
    {"$or": [{"lang": "en"}, {"lang": "de"}]}       also $and; {"$not": {...}}
    {"author.name": "Ada"}                          a path into nested objects

A field's condition is a value (equality) or a mapping of operators: $eq $ne $gt $gte $lt $lte $in $nin $exists.
At most 200 conditions, nested at most 20 deep; a long list of values belongs into one $in, which has no such limit. A
comparison holds only between values of one kind (number, text, true/false, null), so {"year": {"$gt": 3}} never
matches a text. $ne and $nin are the negations of $eq and $in: they also match where the field is missing.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InvalidInput

__all__ = ["compile_filter"]

Condition = tuple[str, list[Any]]

# kind of a JSON value -> the SQL that tests a field's kind; `?` is the field's path
KINDS = {
    "number": "json_type(metadata, ?) IN ('integer', 'real')",
    "text": "json_type(metadata, ?) = 'text'",
    "bool": "json_type(metadata, ?) IN ('true', 'false')",
    "null": "json_type(metadata, ?) = 'null'",
}
MOST_CONDITIONS, DEEPEST = 200, 20  # what SQLite's parser takes without complaint, with room to spare
COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def compile_filter(where: Mapping[str, Any]) -> Condition:
    """A filter -> an SQL condition over the column `metadata`, and its parameters. {} matches everything.

    Raises `InvalidInput` for an unknown operator, a path that cannot be addressed, or a value that is no JSON scalar.
    """
    condition = _filter(where, DEEPEST)
    if condition[0].count("?") > 2 * MOST_CONDITIONS:
        raise InvalidInput(f"a filter has at most {MOST_CONDITIONS} conditions; put values of one field into one $in")
    return condition


def _filter(where: Any, depth: int) -> Condition:
    if not isinstance(where, Mapping):
        raise InvalidInput(f"a filter must be a mapping, found {where!r}")
    if depth == 0:
        raise InvalidInput(f"a filter is nested at most {DEEPEST} deep")
    return _all([_clause(key, value, depth - 1) for key, value in where.items()])


def _clause(key: str, value: Any, depth: int) -> Condition:
    if key in ("$and", "$or"):
        if not isinstance(value, list | tuple) or not value:
            raise InvalidInput(f"{key} takes a list of filters, found {value!r}")
        return _all([_filter(part, depth) for part in value], "AND" if key == "$and" else "OR")
    if key == "$not":
        return _not(_filter(value, depth))
    path = _path(key)
    operators = value if isinstance(value, Mapping) else {"$eq": value}
    return _all([_operator(path, operator, operand) for operator, operand in operators.items()])


def _operator(path: str, operator: str, operand: Any) -> Condition:
    table: dict[str, Callable[[], Condition]] = {
        "$eq": lambda: _equal(path, operand),
        "$ne": lambda: _not(_equal(path, operand)),
        "$in": lambda: _in(path, operand),
        "$nin": lambda: _not(_in(path, operand)),
        "$exists": lambda: _exists(path, operand),
        **{name: lambda sign=sign: _compare(path, sign, operand) for name, sign in COMPARISONS.items()},  # type: ignore[misc]
    }
    if operator not in table:
        raise InvalidInput(f"unknown filter operator {operator!r}; expected one of {', '.join(table)}, $and, $or, $not")
    return table[operator]()


def _compare(path: str, sign: str, operand: Any) -> Condition:
    kind = _kind(operand)
    if kind == "null":
        raise InvalidInput(f"null has no order: {sign} cannot be applied to it")
    return _leaf(f"{KINDS[kind]} AND json_extract(metadata, ?) {sign} ?", [path, path, operand])


def _equal(path: str, operand: Any) -> Condition:
    if _kind(operand) == "null":
        return _leaf(KINDS["null"], [path])
    return _compare(path, "=", operand)


def _in(path: str, operand: Any) -> Condition:
    if not isinstance(operand, list | tuple | set | frozenset):
        raise InvalidInput(f"$in and $nin take a list of values, found {operand!r}")
    groups: dict[str, list[Any]] = {}
    for value in operand:
        groups.setdefault(_kind(value), []).append(value)
    among = "json_extract(metadata, ?) IN (SELECT value FROM json_each(?))"
    parts = [
        _leaf(f"{KINDS[kind]} AND {among}", [path, path, json.dumps(values)]) if kind != "null" else _equal(path, None)
        for kind, values in groups.items()
    ]
    return _all(parts, "OR") if parts else ("0", [])


def _exists(path: str, operand: Any) -> Condition:
    if type(operand) is not bool:
        raise InvalidInput(f"$exists takes true or false, found {operand!r}")
    return f"json_type(metadata, ?) IS {'NOT ' if operand else ''}NULL", [path]


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        _check(value)
        return "text"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "number"
    if isinstance(value, float) and math.isfinite(value):
        return "number"
    raise InvalidInput(f"a filter compares with text, finite 64-bit numbers, true, false and None, found {value!r}")


def _path(field: Any) -> str:
    """The SQLite JSON path of a dotted field name."""
    if not isinstance(field, str) or not field or field.startswith("$"):
        raise InvalidInput(f"a filter field must be a name that does not start with '$', found {field!r}")
    if any(character in '"\\' or character < " " for character in field):
        raise InvalidInput(f"a field whose name holds a quote, a backslash or a control character: {field!r}")
    _check(field)
    return "$" + "".join(f'."{part}"' for part in field.split("."))


def _check(text: str) -> None:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"a filter holds a NUL or a lone surrogate, which no metadata can hold: {text!r}")


def _leaf(sql: str, parameters: list[Any]) -> Condition:
    return f"IFNULL({sql}, 0)", parameters  # a missing field is false, not NULL: NOT must turn it into true


def _not(condition: Condition) -> Condition:
    return f"NOT ({condition[0]})", condition[1]


def _all(conditions: list[Condition], joint: str = "AND") -> Condition:
    sql = f" {joint} ".join(f"({sql})" for sql, _ in conditions) or "1"
    return sql, [parameter for _, parameters in conditions for parameter in parameters]
