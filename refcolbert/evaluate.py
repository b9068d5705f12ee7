"""Evaluation: queries and judgements in BEIR and TREC form, runs, and metrics by ir-measures (extra `eval`)."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .errors import InvalidInput, MissingDependency
from .hits import Hit
from .passages import read_jsonl

__all__ = ["METRICS", "Qrels", "Run", "evaluate", "read_qrels", "read_queries", "run_of", "write_run"]

Run = dict[str, dict[str, float]]  # query id -> document id -> score
Qrels = dict[str, dict[str, int]]  # query id -> document id -> relevance

METRICS = ("nDCG@10", "RR@10", "R@100")


def read_queries(path: str | Path) -> dict[str, str]:
    """Query id -> text, from a BEIR queries.jsonl ({"_id" | "id", "text"}) or a TSV of id and text."""
    path = Path(path)
    queries: dict[str, str] = {}
    if path.suffix == ".jsonl":
        rows = [(where, record.get("_id", record.get("id")), record.get("text")) for where, record in read_jsonl(path)]
    else:
        rows = [(f"{path.name}:{i}", *_two(line)) for i, line in enumerate(_read(path).splitlines(), 1) if line.strip()]
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
    for number, row in enumerate(csv.reader(_read(path).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE), 1):
        fields = row[0].split() if len(row) == 1 else row
        if number == 1 and len(fields) == 3 and not fields[2].lstrip("-").isdigit():
            continue  # BEIR's header
        try:
            query, document, relevance = fields if len(fields) == 3 else (fields[0], fields[2], fields[3])
            qrels.setdefault(query, {})[document] = int(relevance)
        except (ValueError, IndexError):
            raise InvalidInput(f"{path.name}:{number}: expected a BEIR or TREC judgement, found {row!r}") from None
    return qrels


def run_of(query_ids: Sequence[str], hits: Iterable[Sequence[Hit]]) -> Run:
    """The answers to several queries as a run."""
    return {name: {hit.id: hit.score for hit in answer} for name, answer in zip(query_ids, hits, strict=True)}


def write_run(run: Run, path: str | Path, tag: str = "refcolbert") -> None:
    """A TREC run file: query Q0 document rank score tag."""
    lines = [
        f"{query} Q0 {document} {rank} {score!r} {tag}\n"
        for query, answer in run.items()
        for rank, (document, score) in enumerate(answer.items(), 1)
    ]
    Path(path).write_text("".join(lines), encoding="utf-8")


def evaluate(run: Run, qrels: Mapping[str, Mapping[str, int]], metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Metric name -> mean over the judged queries; a judged query without an answer counts as 0.

    Names are those of ir-measures (nDCG@10, RR@10 for MRR@10, R@100 for Recall@100, AP, ...).
    """
    try:
        import ir_measures
    except ImportError as error:
        raise MissingDependency("evaluation needs ir-measures: pip install 'refcolbert[eval]'") from error
    try:
        measures = [ir_measures.parse_measure(name) for name in metrics]
    except (ValueError, NameError) as error:
        raise InvalidInput(f"unknown metric: {error}; expected names like {', '.join(METRICS)}") from error
    plain = {query: dict(judged) for query, judged in qrels.items()}
    found = ir_measures.calc_aggregate(measures, plain, {q: a for q, a in run.items() if q in plain})
    return {name: float(found[measure]) for name, measure in zip(metrics, measures, strict=True)}


def _two(line: str) -> tuple[str | None, str | None]:
    name, tab, text = line.partition("\t")
    return (name, text) if tab else (None, None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InvalidInput(f"{path}: there is no such file") from None
