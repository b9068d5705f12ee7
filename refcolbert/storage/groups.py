"""Groups: the passages of one document, which are returned as one answer, and replaced and deleted together.

A group is named by a metadata key. A document's group is the text or number that its metadata have at this key; 2024
and "2024" name one group. If they have neither there, the document is a group of its own, named by its id.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import InvalidInput, UnknownId
from .generation import Generation, Place

__all__ = ["check_key", "group_of", "group_places", "members"]


def group_of(document_id: str, metadata: Mapping[str, Any], key: str) -> str:
    """Return the name of the group of a document.

    >>> group_of("guide@2", {"passage_of": "guide"}, "passage_of")
    'guide'
    >>> group_of("notes", {}, "passage_of"), group_of("report", {"year": 2024}, "year")
    ('notes', '2024')
    """
    name = metadata.get(key)
    if isinstance(name, int | float) and not isinstance(name, bool):
        return json.dumps(name)
    return name if isinstance(name, str) else document_id


def members(generation: Generation, groups: Iterable[str], key: str) -> dict[str, list[Place]]:
    """Return the places of the live documents of each of these groups. A group without any is left out.

    A document can be in a group by its metadata or by its id, so both are looked up.
    """
    check_key(key)
    wanted = set(groups)
    values = [*wanted, *(number for name in wanted if (number := _number(name)) is not None)]
    places: dict[str, list[Place]] = {}
    for i, stored in enumerate(generation.stored):
        by_id = stored.documents.rows(list(wanted)).values()
        rows = sorted({*by_id, *stored.documents.matching({key: {"$in": values}}).tolist()})
        for row, document in zip(rows, stored.documents.get(rows), strict=True):
            group = group_of(document.id, document.metadata, key)
            if group in wanted and stored.segment.live[row]:
                places.setdefault(group, []).append((i, row))
    return places


def group_places(generation: Generation, groups: Sequence[str], key: str) -> list[Place]:
    """Return the places of all live documents of these groups. Raises `UnknownId` for a group that has none."""
    by_group = members(generation, groups, key)
    missing = [name for name in groups if name not in by_group]
    if missing:
        raise UnknownId(f"{len(missing)} of {len(groups)} groups are not in the index, the first is {missing[0]!r}")
    return [place for places in by_group.values() for place in places]


def _number(name: str) -> float | None:
    """Return the number that a group is named by, or None."""
    try:
        number = json.loads(name)
    except ValueError:
        return None
    return number if type(number) in (int, float) and math.isfinite(number) and json.dumps(number) == name else None


def check_key(key: Any) -> None:
    """Raise `InvalidInput` unless `key` can name groups."""
    if not isinstance(key, str) or not key or "." in key:
        raise InvalidInput(f"group_by must be a metadata key without dots, found {key!r}")
