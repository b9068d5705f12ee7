"""Queries, judgements and runs in BEIR and TREC files, and metrics by ir-measures (extra `eval`).

All mappings are keyed by query id. A file may end in .gz. A BEIR folder is read as its queries.jsonl or its
qrels/test.tsv.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..corpus.readers import read_jsonl, read_lines
from ..errors import InvalidInput, MissingDependency
from ..hits import Hit
from ..storage.groups import group_of

__all__ = [
    "METRICS",
    "Qrels",
    "Run",
    "evaluate",
    "per_query",
    "read_qrels",
    "read_queries",
    "read_run",
    "run_of",
    "write_run",
]

Run = dict[str, dict[str, float]]  # query id -> document id -> score
Qrels = dict[str, dict[str, int]]  # query id -> document id -> relevance
Judged = Mapping[str, Mapping[str, int]]

METRICS = ("nDCG@10", "RR@10", "R@100")
TOPIC = "<top>"  # first line of a query in TREC's classic topic files
TOPIC_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)")
TOPIC_TITLE = re.compile(r"<title>\s*(?:Topic:)?\s*([^<]*)")


def read_queries(path: str | Path) -> dict[str, str]:
    """Return query id -> text.

    path    one of: BEIR's queries.jsonl ({"_id" or "id", "text"}) or its folder; lines of id, tab, text; TREC topics; a
            .txt file of one query per line, whose id is the number of the line

    Raises `InvalidInput` for a line without id or text and for an id that occurs twice.
    """
    path = Path(path)
    path = path / "queries.jsonl" if path.is_dir() else path
    rows: Iterable[tuple[str, Any, Any]]  # ("file:line", id, text)
    if ".jsonl" in path.suffixes:
        rows = ((where, record.get("_id", record.get("id")), record.get("text")) for where, record in read_jsonl(path))
    else:
        lines = list(read_lines(path))
        is_topics = bool(lines) and lines[0][1].strip().startswith(TOPIC)
        if path.suffix == ".txt" and not is_topics and not any("\t" in line for _, line in lines):
            lines = [(where, f"{where.rpartition(':')[2]}\t{line}") for where, line in lines]
        rows = _topics(lines) if is_topics else ((where, *_split_at_tab(line)) for where, line in lines)
    queries: dict[str, str] = {}
    for where, name, text in rows:
        if name is None or not isinstance(text, str):
            raise InvalidInput(f"{where}: expected a query id and a text")
        if str(name) in queries:
            raise InvalidInput(f"{where}: query id {name!r} occurs twice")
        queries[str(name)] = text
    return queries


def read_qrels(path: str | Path) -> Qrels:
    """Return query id -> document id -> relevance.

    path    one of: BEIR's judgements (query, document, relevance, by tabs, under a header) or its folder; TREC's
            judgements (query, 0, document, relevance)

    Raises `InvalidInput` for any other line.
    """
    path = Path(path)
    qrels: Qrels = {}
    for number, (where, line) in enumerate(read_lines(path / "qrels" / "test.tsv" if path.is_dir() else path)):
        # Two tabs are BEIR, whose ids may hold spaces. TREC has four fields by any white space.
        fields = line.split("\t") if line.count("\t") == 2 else line.split()
        if number == 0 and len(fields) == 3 and not fields[2].lstrip("-").isdigit():
            continue  # BEIR's header
        try:
            query, document, relevance = fields if len(fields) == 3 else (fields[0], *fields[2:])
            qrels.setdefault(query, {})[document] = int(relevance)
        except ValueError:
            raise InvalidInput(f"{where}: expected a BEIR or TREC judgement, found {line!r}") from None
    return qrels


def read_run(path: str | Path) -> Run:
    """Return the run of a TREC file with lines of query, Q0, document, rank, score, tag.

    Documents keep the order of the file, and ranks in the file are ignored: metrics order by score. Raises
    `InvalidInput` for any other line and for a document that a query has twice.
    """
    run: Run = {}
    for where, line in read_lines(Path(path)):
        try:
            query, _, document, _, score, _ = line.split()
            if not math.isfinite(float(score)):
                raise ValueError("not a number")
        except ValueError:
            raise InvalidInput(f"{where}: expected query Q0 document rank score tag, found {line!r}") from None
        if document in run.setdefault(query, {}):
            raise InvalidInput(f"{where}: query {query!r} has the document {document!r} twice")
        run[query][document] = float(score)
    return run


def run_of(
    query_ids: Sequence[str],
    hits: Iterable[Sequence[Hit]],
    group_by: str | None = None,
) -> Run:
    """Return the run of several searches.

    query_ids    one per search
    hits         the answer of each search, best first
    group_by     metadata key of a group, as for `Index.search`: a hit counts for its group and not for itself
    """
    return {
        name: {hit.id if group_by is None else group_of(hit.id, hit.metadata, group_by): hit.score for hit in answer}
        for name, answer in zip(query_ids, hits, strict=True)
    }


def write_run(
    run: Run,
    path: str | Path,
    tag: str = "refcolbert",
) -> None:
    """Write a run as a TREC file: query, Q0, document, rank, score, tag.

    Raises `InvalidInput` for an id with white space, which would shift the columns.
    """
    for name in (name for query, answer in run.items() for name in (query, *answer)):
        if len(name.split()) != 1:
            raise InvalidInput(f"expected ids without white space in a TREC run, found {name!r}; rename the document")
    lines = [
        f"{query} Q0 {document} {rank} {score!r} {tag}\n"
        for query, answer in run.items()
        for rank, (document, score) in enumerate(answer.items(), 1)
    ]
    Path(path).write_text("".join(lines), encoding="utf-8")


def evaluate(
    run: Run,
    qrels: Judged,
    metrics: Sequence[str] = METRICS,
) -> dict[str, float]:
    """Return metric name -> mean over the judged queries.

    run        documents are ordered by score, and equal scores by their order in the run
    qrels      a judged query that the run lacks counts as 0; a query without judgements is left out
    metrics    names of ir-measures: nDCG@10, RR@10 or MRR@10, R@100 or Recall@100, AP or MAP, ...

    Raises `InvalidInput` for an unknown metric or no judgements, `MissingDependency` without ir-measures.

    >>> run = {"q1": {"a": 2.0, "b": 1.0}, "q2": {"c": 1.0}}
    >>> qrels = {"q1": {"b": 1}, "q2": {"c": 1}}
    >>> evaluate(run, qrels, ["RR@10", "R@1"])  # b has rank 2, c has rank 1
    {'RR@10': 0.75, 'R@1': 0.5}
    """
    measures, results = _calculate(run, qrels, metrics)
    return {name: float(results.aggregated[measure]) for name, measure in zip(metrics, measures, strict=True)}


def per_query(
    run: Run,
    qrels: Judged,
    metrics: Sequence[str] = METRICS,
) -> dict[str, dict[str, float]]:
    """Return metric name -> query id -> value, for every judged query in the order of `qrels`.

    Arguments and errors are those of `evaluate`.

    >>> per_query({"q1": {"a": 2.0, "b": 1.0}}, {"q1": {"b": 1}, "q2": {"c": 1}}, ["RR@10"])
    {'RR@10': {'q1': 0.5, 'q2': 0.0}}
    """
    measures, results = _calculate(run, qrels, metrics)
    values = {(metric.measure, metric.query_id): float(metric.value) for metric in results.per_query}
    return {
        name: {query: values[measure, query] for query in qrels}
        for name, measure in zip(metrics, measures, strict=True)
    }


def _calculate(run: Run, qrels: Judged, metrics: Sequence[str]) -> tuple[list[Any], Any]:
    """Return the measures that `metrics` name, and the results of ir-measures."""
    try:
        import ir_measures
    except ImportError as error:
        raise MissingDependency("evaluation needs ir-measures: pip install 'refcolbert[eval]'") from error
    if not qrels or not metrics:
        raise InvalidInput(
            f"expected at least one judged query and one metric, found {len(qrels)} and {len(metrics)}; pass both"
        )
    plain = {query: dict(judged) for query, judged in qrels.items()}
    ranked = {query: _ranks(run.get(query, {})) for query in plain}
    try:
        # One of the evaluators behind ir-measures ends the process on a cutoff of 0.
        if any(name.endswith("@0") for name in metrics):
            raise ValueError("a cutoff must be at least 1")
        measures = [ir_measures.parse_measure(name) for name in metrics]
        return measures, ir_measures.calc(measures, plain, ranked)
    except (ValueError, NameError, AssertionError, TypeError) as error:
        raise InvalidInput(f"unknown metric: {error}; expected names like {', '.join(METRICS)}") from error


def _ranks(answer: Mapping[str, float]) -> dict[str, float]:
    """Return scores n, n - 1, ..., 1 in the order of the answer.

    The evaluators round scores to float32 and break ties by document id, so the real ones could change the order.
    """
    order = sorted(answer, key=lambda document: -answer[document])
    return {document: float(len(order) - rank) for rank, document in enumerate(order)}


def _topics(lines: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield ("file:line", number, title) of each <top> element."""
    starts = [i for i, (_, line) in enumerate(lines) if TOPIC in line]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        text = " ".join(line for _, line in lines[start:end])
        number, title = TOPIC_NUMBER.search(text), TOPIC_TITLE.search(text)
        yield lines[start][0], number and number[1], title and " ".join(title[1].split())


def _split_at_tab(line: str) -> tuple[str | None, str | None]:
    name, tab, text = line.partition("\t")
    return (name, text) if tab else (None, None)
