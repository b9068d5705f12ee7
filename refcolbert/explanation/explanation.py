"""The explanation of a score: for each query token, the document token that it matched and its place in the text.

MaxSim is a sum of one maximum per query token, so the explanation is exact: the similarities of the matches add up to
the score. `Explanation.words` and `Explanation.segments` give the same for words, for a page or a terminal to show.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Floats
from ..encoding.tokens import Span
from ..engine.maxsim import pairwise_sum, similarities
from ..errors import InvalidInput
from .alignment import Match, QueryWord, TextPiece, Word, query_words, text_pieces, words_of
from .heatmap import heatmap
from .html import explanation_html
from .words import WordMatch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Explanation", "LabelledVectors", "Match", "explain"]

SHOWN_WORDS = 4  # of the document, per query word
UNUSED = re.compile(r"\[unused\d+\]")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledVectors:
    """The vectors of a query or a document, each with the token that it belongs to.

    Without `spans` no token has a place in the text. This is so for vectors that the caller computed.
    """

    vectors: Floats  # [n, dim]
    tokens: Sequence[str]  # n, the spelling of each token
    spans: Sequence[Span] | None = None  # n, the place of each token in `text`, None for markers and expansion
    text: str | None = None
    n_expansion: int = 0  # number of tokens at the end that are expansion

    @property
    def places(self) -> Sequence[Span]:
        """The span of each token, None where it has none: n of them."""
        return [None] * len(self.tokens) if self.spans is None else self.spans

    @property
    def kinds(self) -> list[str]:
        """The `Match.kind` of each token: n of them."""
        if self.spans is None:
            return ["text"] * len(self.tokens)
        framed = ["marker" if span is None else "text" for span in self.spans]
        return framed[: len(framed) - self.n_expansion] + ["expansion"] * self.n_expansion

    @property
    def words(self) -> list[Word]:
        """The words of the text in token order, all expansion tokens as one word."""
        n_own = len(self.tokens) - self.n_expansion
        words = words_of(self.tokens[:n_own], self.places[:n_own], self.text)
        expansion = tuple(range(n_own, len(self.tokens)))
        return words + ([Word(self.tokens[-1], None, expansion)] if expansion else [])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Explanation:
    """The explanation of one score: a match for every query token, and the same for words.

    `Hit.explain` makes one:

        >>> from refcolbert import rerank
        >>> (hit,) = rerank("parse dates", ["strptime parses a date."])
        >>> for word in hit.explain().words[2:4]:  # after the two markers
        ...     print(word.text, "->", word.found[0][0])
        parse -> parses
        dates -> date
    """

    score: float  # MaxSim, also in a hybrid search; 0 in a search by words
    matches: tuple[Match, ...]  # n_q, in query order; their similarities add up to `score`
    similarities: Floats  # [n_q, n_d]
    document_tokens: tuple[str, ...]  # n_d
    text: str | None
    words: tuple[QueryWord, ...]  # the query; their similarities add up to `score` too
    segments: tuple[TextPiece, ...]  # the document; their texts join to `text`
    shared_words: tuple[WordMatch, ...] = ()  # of a search by words: their scores add up to the BM25 score

    def __str__(self) -> str:
        """Return a table with one line per query word, marker and expansion, then one per shared word."""
        rows = [(_counted([(w.text, len(w.rows) if w.kind == "expansion" else 1)]), w) for w in self.words]
        width = max([len(label) for label, _ in rows] + [len(w.text) for w in self.shared_words], default=0)
        lines = [f"score {self.score:.4f}"] if self.matches else []
        lines += [f"{label:>{width}}  {w.similarity:6.3f}  {_counted(w.found[:SHOWN_WORDS])}" for label, w in rows]
        if self.shared_words:
            lines.append(f"words {sum(word.score for word in self.shared_words):.4f}")
            lines += [f"{w.text:>{width}}  {w.score:6.3f}  x{len(w.spans)}" for w in self.shared_words]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return explanation_html(self.score, self.words, self.segments, self.shared_words)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the similarities as a heatmap with the matches marked, on `ax` or new axes, and return the axes.

        Raises `MissingDependency` without matplotlib (extra `plot`), `InvalidInput` for a hit of a search by words.
        """
        if not self.matches:
            raise InvalidInput("expected the similarities of vectors, found a hit of a search by words; use 'hybrid'")
        rows = [match.document_row for match in self.matches]
        labels = [match.query_token for match in self.matches]
        return heatmap(self.similarities, labels, self.document_tokens, rows, f"score {self.score:.3f}", ax)

    def to_dict(self, *, matrix: bool = False) -> dict[str, Any]:
        """Return the explanation as plain JSON values.

        `matrix` adds `document_tokens` and `similarities` [n_q, n_d], rounded to four decimals.
        """
        values: dict[str, Any] = {
            "score": self.score,
            "matches": [asdict(match) for match in self.matches],
            "words": [asdict(word) for word in self.words],
            "segments": [asdict(segment) for segment in self.segments],
            "shared_words": [asdict(word) for word in self.shared_words],
        }
        if matrix:
            values["document_tokens"] = list(self.document_tokens)
            values["similarities"] = self.similarities.astype(np.float64).round(4).tolist()
        return values


def explain(query: LabelledVectors, document: LabelledVectors) -> Explanation:
    """Return the explanation of MaxSim(query.vectors, document.vectors).

    Both query tokens choose the first document token here, and "purr" adds nothing to the score:

        >>> q = np.array([[1, 0], [0.6, 0.8]], np.float32)  # [n_q, dim]
        >>> d = np.array([[0.8, 0.6], [0, 1]], np.float32)  # [n_d, dim]
        >>> print(explain(LabelledVectors(q, ["cat", "tail"]), LabelledVectors(d, ["cats", "purr"])))
        score 1.7600
         cat   0.800  cats
        tail   0.960  cats
    """
    canonical = similarities(query.vectors, document.vectors)  # [n_q, n_d]
    best = canonical.max(axis=1)  # [n_q]
    # argmax takes the first of equal maxima, so the matches are the same on every machine.
    rows: list[int] = canonical.argmax(axis=1).tolist()  # n_q
    places = document.places
    matches = tuple(
        Match(
            query_token=token,
            kind=kind,
            document_token=document.tokens[row],
            document_row=row,
            similarity=similarity,
            span=places[row],
            text=_text_at(document.text, places[row]),
        )
        for token, kind, row, similarity in zip(query.tokens, query.kinds, rows, best.tolist(), strict=True)
    )
    document_words = _with_marker(document.words, "[D]")
    words = query_words(_with_marker(query.words, "[Q]"), document_words, matches)
    return Explanation(
        score=float(pairwise_sum(best[None])[0]),
        matches=matches,
        similarities=canonical.astype(np.float32),
        document_tokens=tuple(document.tokens),
        text=document.text,
        words=tuple(words),
        segments=tuple(text_pieces(document.text or "", document_words, words, matches)),
    )


def _text_at(text: str | None, span: Span) -> str:
    return text[slice(*span)] if text is not None and span is not None else ""


def _counted(found: Sequence[tuple[str, int]]) -> str:
    return ", ".join(text if count == 1 else f"{text} x{count}" for text, count in found)


def _with_marker(words: Sequence[Word], marker: str) -> list[Word]:
    """Return the words with the paper's name of a marker for the unused token that a BERT vocabulary lends to it."""
    return [replace(w, text=marker) if w.span is None and UNUSED.fullmatch(w.text) else w for w in words]
