"""Settings with which the user replaces the checkpoint's. The export and the parity reference both follow them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Choices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Without a value the checkpoint's own setting holds."""

    prompts: Mapping[str, str] = field(default_factory=dict)  # side ("query", "document") -> name of its prompt
    query_length: int | None = None  # where queries are cut; short ones are filled to the checkpoint's length
    language: str | None = None  # whose adapter an XMOD uses, which has one per language
    document_length: int | None = None  # where documents are cut, not after the checkpoint's length
