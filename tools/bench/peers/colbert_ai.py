"""colbert-ai: the original PLAID, its C++ on a CPU. The encoder is replaced by one that hands out the vectors."""

import time
from typing import Any

import numpy as np
import torch
from colbert.data.collection import Collection
from colbert.indexing.collection_indexer import CollectionIndexer
from colbert.indexing.index_saver import IndexSaver
from colbert.infra import ColBERTConfig
from colbert.modeling.colbert import ColBERT
from colbert.search.index_storage import IndexScorer

from tools.bench.peers.protocol import Floats, Job, Many, One, main


class Given:
    """In place of the encoder: passages are numbers of documents."""

    def __init__(self, job: Job) -> None:
        mapped, self.offsets = job.vectors()
        self.vectors = np.array(mapped)  # [n_tokens, dim]

    def encode_passages(self, passages: list[str]) -> tuple[torch.Tensor, list[int]]:
        """Vectors [n, dim] of these documents, and how many each has."""
        numbers = [int(passage) for passage in passages]
        parts = [self.vectors[self.offsets[i] : self.offsets[i + 1]] for i in numbers]
        return torch.from_numpy(np.concatenate(parts)), [len(part) for part in parts]


class Indexer(CollectionIndexer):  # type: ignore[misc]  # its base ships no type information
    """colbert-ai's indexer without its checkpoint."""

    def __init__(self, config: Any, job: Job) -> None:
        self.encoder = Given(job)
        self.verbose, self.config, self.rank, self.nranks, self.use_gpu = 0, config, 0, 1, False
        self.collection = Collection.cast([str(i) for i in range(len(self.encoder.offsets) - 1)])
        self.saver = IndexSaver(config)


def build(job: Job) -> float:
    """The stages of its indexer, one after the other."""
    dim = next(job.documents()).shape[1]
    indexer = Indexer(ColBERTConfig(index_path=job.index, dim=dim, nbits=job.nbits), job)
    start = time.perf_counter()
    with torch.inference_mode():
        indexer.setup()
        indexer.train(None)
        indexer.index()
        indexer.finalize()
    return time.perf_counter() - start


def opened(job: Job) -> tuple[One, Many]:
    """Its scorer, which compiles its extensions at first use."""
    ColBERT.try_load_torch_extensions(False)
    scorer = IndexScorer(job.index, use_gpu=False)

    def one(q: Floats, k: int, **point: Any) -> list[int]:
        config = ColBERTConfig(query_maxlen=len(q), **point)
        found: list[int] = scorer.rank(config, torch.from_numpy(q[None]))[0][:k]
        return found

    return one, lambda queries, k, **point: [one(q, k, **point) for q in queries]


if __name__ == "__main__":
    main(build, opened, "colbert-ai")
