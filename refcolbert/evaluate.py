"""Evaluation: queries and judgements in BEIR and TREC form, runs, and metrics by ir-measures (extra `eval`)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .errors import InvalidInput, MissingDependency
from .hits import Hit
from .passages import read_jsonl, read_lines

__all__ = ["METRICS", "Qrels", "Run", "evaluate", "read_qrels", "read_queries", "run_of", "write_run"]

Run = dict[str, dict[str, float]]  # query id -> document id -> score
Qrels = dict[str, dict[str, int]]  # query id -> document id -> relevance

METRICS = ("nDCG@10", "RR@10", "R@100")


def read_queries(path: str | Path) -> dict[str, str]:
    """Query id -> text, from a BEIR queries.jsonl ({"_id" | "id", "text"}) or a TSV of id and text."""
    path = Path(path)
    if path.suffix == ".jsonl":
        rows = ((where, record.get("_id", record.get("id")), record.get("text")) for where, record in read_jsonl(path))
    else:
        rows = ((where, *_two(line)) for where, line in read_lines(path))
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
    qrels: Qrels = {}
    for number, (where, line) in enumerate(read_lines(Path(path))):
        fields = line.split("\t") if line.count("\t") == 2 else line.split()
        if number == 0 and len(fields) == 3 and not fields[2].lstrip("-").isdigit():
            continue  # BEIR's header
        try:
            query, document, relevance = fields if len(fields) == 3 else (fields[0], *fields[2:])
            qrels.setdefault(query, {})[document] = int(relevance)
        except ValueError:
            raise InvalidInput(f"{where}: expected a BEIR or TREC judgement, found {line!r}") from None
    return qrels


def run_of(query_ids: Sequence[str], hits: Iterable[Sequence[Hit]]) -> Run:
    """The answers to several queries as a run."""
    return {name: {hit.id: hit.score for hit in answer} for name, answer in zip(query_ids, hits, strict=True)}


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


def evaluate(run: Run, qrels: Mapping[str, Mapping[str, int]], metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Metric name -> mean over the judged queries; a judged query without an answer counts as 0.

    Names are those of ir-measures (nDCG@10, RR@10 for MRR@10, R@100 for Recall@100, AP, ...). An answer's order is by
    score, and among equal scores as it stands in the run. Raises `InvalidInput` for unknown metrics or no judgements.
    """
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
        found = ir_measures.calc_aggregate(measures, plain, ranked)
    except (ValueError, NameError, AssertionError, TypeError) as error:
        raise InvalidInput(f"unknown metric: {error}; expected names like {', '.join(METRICS)}") from error
    return {name: float(found[measure]) for name, measure in zip(metrics, measures, strict=True)}


def _ranks(answer: Mapping[str, float]) -> dict[str, float]:
    """Scores that keep the answer's order: the evaluator would break ties by document id, and rounds to float32."""
    order = sorted(answer, key=lambda document: -answer[document])
    return {document: float(len(order) - rank) for rank, document in enumerate(order)}


def _two(line: str) -> tuple[str | None, str | None]:
    name, tab, text = line.partition("\t")
    return (name, text) if tab else (None, None)
