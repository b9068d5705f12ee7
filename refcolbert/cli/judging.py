"""Verbs that measure answers."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path

import click

from ..evaluate import METRICS, evaluate, read_qrels, read_queries, run_of, write_run
from ..terminal import curve, dump
from ..tune import N_QUERIES, tune
from .options import EXACT, INDEX, MODEL, K, json_option, open_index

__all__ = ["evaluate_index", "tune_index"]


@click.command("eval")
@INDEX
@click.option(
    "--queries", required=True, type=click.Path(exists=True, path_type=Path), help="BEIR queries.jsonl or TSV."
)
@click.option("--qrels", required=True, type=click.Path(exists=True, path_type=Path), help="BEIR or TREC judgements.")
@click.option("--metric", "metrics", multiple=True, default=METRICS, show_default=True, help="An ir-measures name.")
@click.option("--run", "run_file", type=click.Path(path_type=Path), help="Write the answers as a TREC run.")
@click.option("-k", default=100, show_default=True, help="Depth of the run.")
@EXACT
@MODEL
@json_option("...")
def evaluate_index(
    index: Path,
    queries: Path,
    qrels: Path,
    metrics: tuple[str, ...],
    run_file: Path | None,
    k: int,
    exact: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """Run judged QUERIES on INDEX and print metrics."""
    judged = read_qrels(qrels)
    texts = {name: text for name, text in read_queries(queries).items() if name in judged}
    with open_index(index, model) as opened:
        run = run_of(list(texts), opened.search_many(list(texts.values()), k, exact=exact))
    if run_file:
        write_run(run, run_file)
    found = evaluate(run, judged, metrics)
    click.echo(dump(found) if as_json else "\n".join(f"{name:10} {value:.4f}" for name, value in found.items()))


@click.command("tune")
@INDEX
@click.option("--queries", type=click.Path(exists=True, path_type=Path), help="Real ones; else sentences are drawn.")
@click.option("--target", default=0.95, show_default=True, help="Recall of the exact answer that is wanted.")
@click.option("--sample", "n_queries", default=N_QUERIES, show_default=True, help="How many queries at most.")
@K
@MODEL
@json_option("...")
def tune_index(
    index: Path, queries: Path | None, target: float, n_queries: int, k: int, model: str | None, as_json: bool
) -> None:
    """Measure recall and latency of searches in INDEX, and recommend nprobe and candidates."""
    texts = None if queries is None else list(islice(read_queries(queries).values(), n_queries))
    with open_index(index, model) as opened:
        found = tune(opened, texts, k=k, target=target, n_queries=n_queries)
    click.echo(dump(asdict(found)) if as_json else curve(found))
