"""Metadata filters, compiled to SQL with bound parameters. The operators are those of MongoDB and of vector databases.

    {"year": {"$gte": 2020}, "lang": "en"}          all fields must match
    {"$or": [{"lang": "en"}, {"lang": "de"}]}       also $and; {"$not": {...}}
    {"author.name": "Ada"}                          a path into nested objects

The condition on a field is a value, which means equality, or a mapping of operators: $eq $ne $gt $gte $lt $lte $in $nin
$exists. A filter has at most 200 conditions, nested at most 20 deep. Put a long list of values into one $in, which has
no limit. A comparison holds only between values of one kind (number, text, true/false, null), so {"year": {"$gt": 3}}
never matches a text. $ne and $nin are the negations of $eq and $in: they also match where the field is missing.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InvalidInput

__all__ = ["compile_filter"]

Condition = tuple[str, list[Any]]

# Kind of a JSON value -> the SQL that tests a field's kind. `?` is the field's path.
KINDS = {
    "number": "json_type(metadata, ?) IN ('integer', 'real')",
    "text": "json_type(metadata, ?) = 'text'",
    "bool": "json_type(metadata, ?) IN ('true', 'false')",
    "null": "json_type(metadata, ?) = 'null'",
}
# Well below the limits of SQLite's parser.
MAX_CONDITIONS, MAX_FILTER_DEPTH = 200, 20
COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def compile_filter(where: Mapping[str, Any]) -> Condition:
    """Return an SQL condition over the column `metadata`, and its parameters. The filter {} matches everything.

    Raises `InvalidInput` for an unknown operator, a path that cannot be addressed, a value that is not a JSON scalar.

    >>> compile_filter({"lang": "en"})[1]
    ['$."lang"', '$."lang"', 'en']
    """
    condition = _filter(where, MAX_FILTER_DEPTH)
    if condition[0].count("?") > 2 * MAX_CONDITIONS:
        raise InvalidInput(
            f"a filter must have at most {MAX_CONDITIONS} conditions, found more; put values of a field into one $in"
        )
    return condition


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
        "$exists": lambda: _exists(path, operand),
        **{name: lambda sign=sign: _compare(path, sign, operand) for name, sign in COMPARISONS.items()},  # type: ignore[misc]
    }
    if operator not in table:
        raise InvalidInput(f"unknown filter operator {operator!r}; expected one of {', '.join(table)}, $and, $or, $not")
    return table[operator]()


def _compare(path: str, sign: str, operand: Any) -> Condition:
    kind = _kind(operand)
    if kind == "null":
        raise InvalidInput(f"{sign} must have a number, a text, true or false, found null; use $eq or $ne")
    return _leaf(f"{KINDS[kind]} AND json_extract(metadata, ?) {sign} ?", [path, path, operand])


def _equal(path: str, operand: Any) -> Condition:
    if _kind(operand) == "null":
        return _leaf(KINDS["null"], [path])
    return _compare(path, "=", operand)


def _in(path: str, operand: Any) -> Condition:
    """Return the condition that a field equals one of the values. Values of each kind are one bound parameter."""
    if not isinstance(operand, list | tuple | set | frozenset):
        raise InvalidInput(f"$in and $nin must have a list of values, found {operand!r}")
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
        raise InvalidInput(f"$exists must have true or false, found {operand!r}")
    return f"json_type(metadata, ?) IS {'NOT ' if operand else ''}NULL", [path]


def _kind(value: Any) -> str:
    """Return the key of KINDS for a value. Raises `InvalidInput` for a value that no metadata can equal."""
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
