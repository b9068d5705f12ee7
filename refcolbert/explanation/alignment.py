"""The alignment of a query with a document, by tokens (`Match`) and by the words of the two texts.

Each query token matches the document token that is most similar to it. A document word answers a query word if one of
its tokens is the match of one of the query word's tokens.

A tokenizer cuts a word into tokens. The tokens of one word touch each other in the text, whatever mark a vocabulary
puts on them (## or a space), so their places in the text suffice to join them again. The similarity of a query word is
the sum over its tokens. So the similarities of the words add up to the score, as the similarities of the tokens do.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..encoding.tokens import Span

__all__ = ["Answer", "Match", "QueryWord", "TextPiece", "Word", "query_words", "text_pieces", "words_of"]

# Scripts written without spaces, in which each character is a word: kana, CJK ideographs and their supplements.
ALONE = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One query token and the document token most similar to it (the first of equals)."""

    query_token: str
    kind: str  # "text": written by the user; "marker": added by the model, as [CLS] or a prompt; "expansion": [MASK]
    document_token: str
    document_row: int  # row of that token in the document's vectors
    similarity: float
    span: Span  # place of the document token in the text, None for a marker or where it is unknown
    text: str  # the text at that place, "" without a span


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its tokens. A token without a place in the text is a word of its own."""

    text: str  # from the text, or the token's spelling
    span: Span
    rows: tuple[int, ...]  # numbers of the tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryWord:
    """A word of the query, a marker, or all expansion tokens together, with its share of the score."""

    text: str
    kind: str  # "text", "marker" or "expansion", as `Match.kind`
    rows: tuple[int, ...]  # numbers of its query tokens
    similarity: float  # the sum over its tokens
    found: tuple[tuple[str, int], ...]  # (document word, number of this word's tokens that it matched), most first


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A query word that a piece of the document answers."""

    word: int  # number of the query word
    similarity: float  # the greatest similarity among its tokens whose match is in the piece


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """A piece of the document and the query words that it answers. Most pieces answer none."""

    text: str  # "" for a marker that answers a query word
    token: str  # that marker, else ""
    rows: tuple[int, ...]  # numbers of its document tokens, none for text without a vector
    answers: tuple[Answer, ...]  # words of the user first, markers and expansion last; each by similarity, best first


def words_of(tokens: Sequence[str], spans: Sequence[Span], text: str | None) -> list[Word]:
    """Return the words of `tokens` in token order. `spans` are the places of the tokens in `text`.

    Without a text every token is a word. Here the first three tokens touch, so they are one word:

        >>> spans = [(0, 4), (4, 6), (6, 8), (9, 11)]
        >>> [(word.text, word.rows) for word in words_of(["strp", "##ti", "##me", "is"], spans, "strptime is")]
        [('strptime', (0, 1, 2)), ('is', (3,))]
    """
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


def query_words(query: Sequence[Word], document: Sequence[Word], matches: Sequence[Match]) -> list[QueryWord]:
    """Return the query's words with their share of the score, in query order. `matches` has one match per token."""
    text_of = {row: word.text for word in document for row in word.rows}
    return [
        QueryWord(
            text=word.text,
            kind=matches[word.rows[0]].kind,
            rows=word.rows,
            similarity=sum(matches[i].similarity for i in word.rows),
            found=tuple(Counter(text_of[matches[i].document_row] for i in word.rows).most_common()),
        )
        for word in query
    ]


def text_pieces(
    text: str, document: Sequence[Word], query: Sequence[QueryWord], matches: Sequence[Match]
) -> list[TextPiece]:
    """Return the document in pieces whose texts join to `text`, and between them markers that answer a query word."""
    end = 0  # the end of the text that is in a piece already
    pieces: list[TextPiece] = []
    # Markers since the last word are kept back: text without a vector, such as a full stop, comes before them.
    markers: list[TextPiece] = []
    for word in document:
        answers = _answers(word, query, matches)
        if word.span is None:
            markers += [TextPiece(text="", token=word.text, rows=word.rows, answers=answers)] if answers else []
            continue
        pieces += [*markers, *_plain(text[end : word.span[0]])]
        pieces.append(TextPiece(text=word.text, token="", rows=word.rows, answers=answers))
        end, markers = word.span[1], []
    return [*pieces, *_plain(text[end:]), *markers]


def _plain(text: str) -> list[TextPiece]:
    return [TextPiece(text=text, token="", rows=(), answers=())] if text else []


def _answers(word: Word, query: Sequence[QueryWord], matches: Sequence[Match]) -> tuple[Answer, ...]:
    answers = []
    for number, query_word in enumerate(query):
        similarities = [matches[i].similarity for i in query_word.rows if matches[i].document_row in word.rows]
        if similarities:
            answers.append(Answer(word=number, similarity=max(similarities)))
    return tuple(sorted(answers, key=lambda a: (query[a.word].kind != "text", -a.similarity, a.word)))


def _trimmed(text: str, span: tuple[int, int]) -> Span:
    """Return a place without the spaces that some vocabularies include in a word; None for nothing but spaces."""
    piece = text[slice(*span)]
    start, end = span[0] + len(piece) - len(piece.lstrip()), span[0] + len(piece.rstrip())
    return (start, end) if start < end else None


def _touch(text: str, before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Return True if two places belong to one word: letters touch, or bytes of one character share its place."""
    if after[0] < before[1]:
        return True
    return after[0] == before[1] and _joins(text[before[1] - 1 : after[0] + 1])


def _joins(neighbours: Iterable[str]) -> bool:
    return all(c.isalnum() and not any(first <= ord(c) <= last for first, last in ALONE) for c in neighbours)
