"""What goes over the wire: strict JSON, held field by field to a table from which the OpenAPI document is made too."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from ..errors import InvalidInput

__all__ = [
    "Field",
    "choice",
    "document",
    "document_text",
    "flag",
    "from_json",
    "from_query",
    "listed",
    "mapping",
    "obey",
    "query",
    "text",
    "to_json",
    "whole",
]

STRINGS, BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL), re.compile(rb"[\[\]{}]")
DEEPEST = 64  # brackets within brackets; a filter takes no more
SHOWN = 80  # characters of what was found that an error repeats


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request: its JSON Schema, whether a value obeys it, whether it must be there."""

    schema: Mapping[str, Any]
    check: Callable[[Any], bool]
    required: bool = False
    read: Callable[[str], Any] = str  # its value from a URL's text; ValueError where that cannot be one

    @property
    def about(self) -> str:
        """What it means."""
        return str(self.schema["description"])


# ---- requests


def obey(found: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """`found`, an object with these fields and no other, less those that are null. Raises `InvalidInput`."""
    if not isinstance(found, dict):
        raise InvalidInput(f"expected a JSON object with {_names(fields)}, found {_short(found)}")
    for name in found:
        if name not in fields:
            raise InvalidInput(f"unknown field {_short(name)}; expected {_names(fields)}")
    given = {name: value for name, value in found.items() if value is not None}
    for name, entry in fields.items():
        if name not in given and entry.required:
            raise InvalidInput(f"{name} is missing: {entry.about}")
        if name in given and not entry.check(given[name]):
            raise InvalidInput(f"{name}: expected {_rule(entry)}, found {_short(given[name])}")
    return given


def from_json(body: bytes) -> Any:
    """JSON in UTF-8 without repeated names, NaN, infinity or lone surrogates. Raises `InvalidInput`."""
    try:
        _check_depth(body)
        found = json.loads(
            body.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
        if b"\\u" in body:  # only an escape brings a lone surrogate
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not strict JSON in UTF-8: {error}") from error
    return found


def from_query(text: bytes, fields: Mapping[str, Field], names: Mapping[str, str]) -> dict[str, Any]:
    """The fields in a URL's query string; `names` are other names for them there. Raises `InvalidInput`."""
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=len(fields))
        found = _no_duplicates([(names.get(name, name), value) for name, value in pairs])
        return {name: fields[name].read(value) if name in fields else value for name, value in found.items()}
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the URL's parameters cannot be read: {error}") from error


# ---- answers


def to_json(value: Any) -> bytes:
    """JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


# ---- kinds of fields


def whole(most: int, about: str) -> Field:
    """An integer from 1 to `most`, which true and 1.0 are not."""
    schema = {"type": "integer", "minimum": 1, "maximum": most, "description": about}
    return Field(schema, lambda value: type(value) is int and 1 <= value <= most, read=int)


def flag(about: str) -> Field:
    """True or false."""
    return Field({"type": "boolean", "description": about}, lambda value: type(value) is bool, read=_read_flag)


def text(most: int, about: str, *, required: bool = True) -> Field:
    """Text of at most so many characters."""
    schema = {"type": "string", "maxLength": most, "description": about}
    return Field(schema, lambda value: isinstance(value, str) and len(value) <= most, required)


def query(characters: int, vectors: int, about: str) -> Field:
    """Text, or vectors as so many rows of numbers at most, all of one length."""
    words = text(characters, "Text.")
    row = {"type": "array", "items": {"type": "number"}, "minItems": 1}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": vectors}
    return Field(
        {"oneOf": [words.schema, rows], "description": about},
        lambda value: words.check(value) or _is_matrix(value, vectors),
        True,
    )


def listed(entry: Field, most: int, about: str, *, required: bool = True) -> Field:
    """A list of at most so many, each of which obeys `entry`."""
    schema = {"type": "array", "items": entry.schema, "maxItems": most, "description": about}
    return Field(
        schema,
        lambda value: isinstance(value, list) and len(value) <= most and all(map(entry.check, value)),
        required,
        read=lambda value: from_json(value.encode()),
    )


def choice(values: Sequence[str], about: str) -> Field:
    """One of some words."""
    schema = {"type": "string", "enum": list(values), "description": about}
    return Field(schema, lambda value: isinstance(value, str) and value in values)


def mapping(about: str) -> Field:
    """A JSON object."""
    schema = {"type": "object", "description": about}
    return Field(schema, lambda value: isinstance(value, dict), read=lambda value: from_json(value.encode()))


def document(most: int) -> Field:
    """A text, or an object with one and nothing else."""
    plain = text(most, "A text.")
    schema = {
        "type": "object",
        "properties": {"text": plain.schema},
        "required": ["text"],
        "additionalProperties": False,
    }
    return Field(
        {"oneOf": [plain.schema, schema], "description": "A text, or an object with one."},
        lambda value: plain.check(document_text(value)),
    )


def document_text(given: Any) -> Any:
    """The text in what `document` allows."""
    return given["text"] if isinstance(given, dict) and set(given) == {"text"} else given


# ---- inside


def _is_matrix(value: Any, most: int) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= most
        and all(isinstance(row, list) and len(row) == len(value[0]) > 0 for row in value)
        and all(type(number) in (int, float) for row in value for number in row)
    )


def _read_flag(value: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if value not in known:
        raise ValueError(f"expected true or false, found {_short(value)}")
    return known[value]


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:SHOWN]} is too large")
    return value


def _check_depth(body: bytes) -> None:
    """Refuse what is nested too deep before anything recurses over it."""
    depth = 0
    for bracket in BRACKETS.finditer(STRINGS.sub(b"", body)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")


def _names(fields: Mapping[str, Field]) -> str:
    return ", ".join(name if entry.required else f"{name} (optional)" for name, entry in fields.items())


def _rule(entry: Field) -> str:
    return json.dumps({name: value for name, value in entry.schema.items() if name != "description"})


def _short(value: Any) -> str:
    """A little of what was found, never a whole body."""
    shown = repr(value[:SHOWN]) if isinstance(value, str | list) else repr(value)
    return shown if len(shown) <= SHOWN else shown[:SHOWN] + "..."
