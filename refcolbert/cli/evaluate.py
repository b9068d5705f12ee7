"""Verbs that measure answers."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ..corpus.readers import PASSAGE_OF
from ..evaluation.metrics import Run, evaluate, per_query, read_qrels, read_queries, read_run, run_of, write_run
from ..evaluation.significance import Comparison, compare
from ..evaluation.tune import N_QUERIES, tune
from ..index import Index
from .options import EXACT, GROUP, MODEL, K, json_option, open_index, progress
from .printing import curve, dump, printable, shorten

__all__ = ["evaluate_index", "tune_index"]

METRICS = ("nDCG@10", "MRR@10", "MAP", "Recall@50", "Recall@100", "Recall@1000")
DEEPEST = 1000  # answers that a metric without a cutoff sees
AT_ONCE = 32  # queries
SHOWN = 5  # queries at either end
FILE = click.Path(exists=True, path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """What `eval` found; --json prints these fields."""

    queries: int  # that are judged: what the means are over
    metrics: dict[str, float]
    unjudged: list[str]  # left out
    unanswered: list[str]  # counted as 0
    per_query: dict[str, dict[str, float]] | None  # metric -> query id -> value
    baseline: dict[str, dict[str, Any]] | None  # metric -> mean, difference, p, better, worse, differences


@click.command("eval")
@click.argument("index", required=False, type=click.Path(path_type=Path))
@click.option("--queries", type=FILE, help="BEIR's queries.jsonl or its folder, TSV, or TREC topics.")
@click.option("--qrels", required=True, type=FILE, help="BEIR (or its folder) or TREC judgements.")
@click.option("--run", "given", type=FILE, help="Evaluate this TREC run instead of INDEX.")
@click.option("--baseline", type=FILE, help="Compare with this TREC run: significance, best and worst queries.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the answers as a TREC run.")
@click.option("--metric", "metrics", multiple=True, default=METRICS, show_default=True, help="An ir-measures name.")
@click.option("--per-query", "each", is_flag=True, help="Print the metrics of every query, too.")
@click.option("-k", type=click.IntRange(1), help="Answers to a query; default: what the deepest metric sees.")
@GROUP
@EXACT
@MODEL
@json_option("one object: queries, metrics, unjudged, unanswered, per_query, baseline")
def evaluate_index(
    index: Path | None,
    queries: Path | None,
    qrels: Path,
    given: Path | None,
    baseline: Path | None,
    save: Path | None,
    metrics: tuple[str, ...],
    each: bool,
    k: int | None,
    group: bool,
    exact: bool,
    model: str | None,
    as_json: bool,
) -> None:
    """Put judged queries to INDEX, or take the answers of a TREC run, and print metrics.

    A query without judgements is left out, a judged one without answers counts as 0; either is said on stderr.
    """
    if (index is None) == (given is None):
        raise click.UsageError("answers come from INDEX or from a file, --run: give one of the two")
    if index is not None and queries is None:
        raise click.UsageError("INDEX is asked the queries of a file: --queries")
    judged = read_qrels(qrels)
    texts = {} if queries is None else read_queries(queries)
    if given is not None:
        run = read_run(given)
    else:
        with open_index(index or Path(), model) as opened:
            asked = {name: text for name, text in texts.items() if name in judged}
            run = _answers(opened, asked, k or _deepest(metrics), PASSAGE_OF if group else None, exact)
    if save is not None:
        write_run(run, save)
    comparisons = [] if baseline is None else compare(run, read_run(baseline), judged, metrics)
    report = _Report(
        queries=len(judged),
        metrics=evaluate(run, judged, metrics),
        unjudged=[name for name in dict.fromkeys([*texts, *run]) if name not in judged],
        unanswered=[name for name in judged if not run.get(name)],
        per_query=per_query(run, judged, metrics) if each else None,
        baseline=_plain(comparisons) if baseline is not None else None,
    )
    _say_gaps(report)
    click.echo(dump(asdict(report)) if as_json else "\n".join(_lines(report, comparisons, texts)))


def _answers(index: Index, texts: dict[str, str], k: int, group_by: str | None, exact: bool) -> Run:
    """The run of an index, some queries at a time."""
    names, run = list(texts), Run()
    with tqdm(total=len(names), desc="eval", unit="query", disable=not progress()) as bar:
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            hits = index.search_many([texts[name] for name in some], k, group_by=group_by, exact=exact)
            run |= run_of(some, hits, group_by)
            bar.update(len(some))
    return run


def _deepest(metrics: Sequence[str]) -> int:
    cutoffs = [re.search(r"@(\d+)$", metric) for metric in metrics]
    return max((max(int(found[1]), 1) if found else DEEPEST for found in cutoffs), default=DEEPEST)


def _plain(comparisons: Sequence[Comparison]) -> dict[str, dict[str, Any]]:
    return {
        found.metric: {
            "mean": found.baseline,
            "difference": found.difference,
            "p": found.p,
            "better": found.better,
            "worse": found.worse,
            "differences": found.differences,
        }
        for found in comparisons
    }


def _say_gaps(report: _Report) -> None:
    for names, what in (
        (report.unjudged, "without judgements are left out"),
        (report.unanswered, "with judgements have no answer and count as 0"),
    ):
        if names:
            some = ", ".join(map(printable, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
            click.echo(f"note: {len(names):,} queries {what}: {some}", err=True)


def _lines(report: _Report, comparisons: Sequence[Comparison], texts: dict[str, str]) -> list[str]:
    width = max(map(len, report.metrics))
    lines = [f"{name:{width}} {value:.4f}" for name, value in report.metrics.items()]
    if comparisons:
        lines = [f"{'':{width}}    run  baseline  difference       p  better  worse"]
        lines += [
            f"{c.metric:{width}} {c.mean:.4f}    {c.baseline:.4f}     {c.difference:+.4f}  {c.p:.4f} "
            f"{c.better:7} {c.worse:6}"
            for c in comparisons
        ]
        lines += _extremes(comparisons[0], texts)
    if report.per_query is not None:
        lines += ["", "\t".join(["query", *report.per_query])]
        rows = zip(*(values.items() for values in report.per_query.values()), strict=True)
        lines += ["\t".join([row[0][0], *(f"{value:.4f}" for _, value in row)]) for row in rows]
    return lines


def _extremes(found: Comparison, texts: dict[str, str]) -> list[str]:
    """The queries that gained and lost most by the first metric."""
    gains = list(found.differences.items())
    lines = [f"\n{found.metric} of {len(gains):,} queries, those that gained and lost most:"]
    chosen = [gain for gain in gains[:SHOWN] if gain[1] > 0] + [gain for gain in gains[-SHOWN:] if gain[1] < 0]
    return lines + [
        f"{value:+.4f}  {name}  {shorten(printable(texts.get(name, '')))}".rstrip() for name, value in chosen
    ]


@click.command("tune")
@click.argument("index", type=click.Path(path_type=Path))
@click.option("--queries", type=click.Path(exists=True, path_type=Path), help="Real ones; else sentences are drawn.")
@click.option("--target", default=0.95, show_default=True, help="Recall of the exact answer that is wanted.")
@click.option("--sample", "n_queries", default=N_QUERIES, show_default=True, help="How many queries at most.")
@K
@MODEL
@json_option("one object: k, target, n_queries, exact_p50, settings, recommended")
def tune_index(
    index: Path, queries: Path | None, target: float, n_queries: int, k: int, model: str | None, as_json: bool
) -> None:
    """Measure recall and latency of searches in INDEX, and recommend nprobe and candidates."""
    texts = None if queries is None else list(islice(read_queries(queries).values(), n_queries))
    with open_index(index, model) as opened:
        found = tune(opened, texts, k=k, target=target, n_queries=n_queries)
    click.echo(dump(asdict(found)) if as_json else curve(found))
