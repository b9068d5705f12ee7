"""ColBERT: an exact scan, PLAID's stages on compressed vectors, and centroids that choose for raw vectors."""

import numpy as np
from numpy.typing import NDArray

from refcolbert.arrays import Floats
from refcolbert.engine import ivf
from refcolbert.engine.centroid_interaction import quantize_scores
from refcolbert.engine.search import CANDIDATES, NPROBE, PRUNED, find, prune, rank, search
from refcolbert.engine.segments import SegmentedIndex
from refcolbert.engine.topk import top_k
from tools.compare.parts import RAW, Parts
from tools.compare.systems.answers import Answer, now

__all__ = ["colbert", "colbert_two_phase", "encode", "maxsim_flops"]


def colbert(parts: Parts, text: str, k: int, *, nbits: int | str, exact: bool = False) -> Answer:
    """A search of the index that keeps vectors in `nbits`."""
    index = parts.index(nbits).segmented
    q, encoding, flops = encode(parts, text)
    start = now()
    result = search(q, index, k, exact=exact)
    took = now() - start
    multiplied = sum(s.read for s in result.trace if s.name in ("centroids", "refine", "rank"))
    return Answer(result.documents, result.scores, encoding, took, flops + maxsim_flops(q, multiplied))


def colbert_two_phase(parts: Parts, text: str, k: int) -> Answer:
    """The candidates of the index of 4 bits, ranked by the raw vectors, as ColBERT's first version did with faiss."""
    coded, raw = parts.index(4).segmented, parts.index(RAW).segmented
    mean = float(raw.lengths.mean())
    q, encoding, flops = encode(parts, text)
    start = now()
    candidates, n_centroids = _candidates(q, coded, max(k, CANDIDATES))
    documents, scores = rank(q, None, raw, candidates, k)
    took = now() - start
    return Answer(documents, scores, encoding, took, flops + maxsim_flops(q, n_centroids + len(candidates) * mean))


def encode(parts: Parts, text: str) -> tuple[Floats, float, int]:
    """ColBERT's vectors of a query [n_q, dim], milliseconds, FLOPs."""
    encoder = parts.models.encoder
    start = now()
    (q,) = encoder.encode_queries([text])
    took = now() - start
    return q, took, parts.models.costs["encoder"].flops([len(encoder.tokenizer.queries([text])[0].ids)])


def maxsim_flops(q: Floats, n_vectors: float) -> int:
    """FLOPs of the products of a query [n_q, dim] with `n_vectors` vectors."""
    return round(2 * q.size * n_vectors)


def _candidates(q: Floats, coded: SegmentedIndex, keep: int) -> tuple[NDArray[np.int64], int]:
    """At most `keep` documents, ascending, that centroids alone choose for a query; and the number of centroids."""
    if coded.codec is None:
        return np.flatnonzero(coded.live), 0
    similarities = coded.codec.centroids @ q.T  # [n_centroids, n_q]
    table = quantize_scores(similarities)
    documents, scores, _ = find(table, coded, ivf.probe(similarities.T, NPROBE), coded.live)
    best = documents[top_k(scores, PRUNED * keep)]
    return prune(table, coded, np.sort(best), keep), len(similarities)
