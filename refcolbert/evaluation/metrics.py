"""Evaluation: queries and judgements in BEIR and TREC form, runs, and metrics by ir-measures (extra `eval`).

Everything is keyed by query id. Files may end in .gz; a BEIR folder stands for its queries.jsonl and qrels/test.tsv.
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
TOPIC = "<top>"  # begins a query in TREC's classic topic files
TOPIC_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)")
TOPIC_TITLE = re.compile(r"<title>\s*(?:Topic:)?\s*([^<]*)")


def read_queries(path: str | Path) -> dict[str, str]:
    """Query id -> text, from BEIR's queries.jsonl ({"_id" | "id", "text"}), TREC topics (<top>), or id, tab, text."""
    path = Path(path)
    path = path / "queries.jsonl" if path.is_dir() else path
    rows: Iterable[tuple[str, Any, Any]]
    if ".jsonl" in path.suffixes:
        rows = ((where, record.get("_id", record.get("id")), record.get("text")) for where, record in read_jsonl(path))
    else:
        lines = list(read_lines(path))
        topics = bool(lines) and lines[0][1].strip().startswith(TOPIC)
        rows = _topics(lines) if topics else ((where, *_two(line)) for where, line in lines)
    queries: dict[str, str] = {}
    for where, name, text in rows:
        if name is None or not isinstance(text, str):
            raise InvalidInput(f"{where}: expected a query id and a text")
        if str(name) in queries:
            raise InvalidInput(f"{where}: query id {name!r} occurs twice")
        queries[str(name)] = text
    return queries


def read_qrels(path: str | Path) -> Qrels:
    """Judgements from BEIR (query-id, corpus-id, score under a header, tabs) or TREC (query 0 document relevance)."""
    path = Path(path)
    qrels: Qrels = {}
    for number, (where, line) in enumerate(read_lines(path / "qrels" / "test.tsv" if path.is_dir() else path)):
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
    """A TREC run file: query Q0 document rank score tag. Answers keep the file's order; scores decide ranks."""
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


def run_of(query_ids: Sequence[str], hits: Iterable[Sequence[Hit]], group_by: str | None = None) -> Run:
    """The answers to several queries as a run; with `group_by` a hit counts for its group (`grouping`)."""
    return {
        name: {hit.id if group_by is None else group_of(hit.id, hit.metadata, group_by): hit.score for hit in answer}
        for name, answer in zip(query_ids, hits, strict=True)
    }


def write_run(run: Run, path: str | Path, tag: str = "refcolbert") -> None:
    """A TREC run file: query Q0 document rank score tag. An id with white space is `InvalidInput`: it has no place."""
    for name in (name for query, answer in run.items() for name in (query, *answer)):
        if len(name.split()) != 1:
            raise InvalidInput(f"a TREC run separates fields by white space, the id {name!r} holds some")
    lines = [
        f"{query} Q0 {document} {rank} {score!r} {tag}\n"
        for query, answer in run.items()
        for rank, (document, score) in enumerate(answer.items(), 1)
    ]
    Path(path).write_text("".join(lines), encoding="utf-8")


def evaluate(run: Run, qrels: Judged, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Metric name -> mean over the judged queries; a judged query without an answer counts as 0.

    Names are those of ir-measures (nDCG@10, RR@10 or MRR@10, R@100 or Recall@100, AP or MAP, ...). An answer's order is
    by score, and among equal scores as it stands in the run. Raises `InvalidInput` for unknown metrics or no
    judgements.
    """
    measures, found = _calculated(run, qrels, metrics)
    return {name: float(found.aggregated[measure]) for name, measure in zip(metrics, measures, strict=True)}


def per_query(run: Run, qrels: Judged, metrics: Sequence[str] = METRICS) -> dict[str, dict[str, float]]:
    """Metric name -> query id -> value, for every judged query in the order of `qrels`. Raises as `evaluate` does."""
    measures, found = _calculated(run, qrels, metrics)
    values = {(metric.measure, metric.query_id): float(metric.value) for metric in found.per_query}
    return {
        name: {query: values[measure, query] for query in qrels}
        for name, measure in zip(metrics, measures, strict=True)
    }


def _calculated(run: Run, qrels: Judged, metrics: Sequence[str]) -> tuple[list[Any], Any]:
    """The measures that `metrics` name, and what ir-measures found for them."""
    try:
        import ir_measures
    except ImportError as error:
        raise MissingDependency("evaluation needs ir-measures: pip install 'refcolbert[eval]'") from error
    if not qrels or not metrics:
        raise InvalidInput("nothing to evaluate: expected at least one judged query and one metric")
    plain = {query: dict(judged) for query, judged in qrels.items()}
    ranked = {query: _ranks(run.get(query, {})) for query in plain}
    try:
        if any(name.endswith("@0") for name in metrics):  # one evaluator behind ir-measures ends the process for it
            raise ValueError("a cutoff must be at least 1")
        measures = [ir_measures.parse_measure(name) for name in metrics]
        return measures, ir_measures.calc(measures, plain, ranked)
    except (ValueError, NameError, AssertionError, TypeError) as error:
        raise InvalidInput(f"unknown metric: {error}; expected names like {', '.join(METRICS)}") from error


def _ranks(answer: Mapping[str, float]) -> dict[str, float]:
    """Scores that keep the answer's order: the evaluator would break ties by document id, and rounds to float32."""
    order = sorted(answer, key=lambda document: -answer[document])
    return {document: float(len(order) - rank) for rank, document in enumerate(order)}


def _topics(lines: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str | None, str | None]]:
    """("file:line", number, title) of each <top> element."""
    starts = [i for i, (_, line) in enumerate(lines) if TOPIC in line]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        text = " ".join(line for _, line in lines[start:end])
        number, title = TOPIC_NUMBER.search(text), TOPIC_TITLE.search(text)
        yield lines[start][0], number and number[1], title and " ".join(title[1].split())


def _two(line: str) -> tuple[str | None, str | None]:
    name, tab, text = line.partition("\t")
    return (name, text) if tab else (None, None)
