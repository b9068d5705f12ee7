"""Hit: one answer of a search or a reranking."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import RefColbertError
from .explain import Explanation
from .markup import hit_html

__all__ = ["Hit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One document, as it answered one query."""

    rank: int  # 1 is the best
    score: float  # MaxSim of the query with the vectors that are held
    id: str
    text: str | None
    metadata: dict[str, Any]
    _explain: Callable[[], Explanation] = field(repr=False, compare=False)

    def explain(self) -> Explanation:
        """Which document token answered which query token. Computed when asked, from the same vectors as the score."""
        return self._explain()

    def _repr_html_(self) -> str:
        try:
            explained = self.explain()._repr_html_()
        except RefColbertError:  # the model is not here: a notebook still shows the hit
            explained = None
        return hit_html(self.rank, self.score, self.id, self.text or "", explained)
