"""Adds hard negatives and a teacher's scores to the examples of a file: the verb `refcolbert mine`.

Candidates are the first documents of BM25, of a ColBERT model and of a bi-encoder, if they are given. The ColBERT
model is the one to be trained further: it must learn to separate the documents that it confuses. The teacher is BM25
plus the bi-encoder, else BM25 plus the ColBERT model's mean MaxSim per query token, else BM25 alone
(`teachers.ensemble`). Scores are multiplied by `SCALE`: `refcolbert train --loss kl` takes them as logits.
"""

import gzip
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from refcolbert import Encoder, Index
from refcolbert.arrays import Floats, Ints
from refcolbert.documents import Document
from refcolbert.engine.topk import top_k
from refcolbert.errors import InvalidInput

from ..replace_folder import check_free
from ..training.data import Example
from .choice import Choice, choose, denoise
from .teachers import BM25, BiEncoder, ensemble

__all__ = ["DEPTH", "MARGIN", "SCALE", "WEIGHT", "Miner", "write_examples"]

# Weight of BM25 in the sum with a cosine.
WEIGHT = 0.4
# The factor of cosines in MiniLM's training.
SCALE = 20.0
# Candidates of each ranking.
DEPTH = 50
# Least difference of teacher scores between a positive and a negative.
MARGIN = 0.05
# Tokens per text that the bi-encoder reads.
LENGTH = 256


class _Cosines:
    """Rankings by a bi-encoder, with all vectors in memory."""

    def __init__(self, folder: Path, queries: Sequence[str], documents: Sequence[str]) -> None:
        encoder = BiEncoder(folder)
        with tqdm(total=len(queries) + len(documents), desc="bi-encoder", unit="text") as bar:
            self._queries = encoder.encode(queries, LENGTH, bar.update)  # [n_queries, dim]
            self._documents = encoder.encode(documents, LENGTH, bar.update)  # [n_docs, dim]

    def first(self, i: int, depth: int) -> Ints:  # -> [at most depth]
        """The first documents for the i-th query, best first."""
        return top_k(self._documents @ self._queries[i], depth)

    def scores(self, i: int, documents: Ints) -> Floats:  # [n] -> [n]
        """Scores of documents for the i-th query, on the scale of a cosine."""
        return np.asarray(self._documents[documents] @ self._queries[i])


class _MaxSim:
    """Rankings by a ColBERT model with an index of the documents. Scores are means over the query's tokens."""

    def __init__(self, encoder: Encoder, queries: Sequence[str], documents: Sequence[str], folder: Path) -> None:
        named = [Document(id=str(i), text=text) for i, text in enumerate(documents)]
        self._index = Index.build(folder / "index", named, encoder, progress=True)
        self._queries = encoder.encode_queries(queries)

    def first(self, i: int, depth: int) -> Ints:  # -> [at most depth]
        """The first documents for the i-th query, best first."""
        return np.array([int(hit.id) for hit in self._index.search(self._queries[i], depth)], np.int64)

    def scores(self, i: int, documents: Ints) -> Floats:  # [n] -> [n]
        """Scores of documents for the i-th query, on the scale of a cosine."""
        query = self._queries[i]  # [n_q, dim]
        hits = self._index.search(query, len(documents), ids=[str(n) for n in documents], exact=True)
        scores = {int(hit.id): hit.score / len(query) for hit in hits}
        return np.array([scores[n] for n in documents.tolist()], np.float32)


class Miner:
    """Rankings over the documents of examples and of a corpus, from which each example gets negatives."""

    def __init__(
        self,
        examples: Sequence[Example],
        corpus: Iterable[str],
        scratch: Path,
        *,
        model: Encoder | None = None,
        bi_encoder: Path | None = None,
    ) -> None:
        """Rank the texts of `examples` and `corpus`. Equal texts are one document.

        scratch     a folder for an index
        model       a ColBERT model as ranker
        bi_encoder  the folder of a sentence encoder as ranker and teacher
        """
        texts = [text for example in examples for text in (*example.positives, *example.negatives)]
        self.documents = list(dict.fromkeys([*texts, *(text for text in corpus if text.strip())]))
        self._places = {text: i for i, text in enumerate(self.documents)}
        self._examples = examples
        self._bm25 = BM25(self.documents)
        queries = [example.query for example in examples]
        # The first ranker is the teacher, together with BM25.
        self._rankers: list[_Cosines | _MaxSim] = []
        if bi_encoder is not None:
            self._rankers.append(_Cosines(bi_encoder, queries, self.documents))
        if model is not None:
            self._rankers.append(_MaxSim(model, queries, self.documents, scratch))

    def mine(
        self, *, choice: Choice | None = None, depth: int = DEPTH, margin: float = MARGIN, seed: int = 0
    ) -> Iterator[Example]:
        """The examples with new negatives and the teacher's scores, positives first. Equal seeds give equal negatives.

        choice  number of negatives of each kind
        depth   candidates of each ranking
        margin  negatives are scored more than this below every positive; an example may get none
        """
        choice = choice or Choice()
        for i, example in enumerate(tqdm(self._examples, desc="mine", unit="query")):
            yield self._example(i, example, choice, depth, margin, np.random.default_rng([seed, i]))

    def _example(
        self, i: int, example: Example, choice: Choice, depth: int, margin: float, draw: np.random.Generator
    ) -> Example:
        """The i-th example with new negatives and scores."""
        bm25 = self._bm25.scores(example.query)  # [n_docs]
        positives = np.array([self._places[text] for text in example.positives], np.int64)
        firsts = [top_k(bm25, depth), *(ranker.first(i, depth) for ranker in self._rankers)]
        others = draw.choice(len(bm25), min(len(bm25), 8 * choice.random), replace=False)
        near = np.unique(np.concatenate([positives, others, *firsts]))  # [n]
        teacher = self._teacher(i, near, bm25)  # [n]
        least = int(np.argmin(np.where(np.isin(near, positives), teacher, np.inf)))
        candidates = np.flatnonzero(np.isin(near, np.concatenate(firsts)) & ~np.isin(near, positives))
        chosen = choose(denoise(candidates, teacher, least, margin), teacher, least, draw, choice)
        chosen = chosen[~np.isin(near[chosen], positives)]
        scored = [*np.searchsorted(near, positives).tolist(), *chosen.tolist()]
        return Example(
            example.query,
            example.positives,
            tuple(self.documents[n] for n in near[chosen].tolist()),
            tuple(round(SCALE * float(teacher[n]), 4) for n in scored),
        )

    def _teacher(self, i: int, near: Ints, bm25: Floats) -> Floats:
        cosines = self._rankers[0].scores(i, near) if self._rankers else np.zeros(len(near), np.float32)  # [n]
        return ensemble(cosines, bm25[near], WEIGHT if self._rankers else 1.0, largest=float(bm25.max()))


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write JSONL that `read_examples` reads, packed if the name ends in .gz, and return the number of lines.

    The file appears when it is complete. Raises `InvalidInput` when `path` exists.
    """
    check_free(path, InvalidInput)
    count = 0
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        staged = Path(folder) / "lines"
        with staged.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, 0) if path.suffix == ".gz" else raw as packed:
            for example in examples:
                packed.write((json.dumps(_record(example), ensure_ascii=False) + "\n").encode())
                count += 1
        staged.rename(path)
    return count


def _record(example: Example) -> dict[str, object]:
    one = len(example.positives) == 1
    positives = {"positive": example.positives[0]} if one else {"positives": list(example.positives)}
    return {
        "query": example.query,
        **positives,
        "negatives": list(example.negatives),
        "scores": list(example.scores or ()),
    }
