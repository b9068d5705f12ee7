"""Hard negatives for one's own queries and documents, with a teacher's scores: the verb `refcolbert mine`.

Candidates are the first documents of BM25, of a ColBERT model if there is one (the current one: what it confuses is
what it must learn next), and of a bi-encoder if there is one. The teacher is BM25 together with the bi-encoder, else
with the ColBERT model's mean MaxSim a query token, else alone (`teachers.ensemble`). Scores are written times `SCALE`,
as logarithms: what `refcolbert train --loss kl` takes as they are.
"""

import gzip
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from refcolbert import Encoder, Index
from refcolbert.arrays import Floats, Ints
from refcolbert.documents import Document
from refcolbert.engine.topk import top_k
from refcolbert.errors import InvalidInput

from ..training.data import Example
from .choice import Choice, choose, denoise
from .teachers import BM25, BiEncoder, ensemble

__all__ = ["DEPTH", "MARGIN", "SCALE", "WEIGHT", "Miner", "write_examples"]


WEIGHT = 0.4  # of BM25 beside a cosine
SCALE = 20.0  # what MiniLM's training multiplied cosines with
DEPTH = 50  # candidates of each ranking
MARGIN = 0.05  # of the teacher, below the positive
LENGTH = 256  # tokens of a text that the bi-encoder reads


class Ranker(Protocol):
    """A ranking of all documents for the i-th query, and scores of some on the scale of a cosine."""

    def first(self, i: int, depth: int) -> Ints:
        """Its first documents, best first: [at most depth]."""
        ...

    def scores(self, i: int, documents: Ints) -> Floats:
        """[n] documents -> [n]."""
        ...


class _Cosines:
    """A bi-encoder, all of its vectors in memory."""

    def __init__(self, folder: Path, queries: Sequence[str], documents: Sequence[str]) -> None:
        encoder = BiEncoder(folder)
        with tqdm(total=len(queries) + len(documents), desc="bi-encoder", unit="text") as bar:
            self._queries = encoder.encode(queries, LENGTH, bar.update)  # [n_queries, dim]
            self._documents = encoder.encode(documents, LENGTH, bar.update)  # [n_docs, dim]

    def first(self, i: int, depth: int) -> Ints:
        return top_k(self._documents @ self._queries[i], depth)

    def scores(self, i: int, documents: Ints) -> Floats:
        return np.asarray(self._documents[documents] @ self._queries[i])


class _MaxSim:
    """A ColBERT model with an index of the documents; scores are means over the query's tokens."""

    def __init__(self, encoder: Encoder, queries: Sequence[str], documents: Sequence[str], folder: Path) -> None:
        named = [Document(id=str(i), text=text) for i, text in enumerate(documents)]
        self._index = Index.build(folder / "index", named, encoder, progress=True)
        self._queries = encoder.encode_queries(queries)

    def first(self, i: int, depth: int) -> Ints:
        return np.array([int(hit.id) for hit in self._index.search(self._queries[i], depth)], np.int64)

    def scores(self, i: int, documents: Ints) -> Floats:
        query = self._queries[i]  # [n_q, dim]
        hits = self._index.search(query, len(documents), ids=[str(n) for n in documents], exact=True)
        found = {int(hit.id): hit.score / len(query) for hit in hits}
        return np.array([found[n] for n in documents.tolist()], np.float32)


class Miner:
    """Rankings over the documents of some examples and of a corpus; gives each example its negatives."""

    def __init__(
        self,
        examples: Sequence[Example],
        corpus: Iterable[str],
        scratch: Path,
        *,
        model: Encoder | None = None,
        bi_encoder: Path | None = None,
    ) -> None:
        """`scratch` is a folder for an index. Texts that are equal are one document."""
        texts = [text for example in examples for text in (*example.positives, *example.negatives)]
        self.documents = list(dict.fromkeys([*texts, *(text for text in corpus if text.strip())]))
        self._places = {text: i for i, text in enumerate(self.documents)}
        self._examples = examples
        self._bm25 = BM25(self.documents)
        queries = [example.query for example in examples]
        self._rankers: list[Ranker] = []  # the first one is the teacher beside BM25
        if bi_encoder is not None:
            self._rankers.append(_Cosines(bi_encoder, queries, self.documents))
        if model is not None:
            self._rankers.append(_MaxSim(model, queries, self.documents, scratch))

    def mine(
        self, *, choice: Choice | None = None, depth: int = DEPTH, margin: float = MARGIN, seed: int = 0
    ) -> Iterator[Example]:
        """The examples with new negatives and the teacher's scores, positives first. The same seed chooses the same.

        Negatives are scored more than `margin` below the least of the positives; some examples may get none.
        """
        choice = choice or Choice()
        for i, example in enumerate(tqdm(self._examples, desc="mine", unit="query")):
            yield self._example(i, example, choice, depth, margin, np.random.default_rng([seed, i]))

    def _example(
        self, i: int, example: Example, choice: Choice, depth: int, margin: float, draw: np.random.Generator
    ) -> Example:
        bm25 = self._bm25.scores(example.query)  # [n_docs]
        positives = np.array([self._places[text] for text in example.positives], np.int64)
        firsts = [top_k(bm25, depth), *(ranker.first(i, depth) for ranker in self._rankers)]
        others = draw.choice(len(bm25), min(len(bm25), 8 * choice.random), replace=False)
        near = np.unique(np.concatenate([positives, others, *firsts]))  # [n] documents that are looked at
        teacher = self._teacher(i, near, bm25)  # [n]
        least = int(np.argmin(np.where(np.isin(near, positives), teacher, np.inf)))
        found = np.flatnonzero(np.isin(near, np.concatenate(firsts)) & ~np.isin(near, positives))
        chosen = choose(denoise(found, teacher, least, margin), teacher, least, draw, choice)
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

    Raises `InvalidInput` if there is something at `path`. It appears once, complete.
    """
    if path.exists():
        raise InvalidInput(f"there is already something at {path}; remove it or choose another place")
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
