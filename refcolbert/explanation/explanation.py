"""Why a document matched: which of its tokens answered which query token, and where they stand in the text.

MaxSim is a sum of one maximum a query token, so the explanation is exact: the similarities of the matches add up to
the score. `Explanation.words` and `Explanation.segments` say it in words, for whoever draws it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Floats
from ..encoding.tokens import Span
from ..engine.maxsim import pairwise_sum, similarities
from .alignment import QueryWord, TextPiece, Word, query_words, segments, words_of
from .heatmap import heatmap
from .html import explanation_html

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Explanation", "Match", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One query token and the document token that answered it best (the first of equals)."""

    query_token: str
    kind: str  # "text": what the user wrote; "marker": what frames it, a prompt too; "expansion": [MASK]
    document_token: str
    document_row: int  # which of the document's vectors
    similarity: float
    span: Span  # its place in the document's text, None for a marker or unknown
    text: str  # what stands there, "" without a span


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Explanation:
    """The matches of every query token, in query order; their similarities add up to `score`."""

    score: float
    matches: tuple[Match, ...]  # n_q
    similarities: Floats  # [n_q, n_d]
    document_tokens: tuple[str, ...]  # n_d
    text: str | None
    words: tuple[QueryWord, ...]  # the query, its similarities add up to `score` too
    segments: tuple[TextPiece, ...]  # the document, whose texts joined are `text`

    def __str__(self) -> str:
        """A table, one query token a line."""
        width = max(len(m.query_token) for m in self.matches)
        lines = [f"{m.query_token:>{width}}  {m.similarity:6.3f}  {m.document_token}{_place(m)}" for m in self.matches]
        return "\n".join([f"score {self.score:.4f}", *lines])

    def _repr_html_(self) -> str:
        return explanation_html(self.score, self.words, self.segments)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the similarities as a heatmap with the matches marked, on `ax` or new axes, and return the axes.

        Raises `MissingDependency` without matplotlib (extra `plot`).
        """
        rows = [match.document_row for match in self.matches]
        labels = [match.query_token for match in self.matches]
        return heatmap(self.similarities, labels, self.document_tokens, rows, f"score {self.score:.3f}", ax)

    def to_dict(self, *, matrix: bool = False) -> dict[str, Any]:
        """What JSON can hold of it; with `matrix` also `similarities` [n_q, n_d], rounded to four decimals."""
        found: dict[str, Any] = {
            "score": self.score,
            "matches": [asdict(match) for match in self.matches],
            "words": [asdict(word) for word in self.words],
            "segments": [asdict(segment) for segment in self.segments],
        }
        if matrix:
            found["document_tokens"] = list(self.document_tokens)
            found["similarities"] = self.similarities.astype(np.float64).round(4).tolist()
        return found


def explain(
    q: Floats,  # [n_q, dim]
    d: Floats,  # [n_d, dim]
    query_tokens: Sequence[str],  # n_q
    document_tokens: Sequence[str],  # n_d
    spans: Sequence[Span],  # n_d
    text: str | None,
    *,
    query: str | None = None,
    query_spans: Sequence[Span] | None = None,  # n_q, places in `query`
    n_expansion: int = 0,  # how many query tokens at the end are expansion
) -> Explanation:
    """Explain MaxSim(q, d). Without `query_spans` every query token is a word, as ready-made vectors are.

    Raises nothing of its own: lengths are the caller's to keep.
    """
    canonical = similarities(q, d)  # [n_q, n_d]
    rows: list[int] = canonical.argmax(axis=1).tolist()  # n_q
    best: list[float] = canonical.max(axis=1).tolist()  # n_q
    kinds = _kinds(len(q), query_spans, n_expansion)
    answered = zip(query_tokens, kinds, rows, best, strict=True)
    matches = tuple(_match(*one, document_tokens[one[2]], spans[one[2]], text) for one in answered)
    groups = _groups(query_tokens, query_spans, query, n_expansion)
    document = words_of(document_tokens, spans, text)
    words = query_words(groups, kinds, rows, best, document)
    return Explanation(
        score=float(pairwise_sum(canonical.max(axis=1)[None])[0]),
        matches=matches,
        similarities=canonical.astype(np.float32),
        document_tokens=tuple(document_tokens),
        text=text,
        words=tuple(words),
        segments=tuple(segments(text or "", document, words, rows, best)),
    )


def _kinds(n_q: int, spans: Sequence[Span] | None, n_expansion: int) -> list[str]:
    if spans is None:
        return ["text"] * n_q
    return ["marker" if span is None else "text" for span in spans[: n_q - n_expansion]] + ["expansion"] * n_expansion


def _groups(tokens: Sequence[str], spans: Sequence[Span] | None, query: str | None, n_expansion: int) -> list[Word]:
    """The query's words, all expansion tokens as one."""
    n_own = len(tokens) - n_expansion
    groups = words_of(tokens[:n_own], [None] * n_own if spans is None else spans[:n_own], query)
    return groups + ([Word(tokens[-1], None, tuple(range(n_own, len(tokens))))] if n_expansion else [])


def _match(
    query_token: str, kind: str, row: int, similarity: float, document_token: str, span: Span, text: str | None
) -> Match:
    return Match(
        query_token=query_token,
        kind=kind,
        document_token=document_token,
        document_row=row,
        similarity=similarity,
        span=span,
        text=text[slice(*span)] if text is not None and span is not None else "",
    )


def _place(match: Match) -> str:
    return f"  at {match.span[0]}:{match.span[1]} {match.text!r}" if match.span else ""
