"""The test collections: folders in BEIR's layout under `--data DIR` or $REFCOLBERT_DATA."""

import os
from dataclasses import dataclass
from pathlib import Path

import click

from refcolbert.corpus.readers import read_documents
from refcolbert.documents import Document
from refcolbert.evaluation.metrics import Qrels, read_qrels, read_queries

__all__ = ["DATA", "Collection", "load"]

DATA = click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=lambda: os.environ.get("REFCOLBERT_DATA"),
    required=True,
    help="Folder of collections; default $REFCOLBERT_DATA.",
)


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents, and the judged queries of one split."""

    name: str
    documents: list[Document]
    queries: dict[str, str]
    qrels: Qrels

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [document.text or "" for document in self.documents]


def load(data: Path, name: str, split: str = "test") -> Collection:
    """Read a BEIR-layout collection; queries without a judgement in `split` are left out."""
    folder = data / name
    qrels = read_qrels(folder / "qrels" / f"{split}.tsv")
    queries = {key: text for key, text in read_queries(folder / "queries.jsonl").items() if key in qrels}
    return Collection(name, list(read_documents(folder)), queries, qrels)
