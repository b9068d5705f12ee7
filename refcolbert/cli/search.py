"""Verbs that answer a query."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..encoding.encoder import Encoder
from ..rerank import rerank
from .options import (
    CANDIDATES,
    EXACT,
    GROUP,
    HIT,
    INDEX,
    MIN_SCORE,
    MODE,
    MODEL,
    NPROBE,
    WHERE,
    K,
    json_option,
    open_with_model,
)
from .printing import colors, dump, printable, show_explanation, show_hits

__all__: list[str] = []  # the package registers every click command of this module


@click.command("search")
@INDEX
@click.argument("query")
@K
@MODE
@WHERE
@GROUP
@MIN_SCORE
@NPROBE
@CANDIDATES
@EXACT
@MODEL
@json_option(f"one object per line: {HIT}")
def search_command(index: Path | str, query: str, model: str | None, as_json: bool, **options: Any) -> None:
    """The K best documents of INDEX for QUERY. A terminal with colors shows the sentence of each that matches best."""
    with open_with_model(index, model) as opened:
        hits = opened.search(query, **options)
        show_hits(hits, as_json)
        if not hits:
            click.echo("note: no hits", err=True)


@click.command("rerank")
@click.argument("query")
@click.argument("texts", nargs=-1, required=True)
@K
@MODEL
@json_option(f"one object per line: {HIT}; id is the number of a text, from 0")
def rerank_command(query: str, texts: tuple[str, ...], k: int, model: str | None, as_json: bool) -> None:
    """Sort TEXTS by relevance to QUERY, without an index."""
    show_hits(rerank(query, texts, Encoder.load(model), k), as_json)


@click.command("explain")
@INDEX
@click.argument("query")
@click.option("--id", "document_id", help="The document to explain; default: the best one.")
@MODE
@MODEL
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Color the document's words like the query words that they matched; auto: on a terminal without NO_COLOR.",
)
@json_option("one object: id, score, parts, matches, shared_words")
def explain_command(
    index: Path | str, query: str, document_id: str | None, mode: str, model: str | None, color: str, as_json: bool
) -> None:
    """Show which words of QUERY a document matched. The document is the best one of INDEX, or that of --id."""
    with open_with_model(index, model) as opened:
        if document_id is not None:
            # Raises UnknownId: the search would return nothing.
            opened.get([document_id])
        hits = opened.search(query, 1, mode=mode, ids=None if document_id is None else [document_id])
        if mode == "words" and not hits:
            click.echo(f"note: no word of the query is in {document_id or 'any document'}", err=True)
        for hit in hits:
            explanation = hit.explain()
            if as_json:
                explained = explanation.to_dict()
                parts = {name: explained[name] for name in ("matches", "shared_words")}
                click.echo(dump({"id": hit.id, "score": hit.score, "parts": asdict(hit.parts), **parts}))
            else:
                click.echo(printable(hit.id))
                show_explanation(explanation, colors(color))
