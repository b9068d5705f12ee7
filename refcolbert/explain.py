"""Why a document matched: which of its tokens answered which query token, and where they stand in the text.

MaxSim is a sum of one maximum a query token, so the explanation is exact: the similarities of the matches add up to
the score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tokens import Span

__all__ = ["Explanation", "Match", "explain"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One query token and the document token that answered it best (the first of equals)."""

    query_token: str
    document_token: str
    document_row: int  # which of the document's vectors
    similarity: float
    span: Span  # its place in the document's text, None for a marker or unknown
    text: str  # what stands there, "" without a span


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The matches of every query token, in query order; their similarities add up to `score`."""

    score: float
    matches: tuple[Match, ...]  # n_q
    similarities: Floats  # [n_q, n_d]

    def __str__(self) -> str:
        """A table, one query token a line."""
        width = max(len(m.query_token) for m in self.matches)
        lines = [f"{m.query_token:>{width}}  {m.similarity:6.3f}  {m.document_token}{_place(m)}" for m in self.matches]
        return "\n".join([f"score {self.score:.4f}", *lines])


def explain(
    q: Floats,  # [n_q, dim]
    d: Floats,  # [n_d, dim]
    query_tokens: Sequence[str],  # n_q
    document_tokens: Sequence[str],  # n_d
    spans: Sequence[Span],  # n_d
    text: str | None,
) -> Explanation:
    """Explain MaxSim(q, d). Raises nothing of its own: lengths are the caller's to keep."""
    similarities = q.astype(np.float64) @ d.astype(np.float64).T  # [n_q, n_d]
    rows = similarities.argmax(axis=1)  # [n_q]
    matches = tuple(
        Match(
            query_token=token,
            document_token=document_tokens[row],
            document_row=int(row),
            similarity=float(similarities[i, row]),
            span=spans[row],
            text=text[slice(*spans[row])] if text is not None and spans[row] is not None else "",
        )
        for i, (token, row) in enumerate(zip(query_tokens, rows, strict=True))
    )
    return Explanation(float(similarities.max(axis=1).sum()), matches, similarities.astype(np.float32))


def _place(match: Any) -> str:
    return f"  at {match.span[0]}:{match.span[1]} {match.text!r}" if match.span else ""
