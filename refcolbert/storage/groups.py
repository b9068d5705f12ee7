"""Grouping: passages of one document counted as one answer, and replaced and deleted together.

A document's group is the text that its metadata hold at a key, or, where they hold none, its own id.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import InvalidInput, UnknownId
from .generation import Generation

__all__ = ["check_key", "group_of", "group_places", "members"]

Place = tuple[int, int]  # segment, row


def group_of(document_id: str, metadata: Mapping[str, Any], key: str) -> str:
    """Which group a document belongs to."""
    name = metadata.get(key)
    return name if isinstance(name, str) else document_id


def members(generation: Generation, groups: Iterable[str], key: str) -> dict[str, list[Place]]:
    """Where the live documents of each of these groups are; a group of none is left out."""
    check_key(key)
    wanted = set(groups)
    found: dict[str, list[Place]] = {}
    for i, stored in enumerate(generation.stored):
        named = stored.documents.rows(list(wanted)).values()
        rows = sorted({*named, *stored.documents.matching({key: {"$in": list(wanted)}}).tolist()})
        for row, document in zip(rows, stored.documents.get(rows), strict=True):
            group = group_of(document.id, document.metadata, key)
            if group in wanted and stored.segment.live[row]:
                found.setdefault(group, []).append((i, row))
    return found


def group_places(generation: Generation, groups: Sequence[str], key: str) -> list[Place]:
    """Where the live documents of these groups are. Raises `UnknownId` naming a group of none."""
    found = members(generation, groups, key)
    missing = [name for name in groups if name not in found]
    if missing:
        raise UnknownId(f"{len(missing)} of {len(groups)} groups are not in the index, the first is {missing[0]!r}")
    return [place for places in found.values() for place in places]


def check_key(key: Any) -> None:
    """Raise `InvalidInput` unless documents can be grouped by this."""
    if not isinstance(key, str) or not key or "." in key:
        raise InvalidInput(f"group_by must be a metadata key without dots, found {key!r}")
