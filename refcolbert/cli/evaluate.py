"""Verbs that measure the quality of answers."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ..evaluation.metrics import Run, evaluate, per_query, read_qrels, read_queries, read_run, run_of, write_run
from ..evaluation.no_answer import shuffled, tune_min_score
from ..evaluation.significance import Comparison, compare
from ..evaluation.tune import N_QUERIES, tune
from ..hits import shorten
from ..reading import IndexReader
from .options import EXACT, FILE, GROUP, INDEX, MIN_SCORE, MODE, MODEL, K, json_option, open_with_model, progress
from .printing import curve, dump, printable, threshold_table

__all__: list[str] = []  # the package registers every click command of this module

METRICS = ("nDCG@10", "MRR@10", "MAP", "Recall@50", "Recall@100", "Recall@1000")
DEFAULT_DEPTH = 1000  # results per query for a metric without a cutoff
BATCH = 32  # queries
SHUFFLED = "shuffled"
SHOWN = 5  # queries in a list


@click.command("eval")
@click.argument("index", required=False, type=click.Path(path_type=Path))
@click.option("--queries", type=FILE, help="BEIR's queries.jsonl or its folder, TSV, or TREC topics.")
@click.option("--qrels", required=True, type=FILE, help="BEIR (or its folder) or TREC judgements.")
@click.option("--run", "run_file", type=FILE, help="Evaluate this TREC run instead of INDEX.")
@click.option("--baseline", type=FILE, help="Compare with this TREC run: significance, best and worst queries.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the answers as a TREC run.")
@click.option("--metric", "metrics", multiple=True, default=METRICS, show_default=True, help="An ir-measures name.")
@click.option("--per-query", "each", is_flag=True, help="Also print the metrics of every query.")
@click.option("-k", type=click.IntRange(1), help="Results per query; default: the largest cutoff of the metrics.")
@MODE
@GROUP
@MIN_SCORE
@EXACT
@MODEL
@json_option("one object: queries, metrics, unjudged, unanswered, per_query, baseline")
def eval_command(
    index: Path | str | None,
    queries: Path | None,
    qrels: Path,
    run_file: Path | None,
    baseline: Path | None,
    save: Path | None,
    metrics: tuple[str, ...],
    each: bool,
    k: int | None,
    model: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Print metrics of INDEX or of a TREC run.

    INDEX answers the judged queries. A query without judgements is left out. A judged query without answers counts as
    0. Notes on stderr name both.
    """
    if (index is None) == (run_file is None):
        raise click.UsageError(f"expected INDEX or --run, found {'both' if index else 'neither'}; give one of the two")
    if index is not None and queries is None:
        raise click.UsageError("evaluating INDEX requires --queries")
    judged = read_qrels(qrels)
    texts = {} if queries is None else read_queries(queries)
    if index is None:
        run = read_run(run_file or Path())
    else:
        with open_with_model(index, model) as opened:
            judged_texts = {name: text for name, text in texts.items() if name in judged}
            run = _run(opened, judged_texts, k or _depth(metrics), **options)
    if save is not None:
        write_run(run, save)
    comparisons = [] if baseline is None else compare(run, read_run(baseline), judged, metrics)
    report: dict[str, Any] = {
        "queries": len(judged),
        "metrics": evaluate(run, judged, metrics),
        "unjudged": [name for name in dict.fromkeys([*texts, *run]) if name not in judged],
        "unanswered": [name for name in judged if not run.get(name)],
        "per_query": per_query(run, judged, metrics) if each else None,
        "baseline": None if baseline is None else {c.metric: _baseline_json(c) for c in comparisons},
    }
    _note(report["unjudged"], "without judgements are left out")
    _note(report["unanswered"], "with judgements have no answer and count as 0")
    click.echo(dump(report) if as_json else "\n".join(_lines(report, comparisons, texts)))


def _run(index: IndexReader, texts: dict[str, str], k: int, group_by: str | None, **options: Any) -> Run:
    """The index's answers to queries, with a progress bar."""
    names, run = list(texts), Run()
    with tqdm(total=len(names), desc="eval", unit="query", disable=not progress()) as bar:
        for first in range(0, len(names), BATCH):
            batch = names[first : first + BATCH]
            hits = index.search_many([texts[name] for name in batch], k, group_by=group_by, **options)
            run |= run_of(batch, hits, group_by)
            bar.update(len(batch))
    return run


def _depth(metrics: Sequence[str]) -> int:
    """The number of results that the metrics need: their largest cutoff."""
    cutoffs = [re.search(r"@(\d+)$", metric) for metric in metrics]
    return max((max(int(cutoff[1]), 1) if cutoff else DEFAULT_DEPTH for cutoff in cutoffs), default=DEFAULT_DEPTH)


def _baseline_json(comparison: Comparison) -> dict[str, Any]:
    names = ("difference", "p", "better", "worse", "differences")
    return {"mean": comparison.baseline, **{name: getattr(comparison, name) for name in names}}


def _note(names: Sequence[str], meaning: str) -> None:
    if names:
        shown = ", ".join(map(printable, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
        click.echo(f"note: {len(names):,} queries {meaning}: {shown}", err=True)


def _lines(report: dict[str, Any], comparisons: Sequence[Comparison], texts: dict[str, str]) -> list[str]:
    """The report as text: metrics or their comparison with the baseline, then the metrics of every query."""
    width = max(map(len, report["metrics"]))
    lines = [f"{name:{width}} {value:.4f}" for name, value in report["metrics"].items()]
    if comparisons:
        lines = [f"{'':{width}}    run  baseline  difference       p  better  worse"]
        lines += [
            f"{c.metric:{width}} {c.mean:.4f}    {c.baseline:.4f}     {c.difference:+.4f}  {c.p:.4f} "
            f"{c.better:7} {c.worse:6}"
            for c in comparisons
        ]
        lines += _extremes(comparisons[0], texts)
    if report["per_query"] is not None:
        lines += ["", "\t".join(["query", *report["per_query"]])]
        rows = zip(*(values.items() for values in report["per_query"].values()), strict=True)
        lines += ["\t".join([row[0][0], *(f"{value:.4f}" for _, value in row)]) for row in rows]
    return lines


def _extremes(comparison: Comparison, texts: dict[str, str]) -> list[str]:
    """The queries that gained and lost most by the first metric."""
    gains = list(comparison.differences.items())
    lines = [f"\n{comparison.metric} of {len(gains):,} queries, those that gained and lost most:"]
    chosen = [gain for gain in gains[:SHOWN] if gain[1] > 0] + [gain for gain in gains[-SHOWN:] if gain[1] < 0]
    return lines + [
        f"{value:+.4f}  {name}  {shorten(printable(texts.get(name, '')))}".rstrip() for name, value in chosen
    ]


@click.command("tune")
@INDEX
@click.option("--queries", type=FILE, help="Queries to measure with; default: sentences of the documents.")
@click.option(
    "--no-answer",
    type=click.Path(path_type=Path),
    metavar="FILE|shuffled",
    help="Recommend --min-score instead: from queries that have no answer in INDEX, or from the words of --queries in "
    "random order.",
)
@click.option("--target", default=0.95, show_default=True, help="Wanted recall of the exact results.")
@click.option("--sample", "n_queries", default=N_QUERIES, show_default=True, help="Largest number of queries.")
@K
@MODEL
@json_option(
    "one object: k, target, n_queries, exact_p50, settings, recommended; with --no-answer: n_answered, n_unanswered, "
    "separation, curve, recommended"
)
def tune_command(
    index: Path | str,
    queries: Path | None,
    no_answer: Path | None,
    target: float,
    n_queries: int,
    k: int,
    model: str | None,
    as_json: bool,
) -> None:
    """Recommend nprobe and candidates for INDEX. Measures recall and latency of searches.

    With --no-answer, recommend --min-score instead: the least similarity of a hit.
    """
    if no_answer is not None and queries is None:
        raise click.UsageError("--no-answer requires --queries: real ones, which have an answer in INDEX")
    texts = None if queries is None else list(islice(read_queries(queries).values(), n_queries))
    with open_with_model(index, model) as opened:
        if no_answer is None or texts is None:
            tuning = tune(opened, texts, k=k, target=target, n_queries=n_queries)
            click.echo(dump(asdict(tuning)) if as_json else curve(tuning))
            return
        unanswered = (
            shuffled(texts)
            if no_answer == Path(SHUFFLED)
            else list(islice(read_queries(no_answer).values(), n_queries))
        )
        thresholds = tune_min_score(opened, texts, unanswered)
    click.echo(dump(asdict(thresholds)) if as_json else threshold_table(thresholds))
