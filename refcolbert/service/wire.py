"""What goes over the wire: strict JSON in, checked field by field against one table; hits out.

The tables of fields say what a request may hold. The OpenAPI document is made from the same tables.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from ..errors import InvalidInput
from ..hits import Hit

__all__ = [
    "Field",
    "choice",
    "flag",
    "from_json",
    "from_query",
    "hit_json",
    "listed",
    "mapping",
    "obey",
    "query",
    "text",
    "texts",
    "whole",
]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request: the JSON Schema that it obeys, whether it must be there, and its reader from a URL."""

    schema: Mapping[str, Any]
    check: Callable[[Any], bool]
    required: bool = False
    read: Callable[[str], Any] = str  # from a URL's text; ValueError where it cannot be one

    @property
    def about(self) -> str:
        """What it means."""
        return str(self.schema["description"])


def obey(found: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """`found`, an object with these fields and no other, less those that are null. Raises `InvalidInput`."""
    if not isinstance(found, dict):
        raise InvalidInput(f"the request must be a JSON object with {_names(fields)}, found {_short(found)}")
    for name in found:
        if name not in fields:
            raise InvalidInput(f"unknown field {_short(name)}; expected {_names(fields)}")
    given = {name: value for name, value in found.items() if value is not None}
    for name, entry in fields.items():
        if name not in given and entry.required:
            raise InvalidInput(f"{name} is missing: {entry.about}")
        if name in given and not entry.check(given[name]):
            raise InvalidInput(f"{name} is not what it must be, found {_short(given[name])}: {entry.about}")
    return given


def from_json(body: bytes) -> Any:
    """JSON in UTF-8 without repeated keys, NaN, infinity or lone surrogates. Raises `InvalidInput`."""
    try:
        found = json.loads(
            body.decode(),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if b"\\u" in body:  # only an escape can bring a lone surrogate
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the request is not strict JSON in UTF-8: {error}") from error
    return found


def from_query(text: bytes, fields: Mapping[str, Field], names: Mapping[str, str]) -> dict[str, Any]:
    """The fields in a URL's query string; `names` are other names for them there. Raises `InvalidInput`."""
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64)
        found = _no_duplicates([(names.get(name, name), value) for name, value in pairs])
        return {name: fields[name].read(value) if name in fields else value for name, value in found.items()}
    except (ValueError, InvalidInput) as error:
        raise InvalidInput(f"the URL's parameters cannot be read: {error}") from error


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit as a JSON object."""
    return {"rank": hit.rank, "score": hit.score, "id": hit.id, "text": hit.text, "metadata": hit.metadata}


def whole(most: int, about: str) -> Field:
    """An integer from 1 to `most`."""
    schema = {"type": "integer", "minimum": 1, "maximum": most, "description": about}
    return Field(schema, lambda value: type(value) is int and 1 <= value <= most, read=int)


def flag(about: str) -> Field:
    """True or false."""
    return Field({"type": "boolean", "description": about}, lambda value: type(value) is bool, read=_read_flag)


def text(most: int, about: str, *, required: bool = True) -> Field:
    """Text of at most so many characters."""
    schema = {"type": "string", "maxLength": most, "description": about}
    return Field(schema, lambda value: is_text(value, most), required)


def texts(most: int, characters: int, about: str, *, required: bool = True) -> Field:
    """A list of texts."""
    schema = {
        "type": "array",
        "items": {"type": "string", "maxLength": characters},
        "maxItems": most,
        "description": about,
    }
    return Field(schema, lambda value: is_list(value, most) and all(is_text(v, characters) for v in value), required)


def query(characters: int, about: str, *, required: bool = True) -> Field:
    """Text, or vectors as a list of lists of numbers, all of one length."""
    numbers = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    schema = {"oneOf": [{"type": "string", "maxLength": characters}, numbers], "description": about}
    return Field(schema, lambda value: is_text(value, characters) or is_matrix(value), required)


def listed(entry: Field, most: int, about: str) -> Field:
    """A list, each of whose items obeys `entry`."""
    schema = {"type": "array", "items": dict(entry.schema), "maxItems": most, "description": about}
    return Field(schema, lambda value: is_list(value, most) and all(entry.check(v) for v in value), required=True)


def choice(values: Sequence[str], about: str) -> Field:
    """One of some words."""
    schema = {"type": "string", "enum": list(values), "description": about}
    return Field(schema, lambda value: isinstance(value, str) and value in values)


def mapping(about: str) -> Field:
    """A JSON object."""
    schema = {"type": "object", "description": about}
    return Field(schema, lambda value: isinstance(value, dict), read=lambda value: from_json(value.encode()))


def is_text(value: Any, most: int) -> bool:
    """Whether it is text of at most so many characters."""
    return isinstance(value, str) and len(value) <= most


def is_list(value: Any, most: int) -> bool:
    """Whether it is a list of at most so many things."""
    return isinstance(value, list) and len(value) <= most


def is_matrix(value: Any) -> bool:
    """Whether it is a list of lists of numbers, which true is not, all of one length."""
    return (
        isinstance(value, list)
        and all(isinstance(row, list) and len(row) == len(value[0]) for row in value)
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
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def _names(fields: Mapping[str, Field]) -> str:
    return ", ".join(name if entry.required else f"{name} (optional)" for name, entry in fields.items())


def _short(value: Any) -> str:
    """A little of what was found; never a whole body."""
    shown = repr(value) if not isinstance(value, str) else repr(value[:80])
    return shown if len(shown) <= 80 else shown[:80] + "..."
