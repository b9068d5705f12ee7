"""Words: what people read, put together from what a tokenizer cut apart, and which answered which.

Pieces of one word touch each other, whatever marks a vocabulary puts on them, so their places in the text suffice.
A query word's similarity is the sum over its tokens: the words' similarities add up to the score, as the tokens' do.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..encoding.tokens import Span

__all__ = ["Answer", "QueryWord", "TextPiece", "Word", "query_words", "segments", "words_of"]

# Scripts written without spaces, where each character stands alone: kana, CJK ideographs and their supplements.
ALONE = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))


@dataclass(frozen=True, slots=True)
class Word:
    """A word and the tokens that spell it; a token without a place in the text is a word of its own."""

    text: str  # what stands in the text, or the token's spelling
    span: Span
    rows: tuple[int, ...]  # which of the tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryWord:
    """A word of the query, a marker, or all expansion tokens together: what it adds to the score, what it found."""

    text: str
    kind: str  # "text", "marker" or "expansion", as `Match.kind`
    rows: tuple[int, ...]  # which query tokens
    similarity: float  # the sum over its tokens
    found: tuple[tuple[str, int], ...]  # words of the document, each with how many of the tokens it answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A query word that a piece of the document answered."""

    word: int  # which of the query's words
    similarity: float  # the greatest among its tokens that are answered here


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """A piece of the document and the query words that it answered; most answer none."""

    text: str  # "" for a marker that answered something
    token: str  # that marker, else ""
    rows: tuple[int, ...]  # which document tokens spell it, none for what has no vector
    answers: tuple[Answer, ...]  # what the user wrote before markers and expansion, the closest first


def words_of(tokens: Sequence[str], spans: Sequence[Span], text: str | None) -> list[Word]:
    """The words of `tokens`, whose places are in `text`, in token order. Without a text every token is a word."""
    words: list[Word] = []
    for row, (token, span) in enumerate(zip(tokens, spans, strict=True)):
        place = None if text is None or span is None else _trimmed(text, span)
        last = words[-1] if words else None
        if text is None or place is None:
            words.append(Word(token, None, (row,)))
        elif last and last.span and _touch(text, last.span, place):
            whole = (last.span[0], max(last.span[1], place[1]))
            words[-1] = Word(text[slice(*whole)], whole, (*last.rows, row))
        else:
            words.append(Word(text[slice(*place)], place, (row,)))
    return words


def query_words(
    groups: Sequence[Word],
    kinds: Sequence[str],  # n_q
    rows: Sequence[int],  # n_q, the document token that answered
    similarities: Sequence[float],  # n_q
    document: Sequence[Word],
) -> list[QueryWord]:
    """The query's words in query order, all expansion tokens as one."""
    text_of = {row: word.text for word in document for row in word.rows}
    return [
        QueryWord(
            text=group.text,
            kind=kinds[group.rows[0]],
            rows=group.rows,
            similarity=sum(similarities[i] for i in group.rows),
            found=tuple(Counter(text_of[rows[i]] for i in group.rows).most_common()),
        )
        for group in groups
    ]


def segments(
    text: str,
    document: Sequence[Word],
    query: Sequence[QueryWord],
    rows: Sequence[int],  # n_q, the document token that answered
    similarities: Sequence[float],  # n_q
) -> list[TextPiece]:
    """The document in pieces whose texts, joined, are `text`; between them markers that answered something."""
    place, out = 0, []
    markers: list[TextPiece] = []  # those since the last word: they stand before the next one, or after the text
    for word in document:
        answers = _answers(word, query, rows, similarities)
        if word.span is None:
            markers += [TextPiece(text="", token=word.text, rows=word.rows, answers=answers)] if answers else []
            continue
        out += [*markers, *_plain(text[place : word.span[0]])]
        out.append(TextPiece(text=word.text, token="", rows=word.rows, answers=answers))
        place, markers = word.span[1], []
    return [*out, *_plain(text[place:]), *markers]


def _plain(text: str) -> list[TextPiece]:
    return [TextPiece(text=text, token="", rows=(), answers=())] if text else []


def _answers(
    word: Word, query: Sequence[QueryWord], rows: Sequence[int], similarities: Sequence[float]
) -> tuple[Answer, ...]:
    found = [
        Answer(word=number, similarity=max(mine))
        for number, asked in enumerate(query)
        if (mine := [similarities[i] for i in asked.rows if rows[i] in word.rows])
    ]
    return tuple(sorted(found, key=lambda a: (query[a.word].kind != "text", -a.similarity, a.word)))


def _trimmed(text: str, span: tuple[int, int]) -> Span:
    """A place without the spaces that some vocabularies count to a word; None when nothing is left."""
    piece = text[slice(*span)]
    start, end = span[0] + len(piece) - len(piece.lstrip()), span[0] + len(piece.rstrip())
    return (start, end) if start < end else None


def _touch(text: str, before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether two places belong to one word: they overlap, as pieces of one character do, or letters meet."""
    if after[0] < before[1]:
        return True
    return after[0] == before[1] and _joins(text[before[1] - 1 : after[0] + 1])


def _joins(meeting: Iterable[str]) -> bool:
    return all(c.isalnum() and not any(first <= ord(c) <= last for first, last in ALONE) for c in meeting)
