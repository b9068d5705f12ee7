"""Requests and answers as JSON: strict parsing, and the check of a request against its endpoint's schema."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from ..errors import InvalidInput
from .schemas import Schema, in_words, matches

__all__ = ["check_fields", "from_json", "from_query", "to_json"]

# Runs of plain characters are one step: a router sends base64 of tens of thousands.
STRINGS, BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL), re.compile(rb"[\[\]{}]")
MAX_JSON_DEPTH = 64  # a filter may not be deeper either
SHOWN_CHARACTERS = 80  # of a wrong value, in an error
FLAGS = {"true": True, "1": True, "false": False, "0": False}


def check_fields(parsed: Any, schema: Schema) -> dict[str, Any]:
    """The fields of `parsed` that are not null. Raises `InvalidInput` unless it is an object that matches `schema`."""
    fields, required = schema["properties"], schema["required"]
    names = ", ".join(name if name in required else f"{name} (optional)" for name in fields)
    if not isinstance(parsed, dict):
        raise InvalidInput(f"expected a JSON object with {names}, found {_short(parsed)}")
    for name in parsed:
        if name not in fields:
            raise InvalidInput(f"expected the fields {names}, found {_short(name)}; remove it")
    values = {name: value for name, value in parsed.items() if value is not None}
    for name, field in fields.items():
        if name not in values and name in required:
            raise InvalidInput(f"expected the field {name}, found none; add it: {field['description']}")
        if name in values and not matches(values[name], field):
            raise InvalidInput(f"{name}: expected {in_words(field)}, found {_short(values[name])}")
    return values


def from_json(body: bytes) -> Any:
    """The value of JSON in UTF-8. Raises `InvalidInput` for repeated names, NaN, Infinity and lone surrogates."""
    try:
        _check_depth(body)
        parsed = json.loads(body.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
        # A lone surrogate can only come from an escape.
        if b"\\u" in body:
            json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"expected strict JSON in UTF-8: {error}") from error
    return parsed


def from_query(query_string: bytes, schema: Schema, names: Mapping[str, str]) -> dict[str, Any]:
    """The fields in a URL's query string; `names` maps names in the URL to fields. Raises `InvalidInput`."""
    fields = schema["properties"]
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=len(fields)
        )
        texts = _without_duplicates([(names.get(name, name), text) for name, text in pairs])
        return {name: _read(text, fields[name]) if name in fields else text for name, text in texts.items()}
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the parameters of the URL cannot be read: {error}") from error


def to_json(value: Any) -> bytes:
    """JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _read(text: str, field: Schema) -> Any:
    """The value of a field as it is written in a URL. Raises `InvalidInput`."""
    kind = field.get("type")
    if kind in ("array", "object"):
        return from_json(text.encode())
    # A text that is not such a value stays a text, which `check_fields` refuses.
    if kind == "boolean":
        return FLAGS.get(text, text)
    with suppress(ValueError):
        return {"integer": int, "number": float}.get(str(kind), str)(text)
    return text


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name is repeated")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check_depth(body: bytes) -> None:
    """Raise `ValueError` for JSON that is nested too deeply, before any code recurses over it."""
    depth = 0
    for bracket in BRACKETS.finditer(STRINGS.sub(b"", body)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} levels deep")


def _short(value: Any) -> str:
    """The beginning of a wrong value: a body may be a megabyte."""
    sized = isinstance(value, str | list)
    shown = repr(value[:SHOWN_CHARACTERS]) if sized else repr(value)
    if len(shown) <= SHOWN_CHARACTERS:
        return shown
    size = f" ({len(value):,} {'characters' if isinstance(value, str) else 'items'})" if sized else ""
    return f"{shown[:SHOWN_CHARACTERS]}...{size}"
