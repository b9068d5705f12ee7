"""Hits and explanations as HTML for notebooks: styles inside the elements, no script, every text escaped."""

from collections.abc import Sequence
from html import escape

from .alignment import QueryWord, TextPiece
from .words import WordMatch, shared_parts

__all__ = ["PALETTE", "color_of", "explanation_html", "hit_html", "strength"]

# One color per query word; after the last color comes the first again. Colors are laid over the page, light enough
# for text to stay readable in bright and dark themes.
PALETTE = (
    (59, 130, 246),
    (245, 158, 11),
    (34, 170, 90),
    (236, 72, 153),
    (139, 92, 246),
    (6, 182, 212),
    (239, 68, 68),
    (132, 160, 22),
)
SHARED = "text-decoration:underline 2px;text-underline-offset:.2em"
GREY = (128, 128, 128)
MAX_OPACITY = 0.5  # at similarity 1
CARD = "border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:.6em .8em;margin:.4em 0;max-width:60em"
TEXT = "line-height:1.7;max-height:16em;overflow:auto;overflow-wrap:anywhere;white-space:pre-wrap"


def color_of(words: Sequence[QueryWord], number: int) -> int | None:
    """Return the number of a query word's color in `PALETTE`; None for markers and expansion, which share grey."""
    if words[number].kind != "text":
        return None
    return sum(word.kind == "text" for word in words[:number]) % len(PALETTE)


def strength(similarity: float) -> float:
    """Return the depth of a color for a similarity, 0 to 1.

    The square spreads the similarities of matches, which lie close together near 1.
    """
    return min(max(similarity, 0.0), 1.0) ** 2


def explanation_html(
    score: float, words: Sequence[QueryWord], segments: Sequence[TextPiece], shared_words: Sequence[WordMatch] = ()
) -> str:
    """Return the query's words with their shares of the score, and the document in the colors of the query words.

    Below the query's words are the shared words with their shares of BM25. They are underlined in the document.
    """
    sums = ""
    if words:
        sums += _sum(" ".join(_query_word(words, number) for number in range(len(words))), score)
    if shared_words:
        shares = " ".join(f"{_shared(escape(word.text))} <small>{word.score:.2f}</small>" for word in shared_words)
        sums += _sum(shares, sum(word.score for word in shared_words))
    text = ""
    for segment, parts in zip(segments, shared_parts(segments, shared_words), strict=True):
        shown = "".join(_shared(escape(part)) if shared else escape(part) for part, shared in parts)
        text += _text_piece(words, segment, shown)
    return f'<div style="{CARD}">{sums}<div dir="auto" style="{TEXT}">{text}</div></div>'


def hit_html(rank: int, score: float, name: str, text: str, explained: str | None) -> str:
    """Return one hit: rank, id, score, and the explanation's HTML, or the bare text without one."""
    body = explained or f'<div dir="auto" style="{CARD};{TEXT}">{escape(text)}</div>'
    return f"<div><div><b>{rank}.</b> <b>{escape(name)}</b> · {score:.3f}</div>{body}</div>"


def _sum(shares: str, total: float) -> str:
    return f'<div style="line-height:1.8">{shares} = <b>{total:.3f}</b></div>'


def _shared(shown: str) -> str:
    return f'<b style="{SHARED}">{shown}</b>'


def _query_word(words: Sequence[QueryWord], number: int) -> str:
    word = words[number]
    count = f" ×{len(word.rows)}" if word.kind == "expansion" else ""
    label = f"{escape(word.text)}{count} <small>{word.similarity:.2f}</small>"
    found = ", ".join(text if n == 1 else f"{text} ×{n}" for text, n in word.found)
    return _mark(label, color_of(words, number), word.similarity / len(word.rows), f"{word.text} → {found}")


def _text_piece(words: Sequence[QueryWord], segment: TextPiece, shown: str) -> str:
    shown = shown or escape(segment.token)
    if not segment.answers:
        return shown
    if segment.token:
        shown = f"<small>{shown}</small>"
    best = segment.answers[0]
    title = ", ".join(f"{words[a.word].text} {a.similarity:.2f}" for a in segment.answers)
    return _mark(shown, color_of(words, best.word), best.similarity, title)


def _mark(shown: str, color: int | None, similarity: float, title: str) -> str:
    red, green, blue = GREY if color is None else PALETTE[color]
    depth = MAX_OPACITY * strength(similarity)
    style = (
        f"background:rgba({red},{green},{blue},{depth:.2f});border-bottom:2px solid rgb({red},{green},{blue});"
        "border-radius:3px;padding:0 .15em"
    )
    return f'<span style="{style}" title="{escape(title)}">{shown}</span>'
