"""Verbs that answer a query."""

from dataclasses import asdict
from pathlib import Path

import click

from ..encoder import Encoder
from ..rerank import rerank as rerank_texts
from ..terminal import dump, show_hits, table
from .options import CANDIDATES, EXACT, INDEX, MODEL, NPROBE, WHERE, K, json_option, open_index, parsed_json

__all__ = ["explain", "rerank", "search"]


@click.command()
@INDEX
@click.argument("query")
@K
@WHERE
@NPROBE
@CANDIDATES
@EXACT
@MODEL
@json_option("...")
def search(
    index: Path,
    query: str,
    k: int,
    where: str | None,
    nprobe: int | None,
    candidates: int | None,
    exact: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """The K best documents of INDEX for QUERY."""
    with open_index(index, model) as opened:
        hits = opened.search(query, k, where=parsed_json(where), nprobe=nprobe, candidates=candidates, exact=exact)
    show_hits(hits, as_json)


@click.command()
@click.argument("query")
@click.argument("texts", nargs=-1, required=True)
@K
@MODEL
@json_option("...")
def rerank(query: str, texts: tuple[str, ...], k: int, model: str | None, as_json: bool) -> None:
    """Sort TEXTS by how well they answer QUERY; no index involved."""
    show_hits(rerank_texts(query, texts, Encoder.load(model), k), as_json)


@click.command()
@INDEX
@click.argument("query")
@click.option("--id", "document_id", help="Which document; default: the best one.")
@MODEL
@json_option("...")
def explain(index: Path, query: str, document_id: str | None, model: str | None, as_json: bool) -> None:
    """Which document token of INDEX answered which token of QUERY."""
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
                click.echo(f"{hit.id}\n{table(explanation)}")
