"""PyTerrier: an index as a transformer, in an experiment on a folder in BEIR's layout. Needs no Java."""

import sys

import pandas as pd
import pyterrier as pt
from ir_measures import RR, R, nDCG

import refcolbert
from refcolbert.corpus.readers import read_documents
from refcolbert.evaluation.metrics import read_qrels, read_queries


class ColBERT(pt.Transformer):
    """Ranks the documents of an index for topics, a frame with the columns qid and query."""

    def __init__(self, index: refcolbert.IndexReader, k: int = 1000, mode: str = "late") -> None:
        super().__init__()
        self.index, self.k, self.mode = index, k, mode

    def transform(self, topics: pd.DataFrame) -> pd.DataFrame:
        """Return a row per topic and hit."""
        answers = self.index.search_many(topics["query"].tolist(), self.k, mode=self.mode)
        rows = [
            (qid, query, hit.id, hit.score, hit.rank - 1)
            for qid, query, hits in zip(topics["qid"], topics["query"], answers, strict=True)
            for hit in hits
        ]
        return pd.DataFrame(rows, columns=["qid", "query", "docno", "score", "rank"])


def main(folder: str) -> pd.DataFrame:
    """Index a folder in BEIR's layout, and compare three ways to search it."""
    index = refcolbert.Index.build("experiment.index", read_documents(folder))
    qrels = [(qid, docno, label) for qid, judged in read_qrels(folder).items() for docno, label in judged.items()]
    topics = pd.DataFrame(read_queries(folder).items(), columns=["qid", "query"])
    modes = ("late", "words", "hybrid")
    return pt.Experiment(
        [ColBERT(index, mode=mode) for mode in modes],
        topics,
        pd.DataFrame(qrels, columns=["qid", "docno", "label"]),
        [nDCG @ 10, RR @ 10, R @ 100],
        names=modes,
    )


if __name__ == "__main__":
    print(main(sys.argv[1]).to_string(index=False))
