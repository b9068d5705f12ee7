"""What the command line prints: answers, explanations, tables; JSON where a program reads it."""

import json
import logging
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ..evaluation.tune import Tuning
from ..explanation.alignment import QueryWord, TextPiece
from ..explanation.explanation import Explanation
from ..explanation.html import color_of
from ..hits import Hit
from ..index import Index

__all__ = [
    "colors",
    "curve",
    "dump",
    "fields",
    "pairs",
    "printable",
    "shorten",
    "show_explanation",
    "show_hits",
    "show_warnings",
    "summary",
    "table",
]

INKS = (33, 172, 35, 205, 99, 37, 203, 106)  # `markup.PALETTE` among a terminal's 256, to read on black and on white
GREY = 245
CLOSE = 0.75  # similarity from which a word is bold


def summary(opened: Index, as_json: bool = False) -> None:
    """One line: how much an index holds, or in JSON all that is known of it."""
    found = opened.info()
    text = (
        f"{found['path']}: {found['documents']:,} documents, {found['tokens']:,} token vectors, "
        f"{found['bytes']:,} bytes"
    )
    click.echo(dump(found) if as_json else text)


def pairs(found: Mapping[str, Any]) -> str:
    """One line a name and its value; a mapping's values in one line."""
    width = max(map(len, found))
    return "\n".join(f"{name:{width}}  {_value(value)}" for name, value in found.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return "-" if value is None else f"{value:,}" if type(value) is int else printable(str(value))


def fields(hit: Hit) -> dict[str, Any]:
    """A hit as JSON holds it."""
    return {name: getattr(hit, name) for name in ("rank", "score", "id", "text", "metadata")}


def show_hits(hits: list[Hit], as_json: bool) -> None:
    """One line a hit."""
    for hit in hits:
        if as_json:
            click.echo(dump(fields(hit)))
        else:
            click.echo(f"{hit.rank:>3}  {hit.score:8.4f}  {printable(hit.id)}  {shorten(printable(hit.text or ''))}")


def colors(choice: str = "auto") -> bool:
    """Whether to print in color: "always", "never", or "auto": to a terminal, unless NO_COLOR or TERM=dumb says no."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not plain)


def show_explanation(explanation: Explanation, colored: bool) -> None:
    """The table; in color also the text, each word in the color of the query word that it answered."""
    click.echo(table(explanation, colored), color=colored)
    if colored:
        inks = [_ink(explanation.words, number) for number in range(len(explanation.words))]
        text = "".join(_painted(segment, inks) for segment in explanation.segments)
        click.echo(f"\n{text}", color=True)


def table(explanation: Explanation, colored: bool = False) -> str:
    """One line a query word: what it adds to the score, a bar of its tokens' mean, the document's words."""
    lines = []
    for number, word in enumerate(explanation.words):
        label = word.text if word.kind != "expansion" else f"{word.text} x{len(word.rows)}"
        found = ", ".join(text if count == 1 else f"{text} x{count}" for text, count in word.found[:4])
        bar = "#" * max(round(20 * word.similarity / len(word.rows)), 0)
        cells = [f"{printable(label):>16}", f"{bar:20}"]
        if colored:
            cells = [click.style(cell, fg=_ink(explanation.words, number)) for cell in cells]
        lines.append(f"{cells[0]}  {word.similarity:6.3f} {cells[1]} {printable(found)}")
    return "\n".join([*lines, f"{'sum':>16} {explanation.score:7.3f}"])


def printable(text: str) -> str:
    """A text that cannot command the terminal: control characters but tab and newline become U+FFFD."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\t\n" else c for c in text)


def _ink(words: Sequence[QueryWord], number: int) -> int:
    color = color_of(words, number)
    return GREY if color is None else INKS[color]


def _painted(segment: TextPiece, inks: Sequence[int]) -> str:
    text = printable(segment.text)
    if not segment.answers:
        return text
    best = segment.answers[0]
    return click.style(
        text or f" {printable(segment.token)} ",
        fg=inks[best.word],
        bold=best.similarity >= CLOSE,
        underline=bool(text),
    )


def dump(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False)


def shorten(text: str, width: int = 90) -> str:
    """A text on one line of at most `width` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 3] + "..."


def curve(tuning: Tuning) -> str:
    """Recall and latency of each setting, and which one to take."""
    lines = [f"{'nprobe':>6} {'candidates':>10} {f'recall@{tuning.k}':>10} {'p50 ms':>7} {'p95 ms':>7}"]
    for s in tuning.settings:
        mark = "  <-" if s == tuning.recommended else ""
        lines.append(f"{s.nprobe:>6} {s.candidates:>10} {s.recall:>10.3f} {s.p50:>7.1f} {s.p95:>7.1f}{mark}")
    lines.append(f"{'exact':>6} {'all':>10} {1:>10.3f} {tuning.exact_p50:>7.1f}")
    best = tuning.recommended
    if best is None:
        advice = f"no setting reached {tuning.target}; search with exact=True"
    else:
        advice = f"for recall@{tuning.k} >= {tuning.target}: nprobe={best.nprobe}, candidates={best.candidates}"
    return "\n".join([*lines, f"{advice} ({tuning.n_queries} queries)"])


class _Warnings(logging.Handler):
    """The library's warnings, on stderr as it is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


def show_warnings() -> None:
    """From now on the library's warnings appear on stderr."""
    log = logging.getLogger("refcolbert")
    if not any(isinstance(handler, _Warnings) for handler in log.handlers):
        log.addHandler(_Warnings(logging.WARNING))
