"""The output of verbs: hits, explanations and tables for people, JSON for programs."""

import json
import logging
import os
import re
import sys
import unicodedata
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from itertools import pairwise, repeat
from typing import Any

import click

from ..evaluation.no_answer import MAX_LOST, Thresholds
from ..evaluation.tune import Tuning
from ..explanation.alignment import QueryWord, TextPiece
from ..explanation.explanation import Explanation
from ..explanation.html import color_of, strength
from ..explanation.words import shared_parts
from ..hits import Hit, shorten
from ..reading import IndexReader

__all__ = [
    "colors",
    "counted",
    "curve",
    "dump",
    "hide_warnings",
    "in_shell_terms",
    "pairs",
    "printable",
    "show_explanation",
    "show_hits",
    "show_warnings",
    "summary",
    "table",
    "threshold_table",
]

# The library's errors and warnings give advice for Python; here it names verbs and options.
ADVICE = {
    "Index.create": "`refcolbert index`",
    "Encoder.load(path)": "--model PATH",
    "use upsert": "use --upsert",
    "call reencode(encoder)": "use `refcolbert reencode`",
    "call reencode(Encoder.load())": "use `refcolbert reencode`",
    "call reencode(Encoder.load('small'))": "use `refcolbert reencode INDEX small`",
    "call refresh() to see which": "`refcolbert info` shows which",
    "check() names": "`refcolbert check` names",
    "compact(refit=True)": "`refcolbert compact --refit`",
    "compact(words='porter')": "`refcolbert compact --words porter`",
    "create(..., words='porter')": "`refcolbert index --words porter`",
    "words=None": "--words none",
    "nbits='float32'": "--nbits float32",
    ": pass vectors, not texts": "; only Python can search it, with vectors",
}

# `explanation.html.PALETTE` among the 256 colors of a terminal, readable on black and on white
INKS = (33, 172, 35, 205, 99, 37, 203, 106)
GREY = 245
BOLD_SIMILARITY = 0.75
# Between two sentences, paragraphs, items of a list or rows of a table
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n|\n(?=\s*[-*|#>])")
LONGEST_SENTENCE = 240


def summary(opened: IndexReader, as_json: bool = False) -> None:
    """Print the size of an index in one line, or `Index.info` as JSON."""
    info = opened.info()
    documents = counted(info["documents"], "document")
    text = f"{info['path']}: {documents}, {info['tokens']:,} token vectors, {info['bytes']:,} bytes"
    click.echo(dump(info) if as_json else text)


def counted(n: int, noun: str) -> str:
    """A number with its noun, in the plural if it is not 1."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def pairs(values: Mapping[str, Any]) -> str:
    """One line per name and value; the values of an inner mapping share a line."""
    width = max(map(len, values))
    return "\n".join(f"{name:{width}}  {in_shell_terms(_value(value))}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return "-" if value is None else f"{value:,}" if type(value) is int else printable(str(value))


def show_hits(hits: list[Hit], as_json: bool) -> None:
    """Print one line per hit. In a hybrid search it has both parts beside the score.

    In color, the title is there in place of the text, and below it the sentence that matches best.
    """
    colored = colors()
    for hit in hits:
        late, words = hit.parts.late, hit.parts.words
        both = "" if late is None or words is None else f"late {late:7.3f}  words {words:7.3f}  "
        start = f"{hit.rank:>3}  {hit.score:8.4f}  {both}"
        if as_json:
            click.echo(dump(hit.to_dict()))
        elif colored:
            title, sentence = _matching(hit.explain(), str(hit.metadata.get("title") or ""))
            click.echo(f"{start}{click.style(printable(hit.id), bold=True)}  {title}\n     {sentence}")
        else:
            click.echo(f"{start}{printable(hit.id)}  {shorten(printable(hit.text or ''))}")


def colors(choice: str = "auto") -> bool:
    """True if output is colored: "always", "never", or "auto": on a terminal without NO_COLOR and TERM=dumb."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not plain)


def show_explanation(explanation: Explanation, colored: bool) -> None:
    """Print the table; in color also the text, with each word in the color of the query word that it matched.

    Shared words are reversed.
    """
    click.echo(table(explanation, colored), color=colored)
    if colored:
        inks = [_ink(explanation.words, number) for number in range(len(explanation.words))]
        parts = shared_parts(explanation.segments, explanation.shared_words)
        text = "".join(map(_painted, explanation.segments, parts, repeat(inks)))
        click.echo(f"\n{text}", color=True)


def table(explanation: Explanation, colored: bool = False) -> str:
    """One line per query word: its share of the score, a bar of its mean similarity, the matched words.

    Then, of a search with words, one line per shared word: its share of BM25, a bar of it, the places in the document.
    """
    lines = []
    for number, word in enumerate(explanation.words):
        label = word.text if word.kind != "expansion" else f"{word.text} x{len(word.rows)}"
        matched = _counted(word.found)
        bar = "#" * max(round(20 * word.similarity / len(word.rows)), 0)
        cells = [f"{printable(label):>16}", f"{bar:20}"]
        if colored:
            cells = [click.style(cell, fg=_ink(explanation.words, number)) for cell in cells]
        lines.append(f"{cells[0]}  {word.similarity:6.3f} {cells[1]} {matched}")
    if explanation.words:
        lines.append(f"{'sum':>16} {explanation.score:7.3f}")
    total = sum(shared.score for shared in explanation.shared_words)
    for shared in explanation.shared_words:
        places = [(explanation.text or "")[slice(*span)] for span in shared.spans if span]
        bar = "#" * round(20 * shared.score / total)
        label = printable(shared.text)
        lines.append(f"{label:>16}  {shared.score:6.3f} {bar:20} {_counted(Counter(places).most_common())}".rstrip())
    if explanation.shared_words:
        lines.append(f"{'sum of words':>16} {total:7.3f}")
    return "\n".join(lines)


def _counted(found: Sequence[tuple[str, int]]) -> str:
    """The first words of a document, each with its count."""
    return printable(", ".join(text if count == 1 else f"{text} x{count}" for text, count in found[:4]))


def printable(text: str) -> str:
    """The text with U+FFFD for control characters except tab and newline, which could send commands to a terminal."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\t\n" else c for c in text)


def _ink(words: Sequence[QueryWord], number: int) -> int:
    color = color_of(words, number)
    return GREY if color is None else INKS[color]


def _painted(segment: TextPiece, parts: Sequence[tuple[str, bool]], inks: Sequence[int]) -> str:
    style: dict[str, Any] = {}
    if segment.answers:
        best = segment.answers[0]
        bold = best.similarity >= BOLD_SIMILARITY
        style = {"fg": inks[best.word], "bold": bold, "underline": bool(segment.text)}
    if segment.token:
        return click.style(f" {printable(segment.token)} ", **style)
    return "".join(
        click.style(printable(text), **style, reverse=shared or None) if style or shared else printable(text)
        for text, shared in parts
    )


def _matching(explanation: Explanation, title: str) -> tuple[str, str]:
    """Return the title in front of the text, and the sentence after it that matches the query's own words best.

    Both are painted. The title is "" if the text does not begin with it.
    """
    text = explanation.text or ""
    after = re.match(rf"{re.escape(title)}[\s:]*", text)
    starts = _sentence_starts(text, after.end() if after else 0)
    pieces: list[TextPiece] = []
    numbers: list[int] = []  # of the sentence of each piece, from 1; 0: the title
    at = 0
    for segment in (segment for segment in explanation.segments if segment.text):
        end = at + len(segment.text)
        own = tuple(answer for answer in segment.answers if explanation.words[answer.word].kind == "text")
        for first, last in pairwise([at, *(start for start in starts if at < start < end), end]):
            pieces.append(replace(segment, text=segment.text[first - at : last - at], answers=own))
            numbers.append(bisect(starts, first))
        at = end
    parts = shared_parts(pieces, explanation.shared_words)
    worth: defaultdict[int, float] = defaultdict(float)
    for number, piece, own_parts in zip(numbers, pieces, parts, strict=True):
        best = max((answer.similarity for answer in piece.answers), default=0.0)
        worth[number] += strength(best) + sum(shared for _, shared in own_parts)
    chosen = max(range(1, len(starts) + 1), key=lambda number: worth[number])
    inks = [_ink(explanation.words, number) for number in range(len(explanation.words))]
    shown = {0: "", chosen: ""}
    for number, piece, own_parts in zip(numbers, pieces, parts, strict=True):
        if number in shown:
            shown[number] += _painted(piece, [(re.sub(r"\s+", " ", text), shared) for text, shared in own_parts], inks)
    return shown[0].rstrip(": "), shown[chosen].strip()


def _sentence_starts(text: str, begin: int) -> list[int]:
    """Return where the sentences of a text start from `begin` on; a long one is cut between words."""
    ends = [match.end() for match in SENTENCE_END.finditer(text, begin)]
    starts = [begin]
    for end in [*ends, len(text)]:
        while end - starts[-1] > LONGEST_SENTENCE:
            # 0: there is no space.
            space = text.rfind(" ", starts[-1], starts[-1] + LONGEST_SENTENCE) + 1
            starts.append(space or starts[-1] + LONGEST_SENTENCE)
        starts.append(end)
    return starts


def dump(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False)


def curve(tuning: Tuning) -> str:
    """A table of recall and latency per setting, and the recommended setting."""
    lines = [f"{'nprobe':>6} {'candidates':>10} {f'recall@{tuning.k}':>10} {'p50 ms':>7} {'p95 ms':>7}"]
    for s in tuning.settings:
        mark = "  <-" if s == tuning.recommended else ""
        lines.append(f"{s.nprobe:>6} {s.candidates:>10} {s.recall:>10.3f} {s.p50:>7.1f} {s.p95:>7.1f}{mark}")
    lines.append(f"{'exact':>6} {'all':>10} {1:>10.3f} {tuning.exact_p50:>7.1f}")
    best = tuning.recommended
    if best is None:
        advice = f"no setting reached {tuning.target}; search with --exact"
    else:
        advice = f"for recall@{tuning.k} >= {tuning.target}: nprobe={best.nprobe}, candidates={best.candidates}"
    return "\n".join([*lines, f"{advice} ({tuning.n_queries} queries)"])


def threshold_table(thresholds: Thresholds) -> str:
    """The highest thresholds that lose up to some shares of the answered queries, and the recommended one: a table."""
    best = thresholds.recommended
    last = {s: [t for t in thresholds.curve if t.lost <= s][-1] for s in (0, 0.01, 0.02, MAX_LOST, 0.1, 0.2, 0.5)}
    lines = [f"{'min-score':>9} {'answered lost':>14} {'unanswered refused':>19}"]
    for t in sorted({*last.values(), best}, key=lambda t: t.min_score):
        mark = "  <-" if t == best else ""
        lines.append(f"{_rounded_down(t.min_score):>9} {t.lost:>14.1%} {t.refused:>19.1%}{mark}")
    counts = f"{thresholds.n_answered} queries with an answer, {thresholds.n_unanswered} without"
    lines.append(f"separation {thresholds.separation:.3f} ({counts})")
    return "\n".join([*lines, f"for at most {MAX_LOST:.0%} lost: --min-score {_rounded_down(best.min_score)}"])


def _rounded_down(threshold: float) -> Decimal:
    """A threshold with three decimals. Rounded up, it would refuse the query whose similarity it is."""
    return Decimal(threshold).quantize(Decimal("0.001"), ROUND_FLOOR)


def in_shell_terms(message: str) -> str:
    """A message with verbs and options of the shell for methods of Python."""
    for for_python, for_shell in ADVICE.items():
        message = message.replace(for_python, for_shell)
    return message


class _Warnings(logging.Handler):
    """Prints the library's warnings to the current stderr, which tests replace."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        click.echo(f"{record.levelname.lower()}: {in_shell_terms(record.getMessage())}", err=True)


def show_warnings() -> None:
    """Print the library's warnings on stderr."""
    log = logging.getLogger("refcolbert")
    if not any(isinstance(handler, _Warnings) for handler in log.handlers):
        log.addHandler(_Warnings(logging.WARNING))


def hide_warnings() -> None:
    """Stop printing them, in a program that has a log."""
    log = logging.getLogger("refcolbert")
    for handler in [handler for handler in log.handlers if isinstance(handler, _Warnings)]:
        log.removeHandler(handler)
