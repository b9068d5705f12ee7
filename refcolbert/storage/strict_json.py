"""Strict JSON: a file is read only if it holds exactly what a table of rules allows. No I/O happens here.

An object has the keys of its table, no other and none twice, and each value obeys its rule. Whatever else it is, is
refused as a `CorruptIndexError` that says where, what was expected and what was found.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import CorruptIndexError

__all__ = ["Rule", "anything", "corrupt", "count", "is_size", "is_text", "obey", "parse"]

Rule = Callable[[Any], bool]
ROOM = 2**62  # above any count, below what int64 arithmetic could overflow
LONGEST_TEXT = 4096


def parse(data: bytes, where: str) -> Any:
    """JSON in UTF-8 without repeated keys, NaN or infinity, of bounded depth."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    except (ValueError, RecursionError) as error:
        raise corrupt(where, "strict JSON", error) from error


def obey(parsed: Any, rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    """`parsed`, an object that obeys `rules`."""
    if not isinstance(parsed, dict) or set(parsed) != set(rules):
        raise corrupt(where, f"an object with exactly the keys {sorted(rules)}", parsed)
    for key, rule in rules.items():
        if not rule(parsed[key]):
            raise corrupt(f"{where}: {key}", "a value that the format allows", parsed[key])
    return parsed


def count(least: int = 0, most: int = ROOM) -> Rule:
    """An integer between two others, which true and 1.0 are not."""
    return lambda value: type(value) is int and least <= value <= most


def anything(value: Any) -> bool:
    """For a value that is looked at elsewhere."""
    return True


def is_text(value: Any) -> bool:
    """Text of bounded length that UTF-8 can hold."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)


def is_size(value: Any) -> bool:
    """A finite number, not negative."""
    return type(value) in (int, float) and 0 <= value <= sys.float_info.max


def corrupt(where: str, expected: str, found: Any) -> CorruptIndexError:
    """The error, with no more than a little of what was found."""
    shown = repr(found)
    shown = shown if len(shown) <= 200 else shown[:200] + "..."
    return CorruptIndexError(f"{where}: expected {expected}, found {shown}; restore the index from a copy")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
