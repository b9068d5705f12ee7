"""Teachers that need no larger model: BM25, a bi-encoder, and their sum.

    BM25        bm25s with Lucene's idf, k1 = 0.9 and b = 0.4, English stop words, Snowball stems (extra `train`)
    BiEncoder   mean-pooled, normalized token states of a sentence encoder: one vector per text, scored by cosine
    ensemble    cosine + weight * BM25 / the query's largest BM25

BM25 has no upper bound and depends on the query; a cosine does not. Dividing by the query's largest BM25 puts both on
one scale. BM25 sees rare words and the cosine sees meaning, so their sum usually ranks better than either. A softmax
takes `mine.SCALE` times the ensemble.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from refcolbert.arrays import Floats
from refcolbert.errors import InvalidInput, InvalidModel, MissingDependency

from ..parity.reference import quiet
from ..tensors import read_json

__all__ = ["BM25", "BiEncoder", "ensemble"]

# As in Anserini's baselines for passages.
K1, B = 0.9, 0.4
BATCH_TOKENS = 2048


class BM25:
    """BM25 over texts. Raises `MissingDependency` without bm25s and PyStemmer, `InvalidInput` without texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        if not texts:
            raise InvalidInput("expected at least one text for BM25, found none")
        try:
            import bm25s
            import Stemmer
        except ImportError as error:
            raise MissingDependency(f"{error}; BM25 needs: pip install 'refcolbert[train]'") from error
        self._stemmer: Any = Stemmer.Stemmer("english")
        self._tokenize: Any = bm25s.tokenize
        self._index: Any = bm25s.BM25(method="lucene", k1=K1, b=B)
        self._index.index(self._words(list(texts)), show_progress=False)
        self._known: set[str] = set(self._index.vocab_dict)

    def _words(self, texts: list[str]) -> list[list[str]]:
        words: list[list[str]] = self._tokenize(
            texts, stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return words

    def scores(self, query: str) -> Floats:
        """BM25 of one query with every text: [n_docs] float32, 0 for a text that shares no word."""
        (words,) = self._words([query])
        known = [word for word in words if word in self._known]
        if not known:
            return np.zeros(self._index.scores["num_docs"], np.float32)
        scores: Floats = np.asarray(self._index.get_scores(known), np.float32)
        return scores

    def many(self, queries: Iterable[str]) -> Floats:
        """[n_queries, n_docs]: `scores` of each query."""
        return np.stack([self.scores(query) for query in queries])


class BiEncoder:
    """A sentence encoder of Sentence-Transformers' layout with mean pooling, such as all-MiniLM-L6-v2.

    `dtype` is the arithmetic of the transformer. bfloat16 halves the time and changes a cosine by about 1e-3.
    Raises `InvalidModel` unless the folder uses mean pooling.
    """

    def __init__(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        folder = Path(folder)
        pooling = read_json(folder / "1_Pooling" / "config.json")
        if not pooling.get("pooling_mode_mean_tokens"):
            raise InvalidModel(f"{folder}: expected mean pooling, found {pooling}")
        with quiet():
            self._model: Any = AutoModel.from_pretrained(folder, dtype=dtype).eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str], length: int, progress: Callable[[int], object] | None = None) -> Floats:
        """Unit float32 rows [n_texts, dim] in the order of the texts, each text cut at `length` tokens.

        Batches hold texts of similar length, padded and masked.
        """
        self._tokenizer.enable_truncation(length)
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        out = np.empty((len(ids), self._model.config.hidden_size), np.float32)  # [n_texts, dim]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        while order:
            size = max(BATCH_TOKENS // len(ids[order[0]]), 1)
            batch, order = order[:size], order[size:]
            out[batch] = self._run([ids[i] for i in batch])
            if progress is not None:
                progress(len(batch))
        return out

    def _run(self, texts: list[list[int]]) -> Floats:
        longest = max(map(len, texts))
        ids = torch.tensor([t + [0] * (longest - len(t)) for t in texts])  # [n_batch, length]
        mask = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in texts])  # [n_batch, length]
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            # The mean is the sum divided by a number, which normalization removes.
            sums = (states * mask[..., None]).sum(dim=1)  # [n_batch, dim]
            rows: Floats = torch.nn.functional.normalize(sums, dim=1).numpy()
        return rows


def ensemble(cosines: Floats, bm25: Floats, weight: float, *, largest: float | None = None) -> Floats:
    """[..., n_docs] each -> [..., n_docs]: cosine + weight * BM25 / the query's largest BM25.

    `largest` is the largest BM25 over all documents, if the scores are of a part of them. A query that shares no word
    with any document is ranked by the cosines alone.
    """
    best = bm25.max(axis=-1, keepdims=True) if largest is None else np.full_like(bm25[..., :1], largest)  # [..., 1]
    share = np.divide(bm25, best, out=np.zeros_like(bm25), where=best > 0)  # [..., n_docs]
    return np.asarray(cosines + np.float32(weight) * share)
