"""Recall and latency of searches with more and more probes and candidates, and the cheapest that suffices.

Recall@k of a query is the share of its k best documents by an exact search of the same index that a search returns. So
it measures the loss by choosing candidates, not the loss by compression. Times are those of this machine, one query
after the other, without encoding.
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
from ..reading import IndexReader

__all__ = ["GRID", "N_QUERIES", "Setting", "Tuning", "sample_queries", "tune"]


GRID = (
    *((1, 32), (2, 64), (2, 128), (4, 128), (4, 256), (8, 256), (8, 512), (16, 512)),
    *((16, 1024), (32, 2048), (64, 4096), (128, 8192)),
)  # (nprobe, candidates), by increasing work
N_QUERIES = 100
MIN_WORDS, MAX_WORDS = 4, 32  # of a sentence that is used as a query
MAX_VECTORS = 32  # of a query, when there is no encoder


@dataclass(frozen=True, slots=True)
class Setting:
    """Recall and latency of searches with these options."""

    nprobe: int
    candidates: int
    recall: float  # mean recall@k
    p50: float  # milliseconds
    p95: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """The measured settings, and the first of them that reaches the target."""

    k: int
    target: float
    n_queries: int
    exact_p50: float  # milliseconds of the exact search
    settings: tuple[Setting, ...]  # in the order of GRID
    recommended: Setting | None  # None if no setting reaches the target


def tune(
    index: IndexReader,
    queries: Iterable[Query] | None = None,
    *,
    k: int = 10,
    target: float = 0.95,
    n_queries: int = N_QUERIES,
    seed: int = 0,
) -> Tuning:
    """Measure searches with the settings of GRID, up to the first that ranks every document.

    index        at least one document
    queries      texts or arrays [n_q, dim]; real ones are best; default: drawn from the documents (`sample_queries`)
    k            documents per query
    target       recall@k that the recommended setting must reach
    n_queries    number of queries that are drawn
    seed         of the drawing

    Raises `InvalidInput` for an empty index, no queries, k below 1 or a target outside 0 to 1.

    >>> import tempfile
    >>> from refcolbert import Index, tune
    >>> rng = np.random.default_rng(0)
    >>> vectors = [rng.standard_normal((20, 16)) for _ in range(200)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Index.build(f"{folder}/index", [{"id": str(i)} for i in range(200)], vectors=vectors, dim=16) as index:
    ...         tuning = tune(index, n_queries=5, target=0.9)
    >>> tuning.recommended.recall >= 0.9
    True
    """
    k = check_count(k, "k")
    if not 0 < target <= 1:
        raise InvalidInput(f"target must be a recall above 0 and at most 1, found {target!r}")
    chosen = sample_queries(index, n_queries, seed) if queries is None else list(queries)
    if not chosen:
        raise InvalidInput("expected at least one query and one document, found none: there is nothing to tune with")
    arrays, segmented = index.query_vectors(chosen), index.segmented
    exact = [_search_timed(q, segmented, k, SearchOptions(exact=True)) for q in arrays]
    settings = []
    for nprobe, candidates in GRID:
        options = SearchOptions(nprobe=nprobe, candidates=candidates)
        answers = [_search_timed(q, segmented, k, options) for q in arrays]
        # An exact answer has fewer than k documents when the index does, and none when all are deleted.
        recalls = [len(a & e) / max(len(e), 1) for (a, _), (e, _) in zip(answers, exact, strict=True)]
        p50, p95 = np.percentile([milliseconds for _, milliseconds in answers], [50, 95])
        settings.append(Setting(nprobe, candidates, float(np.mean(recalls)), float(p50), float(p95)))
        if candidates >= len(index):  # such a search ranks every document, and so would all that follow
            break
    recommended = next((setting for setting in settings if setting.recall >= target), None)
    exact_p50 = float(np.median([milliseconds for _, milliseconds in exact]))
    return Tuning(k, target, len(arrays), exact_p50, tuple(settings), recommended)


def sample_queries(
    index: IndexReader,
    n: int,
    seed: int,
) -> Sequence[Query]:
    """Return up to n queries: one random sentence of each of n random documents.

    Documents without text give no query. If the index has no encoder, a query is a run of up to MAX_VECTORS
    neighbouring vectors of a document.
    """
    rng = np.random.default_rng(seed)
    ids = index.ids()
    drawn = [ids[i] for i in rng.permutation(len(ids))[: check_count(n, "n_queries")]]
    if index.info()["encoder"] is None:
        return [_random_run(vectors, rng) for vectors in index.vectors(drawn)] if drawn else []
    texts = [document.text or "" for document in index.get(drawn)]
    return [sentence for text in texts if (sentence := _random_sentence(text, rng))]


def _random_sentence(text: str, rng: np.random.Generator) -> str:
    """Return a sentence of MIN_WORDS to MAX_WORDS words, or the first MAX_WORDS words if there is none."""
    sentences = [sentence.strip() for sentence in re.split(r"(?<=[.!?])\s+", text)]
    fitting = [sentence for sentence in sentences if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS]
    return fitting[rng.integers(len(fitting))] if fitting else " ".join(text.split()[:MAX_WORDS])


def _random_run(vectors: Floats, rng: np.random.Generator) -> Floats:
    """[n_d, dim] -> [n, dim] neighbouring rows."""
    length = min(MAX_VECTORS, len(vectors))
    first = int(rng.integers(len(vectors) - length + 1))
    return np.ascontiguousarray(vectors[first : first + length])


def _search_timed(
    q: Floats,  # [n_q, dim]
    segmented: SegmentedIndex,
    k: int,
    options: SearchOptions,
) -> tuple[set[int], float]:
    """Return the documents of the answer, and the milliseconds of the search."""
    start = time.perf_counter()
    documents = search(q, segmented, k, options).documents
    milliseconds = (time.perf_counter() - start) * 1e3
    return set(documents.tolist()), milliseconds
