"""What a user wants otherwise than the checkpoint says. Both paths through a checkpoint follow it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Choices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Both are left to the checkpoint unless given."""

    prompts: Mapping[str, str] = field(default_factory=dict)  # side ("query", "document") -> name of its prompt
    query_length: int | None = None  # where queries are cut; short ones are filled up to the checkpoint's length
