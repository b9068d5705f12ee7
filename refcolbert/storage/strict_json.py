"""Strict JSON: only what a table of rules allows is accepted. This module does no I/O.

An object must have the keys of its table, no other key, and no key twice, and each value must obey its rule. Anything
else raises `CorruptIndexError`, which says where, what was expected and what was found.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import CorruptIndexError

__all__ = ["Rule", "anything", "corrupt", "count", "is_size", "is_text", "obey", "parse", "seal", "unseal"]

Rule = Callable[[Any], bool]
MAX_COUNT = 2**62  # more than any real count, and int64 arithmetic cannot overflow below it
MAX_TEXT_LENGTH = 4096
SHOWN_CHARACTERS = 200  # of a wrong value, in an error message


def seal(values: Mapping[str, Any]) -> bytes:
    """Return a JSON object and its SHA-256 as two parts of one file. Equal values give equal bytes."""
    body = json.dumps(values, sort_keys=True, indent=1, allow_nan=False).encode()
    return body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"


def unseal(data: bytes, where: str, most: int) -> Any:
    """Return what `seal` wrote, parsed. Raises `CorruptIndexError` for other bytes, and for more than `most`."""
    body, _, trailer = data.removesuffix(b"\n").rpartition(b"\n")
    digest = hashlib.sha256(body).hexdigest()
    if len(data) > most or not data.endswith(b"\n") or trailer != digest.encode():
        raise CorruptIndexError(
            f"{where}: expected at most {most} bytes with the SHA-256 {digest} as the last line, "
            f"found {len(data)} bytes and {trailer[:64]!r}; the index is damaged: restore it from a copy"
        )
    return parse(body, where)


def parse(data: bytes, where: str) -> Any:
    """Parse JSON in UTF-8. Raises `CorruptIndexError` for repeated keys, NaN, infinity and too deep nesting."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except (ValueError, RecursionError) as error:
        raise corrupt(where, "strict JSON", error) from error


def obey(parsed: Any, rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    """Return `parsed` if it is an object that obeys `rules`. Raises `CorruptIndexError` naming the wrong key."""
    if not isinstance(parsed, dict) or set(parsed) != set(rules):
        raise corrupt(where, f"an object with exactly the keys {sorted(rules)}", parsed)
    for key, rule in rules.items():
        if not rule(parsed[key]):
            raise corrupt(f"{where}: {key}", "a value that the format allows", parsed[key])
    return parsed


def count(least: int = 0, most: int = MAX_COUNT) -> Rule:
    """Return the rule for integers from `least` to `most`. It refuses true and 1.0."""
    return lambda value: type(value) is int and least <= value <= most


def anything(value: Any) -> bool:
    """Accept any value: the rule for values that are checked elsewhere."""
    return True


def is_text(value: Any) -> bool:
    """Return True for a text of at most 4096 characters that UTF-8 can encode."""
    return (
        isinstance(value, str) and len(value) <= MAX_TEXT_LENGTH and not any("\ud800" <= c <= "\udfff" for c in value)
    )


def is_size(value: Any) -> bool:
    """Return True for a finite number >= 0."""
    return type(value) in (int, float) and 0 <= value <= sys.float_info.max


def corrupt(where: str, expected: str, found: Any) -> CorruptIndexError:
    """Return the error for a wrong value, with the beginning of that value."""
    shown = repr(found)
    shown = shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "..."
    return CorruptIndexError(f"{where}: expected {expected}, found {shown}; restore the index from a copy")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError("a key is repeated")
    return parsed


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
