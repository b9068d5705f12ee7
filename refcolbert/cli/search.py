"""Verbs that answer a query."""

from dataclasses import asdict
from pathlib import Path

import click

from ..corpus.readers import PASSAGE_OF
from ..encoding.encoder import Encoder
from ..rerank import rerank as rerank_texts
from .options import CANDIDATES, EXACT, GROUP, HIT, INDEX, MODEL, NPROBE, WHERE, K, json_option, open_index, parsed_json
from .printing import colors, dump, printable, show_explanation, show_hits

__all__ = ["explain", "rerank", "search"]


@click.command()
@INDEX
@click.argument("query")
@K
@WHERE
@GROUP
@NPROBE
@CANDIDATES
@EXACT
@MODEL
@json_option(f"an object a line: {HIT}")
def search(
    index: Path,
    query: str,
    k: int,
    where: str | None,
    group: bool,
    nprobe: int | None,
    candidates: int | None,
    exact: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """The K best documents of INDEX for QUERY."""
    with open_index(index, model) as opened:
        hits = opened.search(
            query,
            k,
            where=parsed_json(where),
            group_by=PASSAGE_OF if group else None,
            nprobe=nprobe,
            candidates=candidates,
            exact=exact,
        )
    show_hits(hits, as_json)


@click.command()
@click.argument("query")
@click.argument("texts", nargs=-1, required=True)
@K
@MODEL
@json_option(f"an object a line: {HIT}; id is the number of a text")
def rerank(query: str, texts: tuple[str, ...], k: int, model: str | None, as_json: bool) -> None:
    """Sort TEXTS by how well they answer QUERY; no index involved."""
    show_hits(rerank_texts(query, texts, Encoder.load(model), k), as_json)


@click.command()
@INDEX
@click.argument("query")
@click.option("--id", "document_id", help="Which document; default: the best one.")
@MODEL
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Color the document's words by what they answered; auto: on a terminal without NO_COLOR.",
)
@json_option("one object: id, score, matches")
def explain(index: Path, query: str, document_id: str | None, model: str | None, color: str, as_json: bool) -> None:
    """Which word of a document of INDEX answered which word of QUERY."""
    with open_index(index, model) as opened:
        if document_id is not None:
            opened.get([document_id])  # an id that is not there is an error, not an empty answer
        hits = opened.search(query, 1, ids=None if document_id is None else [document_id])
        for hit in hits:
            explanation = hit.explain()
            if as_json:
                click.echo(
                    dump({"id": hit.id, "score": hit.score, "matches": [asdict(m) for m in explanation.matches]})
                )
            else:
                click.echo(printable(hit.id))
                show_explanation(explanation, colors(color))
