"""ColBERT: an exact scan, PLAID's stages on compressed vectors, and centroids that choose for raw vectors."""

import numpy as np

from refcolbert.arrays import Floats, Ints
from refcolbert.engine.candidates import generate_candidates
from refcolbert.engine.ranking import keep_possible_top_k, rank
from refcolbert.engine.search import CANDIDATES, NPROBE, SearchOptions, search
from refcolbert.engine.segments import SegmentedIndex
from refcolbert.engine.trace import Trace
from tools.compare.parts import RAW, Parts
from tools.compare.systems.answers import Answer, now

__all__ = ["colbert", "colbert_two_phase", "encode", "maxsim_flops"]


def colbert(parts: Parts, text: str, k: int, *, nbits: int | str, exact: bool = False) -> Answer:
    """A search of the index that keeps vectors in `nbits`."""
    index = parts.index(nbits).segmented
    q, encoding, flops = encode(parts, text)
    start = now()
    result = search(q, index, k, SearchOptions(exact=exact))
    took = now() - start
    multiplied = sum(s.read for s in result.trace if s.name in ("centroids", "refine", "rank"))
    return Answer(result.documents, result.scores, encoding, took, flops + maxsim_flops(q, multiplied))


def colbert_two_phase(parts: Parts, text: str, k: int) -> Answer:
    """The candidates of the index of 4 bits, ranked by the raw vectors, as ColBERT's first version did with faiss."""
    coded, raw = parts.index(4).segmented, parts.index(RAW).segmented
    mean = float(raw.lengths.mean())
    q, encoding, flops = encode(parts, text)
    start = now()
    candidates, n_centroids = _candidates(q, coded, k)
    documents, scores = rank(q, None, raw, keep_possible_top_k(q, None, raw, candidates, k), k)
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


def _candidates(q: Floats, coded: SegmentedIndex, k: int) -> tuple[Ints, int]:
    """The documents, ascending, that centroids alone choose for a query; and the number of centroids."""
    if coded.codec is None:
        return np.flatnonzero(coded.live), 0
    keep = max(k, CANDIDATES)
    (documents, _), _ = generate_candidates(coded.codec.prepare(q), coded, coded.live, k, NPROBE, keep, Trace())
    return documents, len(coded.codec.centroids)
