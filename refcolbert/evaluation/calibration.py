"""Calibration: how long this machine takes for each step of building and searching, measured in a few seconds.

The steps are run as they are, on synthetic data of the shape that is asked about: as many centroids, as long documents,
the same bits. Only the number of vectors is smaller, and what is measured is time for each of them:

    encode     a document of n tokens takes a n + b n^2: full batches of two lengths
    fit        k-means takes n (a + b sqrt(K)) for n vectors and K centroids: two small K; plus choosing the steps
    compress   nearest centroid, buckets and packing of a token, at the K that is asked about
    store      a token staged, merged, hashed and opened again, its share of the texts included
    centroids, cells      of one query, at that K
    candidates, prune, refine, rank, scan      for an entry of a probed list, a token of a document that is pruned,
               refined or ranked, a raw token scanned
    answer     reading k documents and making hits

How many entries a search meets is estimated. Of n_q * nprobe probed cells UNIQUE are different ones, and their lists
are LOADED times as long as the mean one; DISTINCT of the tokens of a document go to a cell that no other of them went
to, and NEAREST of them are what refining reads. All four are what judged collections with the default model show
(`python -m tools.bench.plan`, the last one `tools.bench.stages`).

Times are medians of a few runs, with as many threads as NumPy and ONNX Runtime take by themselves: what else runs on
the machine while they are measured is in them.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..encoding.encoder import BATCH_TOKENS, Encoder
from ..engine import codec as codecs
from ..engine import ivf, kmeans
from ..engine.candidates import PRUNE_FACTOR, REFINE_EXTRA, REFINE_FACTOR, candidates_from_lists
from ..engine.codec import Codec, Encoded
from ..engine.ragged import Ragged, offsets_of
from ..engine.search import CANDIDATES, NPROBE, SearchOptions, search
from ..engine.segments import Segment, SegmentedIndex
from ..index import Index
from ..storage.format import RAW

__all__ = ["DISTINCT", "LOADED", "NEAREST", "UNIQUE", "Calibration", "Shape", "calibrate"]


RUNS = 5  # of which the median is taken
LONGEST = 1024  # tokens of a document that encoding is timed with
FIT = ((256, 1 << 14), (4096, 1 << 15))  # (centroids, vectors) of the two runs of k-means
STORED_TOKENS = 1 << 16
SEARCHED_TOKENS = 1 << 19
LISTED = 1 << 18  # entries of the probed lists
DISTINCT = 0.57  # entries of inverted lists for each token
UNIQUE = 0.5  # of the cells that query tokens probe
LOADED = 1.3  # times the mean list that a probed one is long
NEAREST = 0.28  # of the tokens of a document that refining reads
SCATTER = 0.5  # how far synthetic tokens lie from their centroid


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is asked about."""

    dim: int
    n_q: int  # vectors of a query
    n_docs: int
    tokens: float  # of a document, as they are stored
    n_centroids: int
    nbits: int | str
    text_bytes: int  # of a document
    k: int = 10
    nprobe: int = NPROBE
    candidates: int = CANDIDATES

    @property
    def cells(self) -> float:
        """Different cells that a query probes."""
        return min(UNIQUE * self.n_q * self.nprobe, self.n_centroids)

    @property
    def entries(self) -> float:
        """Entries of their lists."""
        return min(self.cells / self.n_centroids * LOADED, 1.0) * DISTINCT * self.n_docs * self.tokens

    @property
    def found(self) -> float:
        """Documents in those lists: as many as if entries fell on documents by chance."""
        return self.n_docs * -float(np.expm1(-self.entries / self.n_docs))

    @property
    def refined(self) -> float:
        """Documents that pruning leaves."""
        return min(self.found, self.candidates)

    @property
    def ranked(self) -> float:
        """Documents that are ranked exactly."""
        if self.n_docs <= self.candidates:
            return self.n_docs
        return min(self.refined, REFINE_FACTOR * self.k + REFINE_EXTRA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Seconds, see the module docstring. Those of steps that the shape does not have are 0."""

    query: float  # encode one query
    token: float  # encode a document: for each token,
    pair: float  # and for each pair of tokens
    fit_steps: float
    fit_vector: float  # for each vector of k-means,
    fit_root: float  # and each vector times sqrt(K)
    compress: float  # a token
    store: float  # a token
    centroids: float  # a query
    cells: float  # a query
    candidates: float  # an entry of a probed list
    prune: float  # a token
    refine: float  # a token
    rank: float  # a token
    scan: float  # a raw token
    answer: float  # a query


def calibrate(shape: Shape, encoder: Encoder | None = None, seed: int = 0) -> Calibration:
    """Measure this machine. Without an encoder the times of encoding are 0."""
    rng = np.random.default_rng(seed)
    query = 0.0 if encoder is None else _median(lambda: encoder.encode_queries([_text(rng, 8)]))
    token, pair = (0.0, 0.0) if encoder is None else _encoding(encoder, rng)
    store, answer = _storing(shape, rng)
    coded = not isinstance(shape.nbits, str)
    return Calibration(
        query=query,
        token=token,
        pair=pair,
        store=store,
        answer=answer,
        scan=_scanning(shape, rng),
        **(_fitting(shape, rng) if coded else dict.fromkeys(("fit_steps", "fit_vector", "fit_root"), 0.0)),
        **(_coded(shape, rng) if coded else dict.fromkeys(CODED, 0.0)),
    )


CODED = ("compress", "centroids", "cells", "candidates", "prune", "refine", "rank")


def _encoding(encoder: Encoder, rng: np.random.Generator) -> tuple[float, float]:
    """(a, b) of a document of n tokens."""
    longest = min(encoder.spec.document_length, LONGEST)
    lengths: list[float] = []
    seconds: list[float] = []
    for wanted in (max(longest // 8, 4), longest):
        texts = [_text(rng, wanted) for _ in range(max(BATCH_TOKENS // wanted, 1))]
        lengths.append(float(np.mean([len(tokens.ids) for tokens in encoder.tokenizer.documents(texts)])))
        seconds.append(_median(lambda texts=texts: encoder.encode_documents(texts), 3) / len(texts))  # type: ignore[misc]
    (short, long), (first, second) = lengths, seconds
    pair = max(second / long - first / short, 0.0) / max(long - short, 1)
    return max(second / long - pair * long, 0.0), pair


def _text(rng: np.random.Generator, words: int) -> str:
    """Words of one letter, which are one token each."""
    return " ".join(rng.choice(list(ascii_lowercase), words))


def _fitting(shape: Shape, rng: np.random.Generator) -> dict[str, float]:
    seconds = []
    for n_centroids, n in FIT:
        vectors = _near(_unit(rng, n_centroids, shape.dim), rng.integers(0, n_centroids, n), rng)
        seconds.append(_median(lambda v=vectors, k=n_centroids: kmeans.fit(v, k, 0), 1) / n)  # type: ignore[misc]
    roots = [np.sqrt(n_centroids) for n_centroids, _ in FIT]
    root = max(float((seconds[1] - seconds[0]) / (roots[1] - roots[0])), 0.0)
    steps = _median(lambda: codecs.fit(vectors[: codecs.RESIDUAL_SAMPLE], 16, int(shape.nbits), 0), 1)
    return {"fit_steps": steps, "fit_vector": max(seconds[0] - root * float(roots[0]), 0.0), "fit_root": root}


def _storing(shape: Shape, rng: np.random.Generator) -> tuple[float, float]:
    """Seconds of a token in a small build of raw vectors, and of what a search does besides searching."""
    length = max(round(shape.tokens), 1)
    n_docs = max(min(STORED_TOKENS // length, shape.n_docs), 1)
    vectors = Ragged(_unit(rng, n_docs * length, shape.dim), np.arange(n_docs + 1) * length)
    documents = [{"id": str(i), "text": "x" * shape.text_bytes} for i in range(n_docs)]
    raw = shape.nbits if shape.nbits in RAW else "float16"
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        index = Index.build(Path(folder) / "i", documents, vectors=vectors, dim=shape.dim, nbits=raw)
        took = time.perf_counter() - start
        q = _unit(rng, shape.n_q, shape.dim)
        whole = _median(lambda: index.search(q, shape.k))
        inside = _median(lambda: search(q, index.segmented, shape.k))
        index.close()
    return took / len(vectors.vectors), max(whole - inside, 0.0)


def _coded(shape: Shape, rng: np.random.Generator) -> dict[str, float]:
    """Compressing, and the stages of a search in a collection of random codes."""
    codec = _codec(shape, rng)
    some = _near(codec.centroids, rng.integers(0, shape.n_centroids, codecs.CHUNK), rng)
    compress = _median(lambda: codec.encode(some), 3) / len(some)
    segment = _segment(shape, rng)
    collection, length = SegmentedIndex(shape.dim, codec, (segment,)), int(segment.offsets[1])
    keep = max(min(shape.candidates, len(segment) // (2 * PRUNE_FACTOR)), 1)  # fewer than there are documents
    found: dict[str, list[float]] = {name: [] for name in ("centroids", "cells", "prune", "refine", "rank")}
    for _ in range(RUNS):
        q = _near(codec.centroids, rng.integers(0, shape.n_centroids, shape.n_q), rng)
        result = search(q, collection, min(shape.k, keep), SearchOptions(nprobe=shape.nprobe, candidates=keep))
        took = {stage.name: stage for stage in result.trace}
        n_pruned = min(took["candidates"].count, PRUNE_FACTOR * keep)
        units = {
            "prune": n_pruned * length,
            "refine": keep * length,
            "rank": took["rank"].count * length,
        }
        for name, seconds in found.items():
            seconds.append(took[name].milliseconds / 1e3 / max(units.get(name, 1), 1))
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    return {"compress": compress, "candidates": _listing(shape, rng), **medians}


def _listing(shape: Shape, rng: np.random.Generator) -> float:
    """Seconds of an entry of the probed lists, with as many entries for a document as the collection has."""
    share = min(LISTED / shape.entries, 1.0)
    n_docs, n_cells = max(round(share * shape.n_docs), 1), max(round(shape.cells), 1)
    n = max(round(share * shape.entries), n_cells)
    offsets = np.linspace(0, n, n_cells + 1).astype(np.int64)
    cells = np.arange(n_cells)
    lists = ivf.InvertedLists(cells.astype(np.uint32), offsets, rng.integers(0, n_docs, n).astype(np.uint32))
    live = np.ones(n_docs, np.bool_)
    segment = Segment(np.arange(n_docs), np.arange(n_docs + 1), live, 1.0, None, None, lists)
    table = rng.integers(0, 256, (n_cells, shape.n_q)).astype(np.uint8)
    return _median(lambda: candidates_from_lists(table, SegmentedIndex(shape.dim, None, (segment,)), cells, live)) / n


def _scanning(shape: Shape, rng: np.random.Generator) -> float:
    """Seconds of a token in an exact scan of raw vectors."""
    length = max(round(shape.tokens), 1)
    n_docs = max(min(STORED_TOKENS // length, shape.n_docs), 1)
    raw = _unit(rng, n_docs * length, shape.dim).astype(RAW.get(str(shape.nbits), RAW["float16"]))
    live = np.ones(n_docs, np.bool_)
    segment = Segment(np.arange(n_docs), np.arange(n_docs + 1) * length, live, 1.0, raw, None, None)
    collection, q = SegmentedIndex(shape.dim, None, (segment,)), _unit(rng, shape.n_q, shape.dim)
    return _median(lambda: search(q, collection, shape.k)) / len(raw)


def _codec(shape: Shape, rng: np.random.Generator) -> Codec:
    """A codec of that many centroids, not fitted to anything."""
    n_cells = max(round(np.sqrt(shape.n_centroids)), 1)
    starts = np.linspace(0, shape.n_centroids, n_cells + 1).astype(np.int64)
    coarse = _unit(rng, n_cells, shape.dim)
    fine = _near(coarse, np.repeat(np.arange(n_cells), np.diff(starts)), rng)
    width = 2 / np.sqrt(shape.dim) / 2 ** int(shape.nbits)
    return Codec(fine, coarse, starts, np.full(shape.dim, width, np.float32), int(shape.nbits))


def _segment(shape: Shape, rng: np.random.Generator) -> Segment:
    """At least two documents of random tokens; nothing that a search does depends on what their bits say."""
    length = max(round(shape.tokens), 1)
    n_docs = max(min(SEARCHED_TOKENS // length, shape.n_docs), 2)
    n, width = n_docs * length, codecs.row_bytes(shape.dim, int(shape.nbits))
    encoded = Encoded(
        rng.integers(0, shape.n_centroids, n).astype(np.uint16),
        rng.integers(0, 256, (n, width)).astype(np.uint8),
        np.ones(n, np.float16),
        np.full(n, 64, np.uint8),
    )
    offsets = offsets_of(np.full(n_docs, length))
    lists, live = ivf.build(encoded.codes, offsets), np.ones(n_docs, np.bool_)
    return Segment(np.arange(n_docs), offsets, live, 1.5, None, encoded, lists)


def _unit(rng: np.random.Generator, n: int, dim: int) -> Floats:
    """[n, dim] random unit rows."""
    vectors = rng.standard_normal((n, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _near(centres: Floats, which: NDArray[Any], rng: np.random.Generator) -> Floats:
    """[n_centres, dim], [n] -> [n, dim] unit rows scattered around those centres."""
    vectors: Floats = centres[which] + np.float32(SCATTER) * _unit(rng, len(which), centres.shape[1])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _median(call: Callable[[], object], runs: int = RUNS) -> float:
    """Seconds that a call takes; the first one, which warms up, does not count where there are several."""
    found = []
    for _ in range(runs + (runs > 1)):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found[-runs:])
