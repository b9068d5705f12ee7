"""What the command line prints: answers, explanations, tables; JSON where a program reads it."""

import json
import logging
from collections import Counter
from itertools import groupby
from typing import Any

import click

from .explain import Explanation
from .hits import Hit
from .index import Index
from .tune import Tuning

__all__ = ["curve", "dump", "shorten", "show_hits", "show_warnings", "summary", "table"]


def summary(opened: Index) -> None:
    """One line: how much an index holds."""
    found = opened.info()
    click.echo(
        f"{found['path']}: {found['documents']:,} documents, {found['tokens']:,} token vectors, "
        f"{found['bytes']:,} bytes"
    )


def show_hits(hits: list[Hit], as_json: bool) -> None:
    """One line a hit."""
    for hit in hits:
        if as_json:
            click.echo(dump({name: getattr(hit, name) for name in ("rank", "score", "id", "text", "metadata")}))
        else:
            click.echo(f"{hit.rank:>3}  {hit.score:8.4f}  {hit.id}  {shorten(hit.text or '')}")


def table(explanation: Explanation) -> str:
    """One line a query token: similarity, a bar of that length, the document's word; expansion tokens on one line."""
    lines = []
    for token, run in groupby(explanation.matches, key=lambda match: match.query_token):
        matches = list(run)
        similarity = sum(match.similarity for match in matches) / len(matches)
        words = Counter(match.text or match.document_token for match in matches)
        found = ", ".join(word if count == 1 else f"{word} x{count}" for word, count in words.most_common(4))
        label = token if len(matches) == 1 else f"{token} x{len(matches)}"
        lines.append(f"{label:>16}  {similarity:6.3f} {'#' * max(round(20 * similarity), 0):20} {found}")
    return "\n".join([*lines, f"{'sum':>16} {explanation.score:7.3f}"])


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
