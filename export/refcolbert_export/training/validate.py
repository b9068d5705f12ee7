"""Validation: the quality of the current model's ranking of held-out documents, by exact MaxSim over all of them."""

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
from .data import Example, read_examples
from .embed import Vectors, encode, groups_of
from .maxsim import maxsim
from .settings import METRICS, Settings

__all__ = ["Pool", "Validator", "pool_of", "read_pool"]

DEPTH = 100  # documents per ranking
QUERIES = 32  # queries scored at a time


@dataclass(frozen=True, slots=True)
class Pool:
    """Held-out queries, documents, and the documents that answer each query."""

    queries: dict[str, str]
    documents: dict[str, str]
    qrels: Qrels
    candidates: dict[str, list[str]] | None = None  # query -> its own documents, for cross-encoders


def read_pool(path: Path) -> Pool:
    """Read a BEIR folder (its dev judgements, else test), or held-out examples, whose texts are the documents."""
    return _beir(path) if path.is_dir() else pool_of(read_examples([path]))


def _beir(folder: Path) -> Pool:
    splits = [folder / "qrels" / f"{name}.tsv" for name in ("dev", "test")]
    judgements = next((split for split in splits if split.is_file()), None)
    if judgements is None:
        raise InvalidInput(f"expected qrels/dev.tsv or qrels/test.tsv in {folder}, found neither")
    qrels, queries = read_qrels(judgements), read_queries(folder / "queries.jsonl")
    documents = {document.id: document.text or "" for document in read_documents(folder)}
    if missing := set(qrels) - set(queries):
        raise InvalidInput(f"expected all queries of {judgements} in queries.jsonl, it lacks {sorted(missing)[:3]}")
    return Pool({name: queries[name] for name in qrels}, documents, qrels)


def pool_of(examples: Sequence[Example]) -> Pool:
    """A pool whose documents are the texts of the examples. Each distinct query and text gets a number as id."""
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
    """A tokenized pool, which is encoded at each validation."""

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
            parts = []
            texts = torch.split(q.rows, q.lengths)
            for first in range(0, len(texts), QUERIES):
                chunk = texts[first : first + QUERIES]
                parts.append(maxsim(torch.cat(chunk), [len(rows) for rows in chunk], d.rows, d.lengths))
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
