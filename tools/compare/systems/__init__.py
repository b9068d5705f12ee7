"""The compared systems: one table, `SYSTEMS`, and the functions behind it.

`answers` has the ranking that every system returns, and reranking and fusion of such rankings. `single` has BM25 and
the bi-encoder, `late` ColBERT, `combined` the rerankers and hybrids.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from refcolbert.engine.search import CANDIDATES, NPROBE
from refcolbert_export.mining.teachers import K1, B
from tools.compare.parts import GRAPH, RAW, Parts
from tools.compare.systems.answers import DEPTH, RRF, Answer
from tools.compare.systems.combined import colbert_reranks, cross_encoder_reranks, hybrid
from tools.compare.systems.late import colbert, colbert_two_phase
from tools.compare.systems.single import bi_encoder_flat, bi_encoder_graph, bm25

__all__ = ["SYSTEMS", "System"]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A row of the table."""

    name: str
    group: str
    before: str  # computed before the query is known
    ask: Callable[[Parts, str, int], Answer]  # ranks k documents for a text
    size: Callable[[Parts], float]  # bytes of its index, without the texts
    models: tuple[str, ...] = ()  # names in `Models.hashes`: another hash makes its cells stale
    by_k: bool = False  # True if asking for fewer documents is a faster search with another result
    settings: Mapping[str, Any] = field(default_factory=dict)
    sample: str = "all"  # the queries it gets: all, cross, deep


WORDS = "inverted index of words"
VECTOR = "one vector per document"
TOKENS = "token vectors of all documents"
SINGLE, LATE, HYBRID, FULL = "single vector", "late interaction", "hybrid", "full interaction"
BM25_SETTINGS = {"k1": K1, "b": B}
SEARCH_SETTINGS = {"nprobe": NPROBE, "candidates": CANDIDATES}
FUSION_SETTINGS = {"rrf": RRF, "fused": DEPTH}


def _compressed(name: str, nbits: int) -> System:
    return System(
        name=name,
        group=LATE,
        before=f"{TOKENS}, centroids, inverted lists",
        ask=partial(colbert, nbits=nbits),
        size=lambda parts: parts.index_bytes(nbits),
        models=("encoder",),
        by_k=True,
        settings={"nbits": nbits, "exact": False, **SEARCH_SETTINGS},
    )


def _colbert_reranks(depth: int) -> System:
    return System(
        name=f"colbert-reranks-bm25-{depth}",
        group=LATE,
        before=f"{WORDS}; {TOKENS}",
        ask=partial(colbert_reranks, depth=depth),
        size=lambda parts: parts.bm25_bytes + parts.index_bytes(4),
        models=("encoder",),
        settings={**BM25_SETTINGS, "depth": depth, "nbits": 4},
    )


def _cross_encoder_reranks(depth: int, sample: str) -> System:
    return System(
        name=f"cross-encoder-reranks-bm25-{depth}",
        group=FULL,
        before=f"{WORDS}; of the scores nothing",
        ask=partial(cross_encoder_reranks, depth=depth),
        size=lambda parts: parts.bm25_bytes + parts.text_bytes,
        models=("cross",),
        settings={**BM25_SETTINGS, "depth": depth},
        sample=sample,
    )


SYSTEMS: tuple[System, ...] = (
    System(
        name="bm25",
        group="sparse",
        before=WORDS,
        ask=bm25,
        size=lambda parts: parts.bm25_bytes,
        settings=BM25_SETTINGS,
    ),
    System(
        name="bi-encoder-flat",
        group=SINGLE,
        before=VECTOR,
        ask=bi_encoder_flat,
        size=lambda parts: parts.rows.nbytes,
        models=("sentences",),
    ),
    System(
        name="bi-encoder-ann",
        group=SINGLE,
        before=f"{VECTOR} and a graph of neighbours",
        ask=bi_encoder_graph,
        size=lambda parts: parts.graph.serialized_length,
        models=("sentences",),
        by_k=True,
        settings=GRAPH,
    ),
    System(
        name="colbert-raw-exact",
        group=LATE,
        before=TOKENS,
        ask=partial(colbert, nbits=RAW, exact=True),
        size=lambda parts: parts.index_bytes(RAW),
        models=("encoder",),
        by_k=True,
        settings={"nbits": RAW, "exact": True},
    ),
    System(
        name="colbert-raw-two-phase",
        group=LATE,
        before=f"{TOKENS}, centroids, inverted lists",
        ask=colbert_two_phase,
        # Of the coded index it reads codes and lists alone.
        size=lambda parts: parts.index_bytes(RAW) + parts.index_bytes(4, ("texts", "residuals", "scales", "spreads")),
        models=("encoder",),
        by_k=True,
        settings=SEARCH_SETTINGS,
    ),
    _compressed("colbert-1-bit", 1),
    _compressed("colbert-2-bits", 2),
    _compressed("colbert-4-bits", 4),
    _colbert_reranks(100),
    _colbert_reranks(1000),
    System(
        name="hybrid-bm25-bi-encoder",
        group=HYBRID,
        before=f"{WORDS}; {VECTOR}",
        ask=partial(hybrid, first=bm25, second=bi_encoder_flat),
        size=lambda parts: parts.bm25_bytes + parts.rows.nbytes,
        models=("sentences",),
        settings={**BM25_SETTINGS, **FUSION_SETTINGS},
    ),
    System(
        name="hybrid-bm25-colbert",
        group=HYBRID,
        before=f"{WORDS}; {TOKENS}",
        ask=partial(hybrid, first=bm25, second=partial(colbert, nbits=4)),
        size=lambda parts: parts.bm25_bytes + parts.index_bytes(4),
        models=("encoder",),
        settings={**BM25_SETTINGS, **SEARCH_SETTINGS, **FUSION_SETTINGS, "nbits": 4},
    ),
    System(
        name="hybrid-bi-encoder-colbert",
        group=HYBRID,
        before=f"{VECTOR}; {TOKENS}",
        ask=partial(hybrid, first=bi_encoder_flat, second=partial(colbert, nbits=4)),
        size=lambda parts: parts.rows.nbytes + parts.index_bytes(4),
        models=("sentences", "encoder"),
        settings={**SEARCH_SETTINGS, **FUSION_SETTINGS, "nbits": 4},
    ),
    _cross_encoder_reranks(100, "cross"),
    _cross_encoder_reranks(1000, "deep"),
)
