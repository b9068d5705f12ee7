"""The data that the systems of one collection share: texts, vectors, indexes. Each is made when it is first needed."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from usearch.index import Index as Graph

from refcolbert import Encoder, Index
from refcolbert.arrays import Floats
from refcolbert.engine.ragged import Ragged
from refcolbert.evaluation.plan import parts_of
from refcolbert_export.cross_encoder import CrossEncoder
from refcolbert_export.mining.teachers import BM25
from tools.collections import Collection
from tools.compare.cells import digest_of
from tools.compare.flops import Cost, cost_of
from tools.compare.sentences import LENGTH, Sentences
from tools.training.embeddings import embed

__all__ = ["GRAPH", "RAW", "Cross", "Models", "Parts", "cross_encoder", "token_vectors"]


RAW = "float16"  # how an index keeps raw vectors
GRAPH = {"connectivity": 16, "expansion_add": 128, "expansion_search": 64}  # usearch's own defaults
SHARD = 256  # documents encoded at a time: an interrupted run loses no more


@dataclass(frozen=True)
class Cross:
    """A cross-encoder, and the hash of its folder."""

    scorer: CrossEncoder
    cost: Cost
    hash: str


def cross_encoder(folder: Path, threads: int | None = None) -> Cross:
    """Load an exported cross-encoder. Raises `InvalidModel`."""
    scorer = CrossEncoder.load(folder, threads=threads)
    content = hashlib.sha256()
    for name in ("model.onnx", "tokenizer.json", "cross_encoder.json"):
        content.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return Cross(scorer, cost_of(folder), content.hexdigest())


@dataclass(frozen=True)
class Models:
    """The models of a run."""

    encoder: Encoder
    sentences: Sentences
    cross: Cross | None

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """Multiplications of the encoders' graphs, by the names of `hashes`."""
        return {"encoder": cost_of(self.encoder.folder), "sentences": cost_of(self.sentences.folder)}

    @property
    def hashes(self) -> dict[str, str]:
        """Content hash of each model, by name."""
        hashes = {"encoder": self.encoder.hash, "sentences": self.sentences.hash}
        return hashes if self.cross is None else {**hashes, "cross": self.cross.hash}


def token_vectors(encoder: Encoder, texts: list[str], folder: Path, say: Callable[[str], object]) -> Iterator[Floats]:
    """[n_d, dim] of each text, encoded in shards that are kept in `folder` by what they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(texts), SHARD):
        shard = texts[first : first + SHARD]
        name = hashlib.sha256("\0".join([encoder.hash, *shard]).encode()).hexdigest()[:32]
        path = folder / f"{name}.npz"
        if not path.is_file():
            say(f"encoding texts {first} to {first + len(shard)} of {len(texts)}")
            vectors = encoder.encode_documents(shard)
            part = path.with_suffix(".part.npz")
            np.savez(part, vectors=vectors.vectors, offsets=vectors.offsets)
            part.replace(path)
        with np.load(path) as kept:
            yield from Ragged(kept["vectors"], kept["offsets"])


class Parts:
    """One collection as the systems see it; documents are numbered as the collection has them."""

    def __init__(self, collection: Collection, models: Models, work: Path, say: Callable[[str], object]) -> None:
        self.collection, self.models, self.work, self.say = collection, models, work, say
        self.digest = digest_of(collection)
        self.texts = collection.texts
        self.ids = [document.id for document in collection.documents]
        self._indexes: dict[int | str, Index] = {}

    @cached_property
    def bm25(self) -> BM25:
        """The inverted index."""
        return BM25(self.texts)

    @property
    def bm25_bytes(self) -> float:
        """Bytes of the inverted index's arrays."""
        return float(sum(a.nbytes for a in self.bm25._index.scores.values() if isinstance(a, np.ndarray)))

    @property
    def text_bytes(self) -> float:
        """Bytes of the documents' texts in UTF-8."""
        return float(sum(len(text.encode()) for text in self.texts))

    @cached_property
    def rows(self) -> Floats:
        """[n_docs, dim] the bi-encoder's vectors."""
        encoder = self.models.sentences
        return embed(encoder, self.texts, LENGTH, self.work / "sentences" / encoder.hash[:16])

    @cached_property
    def graph(self) -> Graph:
        """The bi-encoder's vectors in a navigable small-world graph, added in order by one thread."""
        path = self.work / "indexes" / self._name("graph", self.models.sentences.hash)
        graph = Graph(ndim=self.rows.shape[1], metric="ip", dtype="f32", **GRAPH)
        if path.is_file():
            graph.load(str(path))
            return graph
        path.parent.mkdir(parents=True, exist_ok=True)
        graph.add(np.arange(len(self.rows)), self.rows, threads=1)
        graph.save(str(path.with_suffix(".part")))
        path.with_suffix(".part").replace(path)
        return graph

    def index(self, nbits: int | str) -> Index:
        """An index of all documents, opened once."""
        if nbits not in self._indexes:
            path = self.work / "indexes" / self._name(str(nbits), self.models.encoder.hash)
            self._indexes[nbits] = Index.open(path, verify="fast") if path.exists() else self._build(path, nbits)
        return self._indexes[nbits]

    def _build(self, path: Path, nbits: int | str) -> Index:
        self.say(f"{self.collection.name}: index of {nbits} bits")
        path.parent.mkdir(parents=True, exist_ok=True)
        encoder = self.models.encoder
        vectors = token_vectors(encoder, self.texts, self.work / "tokens", self.say)
        return Index.build(path, self.collection.documents, nbits=nbits, vectors=vectors, dim=encoder.dim, train_at=1)

    def index_bytes(self, nbits: int | str, left_out: tuple[str, ...] = ("texts",)) -> int:
        """Bytes of the files of an index, some parts (`refcolbert.evaluation.plan.PARTS`) left out."""
        sizes = parts_of(self.index(nbits).info()["bytes_of"])
        return sum(size for part, size in sizes.items() if part not in left_out)

    def close(self) -> None:
        """Close the indexes."""
        for index in self._indexes.values():
            index.close()
        self._indexes = {}

    def _name(self, what: str, model: str) -> str:
        return f"{self.collection.name}-{self.digest}-{model[:16]}-{what}"
