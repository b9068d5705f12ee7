"""The core's search, index and encoder behind the functions that tests/conformance/README.md lists."""

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import refcolbert
from refcolbert.arrays import Floats
from refcolbert.encoding.tokens import TextTokenizer
from refcolbert.engine import codec, ivf
from refcolbert.engine.candidates import generate_candidates
from refcolbert.engine.ragged import Ragged
from refcolbert.engine.ranking import rank
from refcolbert.engine.segments import Segment, SegmentedIndex
from refcolbert.engine.trace import Trace

Terms = Sequence[str]
MODEL = Path(__file__).parents[2] / "tests" / "models" / "tiny"


def search(
    q: Floats,
    documents: Sequence[ArrayLike],
    codes: Sequence[Sequence[int]],
    centroids: Floats,
    k: int,
    nprobe: int,
    keep: int,
) -> list[tuple[int, float]]:
    """The stages of `refcolbert.engine.search`, on raw vectors with given codes."""
    ragged, n = Ragged.from_list(documents), len(documents)
    cells = np.concatenate([np.array(c, np.uint16) for c in codes])
    empty = np.empty((len(cells), 0), np.uint8)
    encoded = codec.Encoded(cells, empty, np.ones(len(cells), np.float16), empty.sum(axis=1).astype(np.uint8))
    norm = float(np.linalg.norm(ragged.vectors, axis=1).max())
    lists = ivf.build(cells, ragged.offsets)
    live = np.ones(n, np.bool_)
    segment = Segment(np.arange(n), ragged.offsets, live, norm, ragged.vectors, encoded, lists)
    held = SegmentedIndex(ragged.dim, None, (segment,))
    asked: Any = SimpleNamespace(centroids=centroids @ q.T)
    (chosen, _), _ = generate_candidates(asked, held, live, k, nprobe, keep, Trace())
    found, scores = rank(q, None, held, chosen, k)
    return list(zip(found.tolist(), scores.tolist(), strict=True))


def held(documents: Sequence[Floats], q: Floats, k: int) -> tuple[list[tuple[int, float]], list[Floats]]:
    """A compressed index, probed in full."""
    with tempfile.TemporaryDirectory() as scratch:
        index = refcolbert.Index.create(Path(scratch) / "i", dim=q.shape[1], train_at=1)
        names = index.add([{} for _ in documents], vectors=list(documents))
        hits = index.search(q, k, nprobe=1 << 16, candidates=len(documents))
        return [(int(hit.id), hit.score) for hit in hits], list(index.vectors(names))


def best_of_groups(scores: Sequence[float], groups: Sequence[str], k: int) -> list[int]:
    """Documents of one column, which is their score, searched with `group_by`."""
    with tempfile.TemporaryDirectory() as scratch:
        index = refcolbert.Index.create(Path(scratch) / "i", dim=1)
        index.add([{"metadata": {"group": name}} for name in groups], vectors=[np.array([[s]]) for s in scores])
        return [int(hit.id) for hit in index.search(np.ones((1, 1)), k, group_by="group")]


class Index:
    """An index in a folder that goes with it."""

    def __init__(self, dim: int, held: refcolbert.Index | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        if held is None:
            held = refcolbert.Index.create(Path(self._folder.name) / "i", dim=dim, words="unicode61")
        self._index = held

    def add(self, ids: Sequence[str], documents: Sequence[ArrayLike], terms: Sequence[Terms] | None = None) -> None:
        """Ready-made vectors, and texts of the terms."""
        texts = [None] * len(ids) if terms is None else map(" ".join, terms)
        named = [{"id": name, "text": text} for name, text in zip(ids, texts, strict=True)]
        self._index.add(named, vectors=list(documents))

    def upsert(self, ids: Sequence[str], documents: Sequence[ArrayLike]) -> None:
        """Ready-made vectors."""
        self._index.upsert([{"id": name} for name in ids], vectors=list(documents))

    def delete(self, ids: Sequence[str]) -> None:
        """By id."""
        self._index.delete(ids)

    def search(self, q: ArrayLike, k: int, ids: Collection[str] | None = None) -> list[tuple[str, float]]:
        """Ids and scores."""
        return [(hit.id, hit.score) for hit in self._index.search(np.asarray(q), k, ids=ids)]

    def search_words(self, terms: Terms, k: int, ids: Collection[str] | None = None) -> list[tuple[str, float]]:
        """A text of the terms."""
        return [(hit.id, hit.score) for hit in self._index.search(" ".join(terms), k, mode="words", ids=ids)]

    def search_hybrid(
        self, q: ArrayLike, terms: Terms, k: int, ids: Collection[str] | None = None
    ) -> list[tuple[str, float]]:
        """A text of the terms with ready-made vectors."""
        hits = self._index.search(" ".join(terms), k, mode="hybrid", vectors=q, ids=ids)
        return [(hit.id, hit.score) for hit in hits]

    def compact(self) -> None:
        """One segment."""
        self._index.compact()

    def reader(self) -> "Index":
        """Another object on the same folder keeps its generation."""
        other = Index(0, refcolbert.Index.open(self._index.path))
        other._folder = self._folder  # the folder lives as long as either
        return other

    def files(self) -> dict[str, bytes]:
        """Return the files of a snapshot, without the lock file."""
        with tempfile.TemporaryDirectory() as scratch:
            self._index.snapshot(Path(scratch) / "s")
            found = {str(p.relative_to(scratch)): p.read_bytes() for p in Path(scratch).rglob("*") if p.is_file()}
        return {name: content for name, content in found.items() if not name.endswith("writer.lock")}

    @staticmethod
    def from_files(files: dict[str, bytes]) -> "Index":
        """Every byte verified."""
        made = tempfile.TemporaryDirectory()
        for name, content in files.items():
            path = Path(made.name) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        index = Index(0, refcolbert.Index.open(Path(made.name) / "s", verify="full"))
        index._folder = made
        return index


class Encoder:
    """The tiny committed model."""

    def __init__(self) -> None:
        self._encoder = refcolbert.Encoder.load(MODEL, threads=1)
        self._tokenizer = TextTokenizer((MODEL / "tokenizer.json").read_text(), self._encoder.spec)

    def queries(self, texts: Sequence[str]) -> list[Floats]:
        """One array a text."""
        return self._encoder.encode_queries(texts)

    def documents(self, texts: Sequence[str]) -> list[Floats]:
        """One array a text."""
        return list(self._encoder.encode_documents(texts))

    def tokens(self, text: str, side: str) -> tuple[list[int], list[bool]]:
        """Ids and kept rows."""
        (found,) = self._tokenizer.queries([text]) if side == "query" else self._tokenizer.documents([text])
        return found.ids.tolist(), found.keep.tolist()

    def frame(self, side: str) -> dict[str, Any]:
        """The switches of one side."""
        spec = self._encoder.spec
        names = {"length": f"{side}_length", "prefix": f"{side}_prefix_ids", "suffix": f"{side}_suffix_ids"}
        frame = {name: getattr(spec, attribute) for name, attribute in names.items()}
        query = side == "query"
        return {
            **frame,
            "expansion": spec.expansion_id if query else None,
            "skiplist": spec.query_skiplist if query else spec.skiplist,
        }
