"""Validation: how well the model of this moment ranks held-out documents, by exact MaxSim over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from refcolbert.corpus.readers import read_documents
from refcolbert.encoding.tokens import TextTokenizer
from refcolbert.errors import InvalidInput
from refcolbert.evaluation.metrics import Qrels, Run, evaluate, read_qrels, read_queries

from ..model import ColbertModel
from .batches import Group
from .data import read_examples
from .embed import Vectors, encode, groups_of
from .maxsim import maxsim
from .settings import Settings

__all__ = ["METRICS", "Pool", "Validator", "read_pool"]

METRICS = ("nDCG@10", "RR@10")
DEPTH = 100  # documents of an answer that are judged
QUERIES = 32  # scored at once


@dataclass(frozen=True, slots=True)
class Pool:
    """Queries, the documents they are to find, and which answer which."""

    queries: dict[str, str]
    documents: dict[str, str]
    qrels: Qrels
    candidates: dict[str, list[str]] | None = None  # query -> documents, for a model that cannot rank all of them


def read_pool(path: Path) -> Pool:
    """A BEIR folder (its dev judgements, else test), or held-out examples, whose texts together are the documents."""
    return _beir(path) if path.is_dir() else _held_out(path)


def _beir(folder: Path) -> Pool:
    splits = [folder / "qrels" / f"{name}.tsv" for name in ("dev", "test")]
    found = next((split for split in splits if split.is_file()), None)
    if found is None:
        raise InvalidInput(f"expected qrels/dev.tsv or qrels/test.tsv in {folder}, found neither")
    qrels, queries = read_qrels(found), read_queries(folder / "queries.jsonl")
    documents = {document.id: document.text or "" for document in read_documents(folder)}
    if missing := set(qrels) - set(queries):
        raise InvalidInput(f"{found} judges queries that queries.jsonl does not have: {sorted(missing)[:3]}")
    return Pool({name: queries[name] for name in qrels}, documents, qrels)


def _held_out(path: Path) -> Pool:
    examples = read_examples([path])
    names: dict[str, str] = {}  # text -> id
    for example in examples:
        for text in (*example.positives, *example.negatives):
            names.setdefault(text, str(len(names)))
    queries = {text: str(i) for i, text in enumerate(dict.fromkeys(example.query for example in examples))}
    qrels: Qrels = {}
    candidates: dict[str, list[str]] = {}
    for example in examples:
        query = queries[example.query]
        qrels.setdefault(query, {}).update({names[text]: 1 for text in example.positives})
        candidates.setdefault(query, []).extend(names[text] for text in (*example.negatives, *example.positives))
    return Pool(_swapped(queries), _swapped(names), qrels, {q: list(dict.fromkeys(c)) for q, c in candidates.items()})


def _swapped(names: dict[str, str]) -> dict[str, str]:
    return {name: text for text, name in names.items()}


class Validator:
    """A pool in ids, ready to be encoded again and again."""

    def __init__(self, pool: Pool, model: ColbertModel, tokenizer: TextTokenizer, settings: Settings) -> None:
        self.pool, self.model, self.settings, pad = pool, model, settings, tokenizer.spec.pad_id
        queries, documents = list(pool.queries.values()), list(pool.documents.values())
        most = settings.group_tokens
        self._queries = groups_of(tokenizer.queries(queries), queries, pad, most)
        self._documents = groups_of(tokenizer.documents(documents), documents, pad, most)

    def measure(self) -> dict[str, float]:
        """Metric -> mean over the judged queries."""
        was = self.model.training
        self.model.eval()
        with torch.no_grad():
            q, d = (self._embed(groups) for groups in (self._queries, self._documents))
            parts = []  # scores of some queries with every document
            rows = torch.split(q.rows, q.lengths)
            for first in range(0, len(rows), QUERIES):
                some = rows[first : first + QUERIES]
                parts.append(maxsim(torch.cat(some), [len(r) for r in some], d.rows, d.lengths))
            scores = torch.cat(parts)[q.places][:, d.places]  # [n_queries, n_docs]
        self.model.train(was)
        return evaluate(self._run(scores), self.pool.qrels, METRICS)

    def _embed(self, groups: Sequence[Group]) -> Vectors:
        return Vectors([encode(self.model, g, self.settings.precision) for g in groups], groups)

    def _run(self, scores: torch.Tensor) -> Run:  # [n_queries, n_docs]
        names, run = list(self.pool.documents), {}
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :DEPTH].tolist()
        for i, query in enumerate(self.pool.queries):
            run[query] = {names[j]: float(scores[i, j]) for j in order[i]}
        return run
