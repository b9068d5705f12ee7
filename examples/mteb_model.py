"""MTEB: its package `mteb` evaluates a model of refcolbert on a folder in BEIR's layout.

Its own tasks work as well: `mteb.evaluate(ColBERT(), mteb.get_task("SciFact"))`.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.models import ModelMeta

import refcolbert
from refcolbert.corpus.readers import read_documents
from refcolbert.evaluation.metrics import read_qrels, read_queries, run_of


class ColBERT:
    """A search model of mteb. It builds an index for each task and searches it."""

    def __init__(self, model: str | None = None) -> None:
        self.encoder = refcolbert.Encoder.load(model)
        name = {"name": f"refcolbert/{Path(model or 'default').name}", "revision": self.encoder.hash}
        self.mteb_model_meta = ModelMeta.create_empty(name)

    def index(self, corpus: Dataset, **_: Any) -> None:
        """Build an index of a corpus, in a folder that is removed with the next one."""
        self.folder = TemporaryDirectory()
        documents = ({"id": row["id"], "text": f"{row.get('title') or ''} {row['text']}".strip()} for row in corpus)
        self.searched = refcolbert.Index.build(Path(self.folder.name) / "index", documents, self.encoder)

    def search(self, queries: Dataset, *, top_k: int, top_ranked: Any = None, **_: Any) -> dict[str, dict[str, float]]:
        """Return query id -> document id -> score. A reranking task names the documents of each query."""
        among = top_ranked or {}
        hits = [self.searched.search(query["text"], top_k, ids=among.get(query["id"])) for query in queries]
        return run_of(queries["id"], hits)


def task_of(folder: str) -> AbsTaskRetrieval:
    """Return a task of mteb: the documents, queries and judgements of a folder in BEIR's layout."""
    about = {"dataset": {"path": folder, "revision": "1"}, "eval_langs": ["eng-Latn"], "main_score": "ndcg_at_10"}
    metadata = mteb.TaskMetadata(name=Path(folder).name, description="A folder", type="Retrieval", **about)
    task = type("Folder", (AbsTaskRetrieval,), {"metadata": metadata})()
    corpus = Dataset.from_list([{"id": document.id, "text": document.text} for document in read_documents(folder)])
    queries = Dataset.from_list([{"id": name, "text": text} for name, text in read_queries(folder).items()])
    data = {"corpus": corpus, "queries": queries, "relevant_docs": read_qrels(folder), "top_ranked": None}
    task.dataset, task.data_loaded = {"default": {"test": data}}, True
    return task


if __name__ == "__main__":
    # Without `cache=None`, mteb keeps results by the names of model and task.
    results = mteb.evaluate(ColBERT(), task_of(sys.argv[1]), cache=None)
    print(f"nDCG@10 {results[0].get_score():.4f}")
