"""Hits and explanations as HTML for notebooks: styles stand in the elements, no script, every text escaped."""

from collections.abc import Sequence
from html import escape

from .alignment import QueryWord, TextPiece

__all__ = ["PALETTE", "color_of", "explanation_html", "hit_html", "strength"]

# One color a query word, again from the first after the last. Laid over a page thinly enough to read text on.
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
GREY = (128, 128, 128)
DEEPEST = 0.5  # opacity at similarity 1
CARD = "border:1px solid rgba(128,128,128,.35);border-radius:6px;padding:.6em .8em;margin:.4em 0;max-width:60em"
TEXT = "line-height:1.7;max-height:16em;overflow:auto;overflow-wrap:anywhere;white-space:pre-wrap"


def color_of(words: Sequence[QueryWord], number: int) -> int | None:
    """Which color of `PALETTE` a query word has: they go round; None for markers and expansion, which share grey."""
    if words[number].kind != "text":
        return None
    return sum(word.kind == "text" for word in words[:number]) % len(PALETTE)


def strength(similarity: float) -> float:
    """A similarity as the depth of a color, 0 to 1: squared, for those of matches lie close together."""
    return min(max(similarity, 0.0), 1.0) ** 2


def explanation_html(score: float, words: Sequence[QueryWord], segments: Sequence[TextPiece]) -> str:
    """The query's words with what each adds to the score, and the document's text colored by what it answered."""
    asked = " ".join(_asked(words, number) for number in range(len(words)))
    text = "".join(_answered(words, segment) for segment in segments)
    sums = f'<div style="line-height:1.8">{asked} = <b>{score:.3f}</b></div>'
    return f'<div style="{CARD}">{sums}<div dir="auto" style="{TEXT}">{text}</div></div>'


def hit_html(rank: int, score: float, name: str, text: str, explained: str | None) -> str:
    """One hit: rank, score, id, and its explanation, or its bare text where there is none."""
    body = explained or f'<div dir="auto" style="{CARD};{TEXT}">{escape(text)}</div>'
    return f"<div><div><b>{rank}.</b> <b>{escape(name)}</b> · {score:.3f}</div>{body}</div>"


def _asked(words: Sequence[QueryWord], number: int) -> str:
    word = words[number]
    count = f" ×{len(word.rows)}" if word.kind == "expansion" else ""
    label = f"{escape(word.text)}{count} <small>{word.similarity:.2f}</small>"
    found = ", ".join(text if n == 1 else f"{text} ×{n}" for text, n in word.found)
    return _mark(label, color_of(words, number), word.similarity / len(word.rows), f"{word.text} → {found}")


def _answered(words: Sequence[QueryWord], segment: TextPiece) -> str:
    shown = escape(segment.text or segment.token)
    if not segment.answers:
        return shown
    if segment.token:
        shown = f"<small>{shown}</small>"
    best = segment.answers[0]
    title = ", ".join(f"{words[a.word].text} {a.similarity:.2f}" for a in segment.answers)
    return _mark(shown, color_of(words, best.word), best.similarity, title)


def _mark(shown: str, color: int | None, similarity: float, title: str) -> str:
    red, green, blue = GREY if color is None else PALETTE[color]
    depth = DEEPEST * strength(similarity)
    style = (
        f"background:rgba({red},{green},{blue},{depth:.2f});border-bottom:2px solid rgb({red},{green},{blue});"
        "border-radius:3px;padding:0 .15em"
    )
    return f'<span style="{style}" title="{escape(title)}">{shown}</span>'
