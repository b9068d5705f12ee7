"""Tune: how much of the exact answer a search with fewer probes and candidates finds, how fast, and what to choose.

Recall@k of a query is the share of its k best documents, by an exact scan of the same index, that a search returns; so
it measures what choosing candidates loses, not what compression does. Times are those of this machine and moment, of
one query after the other, without encoding.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..arguments import Query
from ..arrays import Floats
from ..checks import check_count
from ..engine.search import SearchOptions, search
from ..engine.segments import SegmentedIndex
from ..errors import InvalidInput
from ..index import Index

__all__ = ["GRID", "N_QUERIES", "Setting", "Tuning", "sample_queries", "tune"]


GRID = (
    *((1, 32), (2, 64), (2, 128), (4, 128), (4, 256), (8, 256), (8, 512), (16, 512)),
    *((16, 1024), (32, 2048), (64, 4096), (128, 8192)),
)  # (nprobe, candidates), ever more work
N_QUERIES = 100
WORDS = (4, 32)  # a sentence that makes a query has so many


@dataclass(frozen=True, slots=True)
class Setting:
    """What a search with these parameters found and took."""

    nprobe: int
    candidates: int
    recall: float  # mean recall@k
    p50: float  # milliseconds
    p95: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """The curve, and the first setting on it that reaches the target: None when none does."""

    k: int
    target: float
    n_queries: int
    exact_p50: float  # milliseconds of the exact scan
    settings: tuple[Setting, ...]
    recommended: Setting | None


def tune(
    index: Index,
    queries: Iterable[Query] | None = None,
    *,
    k: int = 10,
    target: float = 0.95,
    n_queries: int = N_QUERIES,
    seed: int = 0,
) -> Tuning:
    """Measure search over GRID, up to where every document is ranked, against the exact scan.

    `queries` are texts or arrays, best of all real ones; without them `sample_queries` draws `n_queries`.
    Raises `InvalidInput` for an empty index, no queries, k below 1 or a target outside 0 to 1.
    """
    k = check_count(k, "k")
    if not 0 < target <= 1:
        raise InvalidInput(f"target must be a recall above 0 and at most 1, found {target!r}")
    chosen = sample_queries(index, n_queries, seed) if queries is None else list(queries)
    if not chosen:
        raise InvalidInput("there is nothing to tune with: expected at least one query and one document")
    arrays, collection = index.query_vectors(chosen), index.segmented
    exact = [_timed(q, collection, k, SearchOptions(exact=True)) for q in arrays]
    settings = []
    for nprobe, candidates in GRID:
        found = [_timed(q, collection, k, SearchOptions(nprobe=nprobe, candidates=candidates)) for q in arrays]
        recalls = [len(f & e) / max(len(e), 1) for (f, _), (e, _) in zip(found, exact, strict=True)]
        p50, p95 = np.percentile([took for _, took in found], [50, 95])
        settings.append(Setting(nprobe, candidates, float(np.mean(recalls)), float(p50), float(p95)))
        if candidates >= len(index):
            break
    recommended = next((setting for setting in settings if setting.recall >= target), None)
    exact_p50 = float(np.median([took for _, took in exact]))
    return Tuning(k, target, len(arrays), exact_p50, tuple(settings), recommended)


def sample_queries(index: Index, n: int, seed: int) -> Sequence[Query]:
    """n queries from the documents' own sentences, one a document, drawn with a seed.

    Where the index has no encoder, a run of up to 32 vectors of a document stands for a sentence.
    """
    rng = np.random.default_rng(seed)
    names = index.ids()
    drawn = [names[i] for i in rng.permutation(len(names))[: check_count(n, "n_queries")]]
    if index.info()["encoder"] is None:
        return [_run(vectors, rng) for vectors in index.vectors(drawn)] if drawn else []
    texts = [document.text or "" for document in index.get(drawn)]
    return [sentence for text in texts if (sentence := _sentence(text, rng))]


def _sentence(text: str, rng: np.random.Generator) -> str:
    """A sentence of the text with enough words, or the first of its words."""
    fewest, most = WORDS
    sentences = [s.strip() for s in re.split(r"(?<=[.!?])\s+", text)]
    fitting = [s for s in sentences if fewest <= len(s.split()) <= most]
    return fitting[rng.integers(len(fitting))] if fitting else " ".join(text.split()[:most])


def _run(vectors: Floats, rng: np.random.Generator) -> Floats:
    length = min(32, len(vectors))
    first = int(rng.integers(len(vectors) - length + 1))
    return np.ascontiguousarray(vectors[first : first + length])


def _timed(
    q: Floats,
    collection: SegmentedIndex,
    k: int,
    options: SearchOptions,
) -> tuple[set[int], float]:
    """The documents found, and the milliseconds it took."""
    start = time.perf_counter()
    found = search(q, collection, k, options)
    return set(found.documents.tolist()), (time.perf_counter() - start) * 1e3
