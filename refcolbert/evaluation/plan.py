"""Estimates of an index before it is made: embeddings, bytes, FLOPs, memory and time.

Bytes follow from the format and are exact for a given number of tokens. There are three exceptions: the inverted lists
depend on how many tokens of a document share a cell (`DISTINCT`), and the SQLite file and the words are extrapolated
from those of the sample. The number of tokens comes from the mean length of the sample.

FLOPs are those of the matrix products, two for each multiplication:

    build  encode     by the encoder's graph (`onnx_file.matrix_products`), for all documents
           compress   2 dim sqrt(K) PASSES for each token, and for each vector that k-means is fitted to
    query  encode     by the encoder's graph, for one query
           centroids  2 n_q dim K
           refine     2 n_q dim for each refined token, the NEAREST ones of the first ROUND of `candidates` documents
                      and of IN_REACH of the others
           rank       2 n_q dim for each token of a ranked document: of all documents if vectors are raw
           scan       2 n_q dim for each token of the index: an exact search, for comparison

Times follow from two rates of this machine, which take some seconds to measure:

    encoding         encoded tokens / rates.encode
    compressing      FLOPs of "compress" / rates.search
    searching        FLOPs of "centroids", "refine" and "rank" / rates.search

`rates.search` is that of a whole search, stages without products included. Expect times within a factor of about 2, as
`tools.bench.plan` measures it. If that is not enough, index a part of the collection.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np

from ..arguments import first_manifest
from ..arrays import Floats
from ..checks import check_count
from ..documents import Document, as_documents
from ..encoding.encoder import BATCH_TOKENS, Encoder
from ..encoding.onnx_file import matrix_products
from ..encoding.words import WordTokenizer
from ..engine import codec as codecs
from ..engine import kmeans
from ..engine.candidates import REFINE_EXTRA, REFINE_FACTOR, ROUND
from ..engine.ragged import Ragged
from ..engine.ranking import CHUNK_TOKENS
from ..engine.search import CANDIDATES, NPROBE, SearchOptions, search
from ..errors import InvalidInput
from ..index import BUILD_BATCH, NBITS, TRAIN_AT, Index
from ..storage.document_file import pack
from ..storage.format import RAW, CodecEntry, Manifest, SegmentEntry, WordsEntry, array_types, npy_header

__all__ = ["ALL_BITS", "PARTS", "Plan", "Rates", "parts_of", "plan"]

# Part of an index, as it is printed -> roles of its files.
PARTS = {
    "codes": ("codes",),
    "residuals": ("residuals",),
    "vectors": ("vectors",),
    "scales": ("scales",),
    "spreads": ("spreads",),
    "lists": ("cells", "cell_offsets", "cell_documents"),
    "centroids": ("centroids", "coarse", "starts", "steps"),
    "offsets": ("positions", "offsets", "deleted"),
    "words": ("term_spelling", "term_bounds", "term_offsets", "term_documents", "term_counts", "term_lengths"),
    "texts": ("documents",),
}
ALL_BITS: tuple[int | str, ...] = (*codecs.NBITS, *RAW)

# Shares that indexes of judged collections with the default model show.
DISTINCT = 0.57  # entries of the inverted lists per token: tokens of one document share cells
PROBED = 0.65  # entries read per entry in n_q nprobe mean lists: query tokens share cells, and theirs are longer
NEAREST = 0.28  # tokens that refining reads, per token of its documents
IN_REACH = 0.3  # documents that refining does not pass over, per document after its first round

PASSES = 5  # over sqrt(K) centroids: one coarse, then four fine, in k-means as in the assignment to centroids
FRAMED = 1.1  # encoded tokens per stored token, without a sample: markers and punctuation
TEXT_BYTES = 5.5  # per stored token, without a sample
# Words, without a sample: different words of a document per byte of it; of all texts, words of the first megabyte and
# bytes per word. The number of words grows with a power of the number of documents.
WORDS_PER_BYTE, WORDS_PER_MEGABYTE, WORD_BYTES, WORDS_POWER = 0.09, 9000, 6.2, 0.5
QUERY_VECTORS = 32  # of a query, without an encoder
COPIES = 2.5  # of the sample of vectors that are in memory while a codec is fitted
PACKED_DOCUMENTS = 1000  # in the SQLite file that is measured, at least

SEARCHED = ("centroids", "refine", "rank")  # stages of a search that multiply
MEASURED_TOKENS = 1 << 16  # of the index that is built and searched to measure a rate
MEASURED_RUNS = 5  # of which the fastest counts, because other programs disturbed it least
SPREAD = 0.5  # distance of a synthetic token vector from its topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Two speeds of a machine."""

    encode: float | None  # tokens per second in full batches; None without an encoder
    search: float  # FLOPs per second of a whole search


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The estimates of `plan`. With one vector per document there would be `n_docs` embeddings, not `n_tokens`."""

    n_docs: int
    tokens_per_document: float
    standard_error: float | None  # of that mean, relative to it; None without a sample
    n_tokens: int  # stored embeddings
    dim: int
    nbits: int | str  # that FLOPs, times and memory are for
    n_centroids: int | None  # None: vectors stay raw, because of `nbits` or because there are too few
    bytes_of: Mapping[str, Mapping[str, int]]  # nbits -> part (PARTS) -> bytes
    one_vector_bytes: int  # of n_docs float32 vectors of this dim
    build_flops: Mapping[str, int]  # stage -> FLOPs of the whole build
    flops: Mapping[str, int]  # stage -> FLOPs of one query; "scan" if every document were ranked
    build: Mapping[str, float]  # stage -> seconds
    query: Mapping[str, float]  # stage -> milliseconds
    memory: Mapping[str, int]  # bytes: build (peak), building (disk besides the index), search (mapped), query
    rates: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """Words of `n_docs` documents, which need not be a whole number."""

    n_docs: float
    n_terms: float
    n_bytes: float
    n_entries: float
    power: float = WORDS_POWER

    def of(self, n_docs: int) -> WordsEntry:
        """Return the words of another number of documents."""
        n_entries = round(self.n_entries * n_docs / self.n_docs)
        n_terms = min(self.n_terms * (n_docs / self.n_docs) ** self.power, n_entries)
        n_bytes = n_terms * self.n_bytes / max(self.n_terms, 1)
        return WordsEntry(round(n_terms), round(n_bytes), n_entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Documents:
    """Means over the documents."""

    stored: float  # tokens
    encoded: float  # tokens
    squared: float  # encoded tokens, squared
    text_bytes: float
    file_bytes: float  # in the SQLite file
    words: _Words
    error: float | None = None  # standard error of `stored`, relative to it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """The index and the search that are planned."""

    dim: int
    n_q: int  # vectors per query
    n_docs: int
    tokens: float  # stored per document
    n_centroids: int
    nbits: int | str  # as vectors are stored in the end
    k: int
    nprobe: int
    candidates: int

    @property
    def coded(self) -> bool:
        """True if vectors are compressed."""
        return not isinstance(self.nbits, str)

    @property
    def n_fitted(self) -> float:
        """Vectors that k-means is fitted to."""
        wanted = min(codecs.POINTS_PER_CENTROID * self.n_centroids, codecs.SAMPLE)
        return min(self.n_docs * self.tokens, wanted) if self.coded else 0

    @property
    def entries(self) -> float:
        """Entries of the inverted lists that a query reads."""
        share = min(PROBED * self.n_q * self.nprobe / self.n_centroids, 1.0)
        return share * DISTINCT * self.n_docs * self.tokens


def plan(
    n_docs: int,
    tokens: float | None = None,
    *,
    sample: Iterable[str | Mapping[str, Any] | Document] | None = None,
    encoder: Encoder | None = None,
    dim: int | None = None,
    nbits: int | str = NBITS,
    pool_factor: int = 1,
    words: str | None = "auto",
    text_bytes: float | None = None,
    k: int = 10,
    nprobe: int = NPROBE,
    candidates: int = CANDIDATES,
    train_at: int = TRAIN_AT,
    rates: Rates | None = None,
    seed: int = 0,
) -> Plan:
    """Estimate bytes, FLOPs, memory and times of an index of `n_docs` documents, before it is made.

    tokens       mean number of stored tokens per document, before pooling; or
    sample       documents like those of the index, whose tokens are counted
    encoder      the model; default: the default model
    dim          of ready-made vectors, in place of a model: nothing is encoded then
    text_bytes   mean size of a text when there is no sample
    rates        of an earlier plan on this machine; default: measured now, which takes some seconds

    The other options are those of `Index.build` and `Index.search`. Bytes are exact for the number of tokens, and times
    are within a factor of about 2. Raises `InvalidInput`, and `ModelNotFound` when there is no default model.

    >>> from refcolbert import plan
    >>> estimate = plan(100_000, tokens=80, dim=16, nbits=4)
    >>> estimate.n_tokens, estimate.n_centroids, estimate.bytes_of["4"]["residuals"]
    (8000000, 32768, 64000128)
    >>> sorted(estimate.query)
    ['search']
    """
    if (tokens is None) == (sample is None):
        raise InvalidInput("expected either tokens or a sample, found both or neither; pass one of the two")
    if encoder is None and dim is None:
        encoder = Encoder.load()
    manifest = first_manifest(encoder, dim, nbits, train_at, seed, pool_factor, words)
    if sample is None:
        documents = _of_length(tokens or 0.0, pool_factor, text_bytes)
    else:
        documents = _of_sample(sample, encoder, pool_factor, manifest.words)
    n_tokens = round(check_count(n_docs, "n_docs") * documents.stored)
    shape = _Shape(
        dim=manifest.dim,
        n_q=QUERY_VECTORS if encoder is None else len(encoder.encode_queries(["a query"])[0]),
        n_docs=n_docs,
        tokens=documents.stored,
        n_centroids=kmeans.centroid_count(n_tokens),
        nbits=_stored_bits(nbits, n_tokens, train_at),
        k=check_count(k, "k"),
        nprobe=check_count(nprobe, "nprobe"),
        candidates=max(check_count(candidates, "candidates"), k),
    )
    if rates is None:
        rng = np.random.default_rng(seed)
        encode = None if encoder is None else _encode_rate(encoder, round(documents.encoded), rng)
        rates = Rates(encode=encode, search=_search_rate(shape, rng))
    build_flops, flops = _build_flops(shape, documents, encoder), _query_flops(shape, encoder)
    build, query = {}, {}
    if encoder is not None and rates.encode is not None:
        build["encode"] = n_docs * documents.encoded / rates.encode
        query["encode"] = 1e3 * len(encoder.tokenizer.queries(["a query"])[0].ids) / rates.encode
    if shape.coded:
        build["compress"] = build_flops["compress"] / rates.search
    query["search"] = 1e3 * sum(flops[stage] for stage in SEARCHED if stage in flops) / rates.search
    return Plan(
        n_docs=n_docs,
        tokens_per_document=documents.stored,
        standard_error=documents.error,
        n_tokens=n_tokens,
        dim=shape.dim,
        nbits=nbits,
        n_centroids=shape.n_centroids if shape.coded else None,
        bytes_of={str(bits): _sizes(replace(manifest, nbits=bits), shape, documents) for bits in ALL_BITS},
        one_vector_bytes=n_docs * shape.dim * 4,
        build_flops=build_flops,
        flops=flops,
        build=build,
        query=query,
        memory=_memory(shape, documents, sum(_sizes(manifest, shape, documents).values())),
        rates=rates,
    )


def parts_of(bytes_of: Mapping[str, int]) -> dict[str, int]:
    """Return part -> bytes, from the bytes by role of `Index.info()`. Parts without a file are left out.

    >>> parts_of({"codes": 20, "cells": 3, "cell_offsets": 4, "cell_documents": 5})
    {'codes': 20, 'lists': 12}
    """
    sums = {part: sum(bytes_of.get(role, 0) for role in roles) for part, roles in PARTS.items()}
    return {part: size for part, size in sums.items() if size}


def _encode_rate(encoder: Encoder, document_tokens: int, rng: np.random.Generator) -> float:
    """Tokens per second of a full batch of documents. Their words are one letter, and so one token, each."""
    n_words = max(min(document_tokens, encoder.spec.document_length), 1)
    texts = [" ".join(rng.choice(list(ascii_lowercase), n_words)) for _ in range(max(BATCH_TOKENS // n_words, 1))]
    n_tokens = sum(len(tokens.ids) for tokens in encoder.tokenizer.documents(texts))
    rates = []
    for _ in range(MEASURED_RUNS):
        start = time.perf_counter()
        encoder.encode_documents(texts)
        rates.append(n_tokens / (time.perf_counter() - start))
    return max(rates)


def _search_rate(shape: _Shape, rng: np.random.Generator) -> float:
    """FLOPs per second of searches in a synthetic index of the planned kind, but of at most MEASURED_TOKENS."""
    length = max(round(shape.tokens), 1)
    n_docs = min(max(MEASURED_TOKENS // length, 1), shape.n_docs)
    # Prune in the small index, too, if the planned one is large enough to prune.
    candidates = shape.candidates if shape.n_docs <= shape.candidates else min(shape.candidates, max(n_docs // 4, 1))
    options = SearchOptions(nprobe=shape.nprobe, candidates=candidates)
    topics = _near(np.zeros((1, shape.dim), np.float32), max(n_docs * length // 64, 1), rng)
    vectors = Ragged(_near(topics, n_docs * length, rng), np.arange(n_docs + 1) * length)
    documents, rates = [{"id": str(i)} for i in range(n_docs)], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Index.build(f"{folder}/i", documents, vectors=vectors, dim=shape.dim, nbits=shape.nbits, train_at=1) as index,
    ):
        for _ in range(MEASURED_RUNS):
            q = _near(topics, shape.n_q, rng)
            start = time.perf_counter()
            trace = search(q, index.segmented, shape.k, options).trace
            seconds = time.perf_counter() - start
            compared = sum(stage.read for stage in trace if stage.name in SEARCHED)
            rates.append(2 * shape.n_q * shape.dim * compared / seconds)
    return max(rates)


def _near(topics: Floats, n: int, rng: np.random.Generator) -> Floats:
    """[n_topics, dim] -> [n, dim] unit rows scattered around random topics, as token vectors are."""
    noise = rng.standard_normal((n, topics.shape[1]), dtype=np.float32)  # [n, dim]
    noise *= np.float32(SPREAD / np.sqrt(topics.shape[1]))
    vectors: Floats = topics[rng.integers(0, len(topics), n)] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _of_length(tokens: float, pool_factor: int, text_bytes: float | None) -> _Documents:
    """Documents that all have this length."""
    if not 1 <= tokens < float("inf"):
        raise InvalidInput(f"tokens must be a mean number of at least 1 per document, found {tokens!r}")
    size = TEXT_BYTES * tokens if text_bytes is None else float(text_bytes)
    documents = [Document(id=str(i), text="x" * round(size)) for i in range(PACKED_DOCUMENTS)]
    return _Documents(
        stored=max(tokens / pool_factor, 1.0),
        encoded=FRAMED * tokens,
        squared=(FRAMED * tokens) ** 2,
        text_bytes=size,
        file_bytes=_file_bytes(documents),
        words=_Words(
            n_docs=1e6 / max(size, 1.0),
            n_terms=WORDS_PER_MEGABYTE,
            n_bytes=WORDS_PER_MEGABYTE * WORD_BYTES,
            n_entries=1e6 * WORDS_PER_BYTE,
        ),
    )


def _of_sample(sample: Iterable[Any], encoder: Encoder | None, pool_factor: int, words: str | None) -> _Documents:
    """Means over a sample, counted by the tokenizer."""
    documents = as_documents(sample, 0, need_text=True)
    if encoder is None or not documents:
        raise InvalidInput(
            f"a sample needs an encoder and at least one document, found {len(documents)} documents and "
            f"{'no' if encoder is None else 'an'} encoder; pass tokens for ready-made vectors"
        )
    texts = [document.text or "" for document in documents]
    tokens = encoder.tokenizer.documents(texts)
    stored = np.ceil(np.array([int(t.keep.sum()) for t in tokens]) / pool_factor)  # [n_sample]
    encoded = np.array([float(len(t.ids)) for t in tokens])  # [n_sample]
    return _Documents(
        stored=float(stored.mean()),
        encoded=float(encoded.mean()),
        squared=float(np.square(encoded).mean()),
        text_bytes=float(np.mean([len(text.encode()) for text in texts])),
        file_bytes=_file_bytes(documents),
        words=_words_of(texts, words),
        error=float(stored.std() / stored.mean() / np.sqrt(len(stored))),
    )


def _words_of(texts: list[str], words: str | None) -> _Words:
    """The words of the sample. Half of it tells how their number grows."""
    if words is None:
        return _Words(n_docs=1, n_terms=0, n_bytes=0, n_entries=0)
    tokenizer = WordTokenizer(words)
    lists, half = tokenizer.lists(texts), tokenizer.lists(texts[::2])
    return _Words(
        n_docs=len(texts),
        n_terms=len(lists),
        n_bytes=len(lists.spelling),
        n_entries=len(lists.documents),
        power=float(np.log2(len(lists) / len(half))) if len(half) else 1.0,
    )


def _file_bytes(documents: list[Document]) -> float:
    """Bytes per document of an SQLite file that holds these documents, repeated until it has many pages."""
    repeats = -(-PACKED_DOCUMENTS // len(documents))
    renamed = (replace(d, id=f"{d.id}-{i}" if i else d.id) for i in range(repeats) for d in documents)
    with tempfile.TemporaryDirectory() as folder:
        opened, path = tempfile.mkstemp(dir=folder)
        os.close(opened)
        pack(renamed, Path(path))
        return Path(path).stat().st_size / (repeats * len(documents))


def _stored_bits(nbits: int | str, n_tokens: int, train_at: int) -> int | str:
    """Vectors stay float16 while there are too few to fit a codec."""
    return "float16" if isinstance(nbits, int) and n_tokens < train_at else nbits


def _sizes(manifest: Manifest, shape: _Shape, documents: _Documents) -> dict[str, int]:
    """Part -> bytes of an index of one segment."""
    n_tokens = round(shape.n_docs * shape.tokens)
    coded = not isinstance(_stored_bits(manifest.nbits, n_tokens, manifest.train_at), str)
    n_centroids, n_coarse = shape.n_centroids, max(1, round(np.sqrt(shape.n_centroids)))
    codec = CodecEntry(n_centroids, n_coarse, 0.0, {})
    words = None if manifest.words is None else documents.words.of(shape.n_docs)
    segment = SegmentEntry(shape.n_docs, n_tokens, 0, n_centroids, round(DISTINCT * n_tokens), 1.0, 0.0, {}, words)
    manifest = replace(manifest, codec=codec if coded else None)
    types = array_types(manifest, segment) | (array_types(manifest, codec) if coded else {})
    sizes = {
        role: len(npy_header((dtype, lengths))) + dtype.itemsize * prod(lengths)
        for role, (dtype, lengths) in types.items()
    }
    return parts_of({**sizes, "documents": round(shape.n_docs * documents.file_bytes)})


def _build_flops(shape: _Shape, documents: _Documents, encoder: Encoder | None) -> dict[str, int]:
    """Stage -> FLOPs of the whole build."""
    flops: dict[str, float] = {}
    if encoder is not None:
        flops["encode"] = shape.n_docs * _encoder_flops(encoder, documents.encoded, documents.squared)
    if shape.coded:
        vectors = shape.n_docs * shape.tokens + shape.n_fitted
        flops["compress"] = 2 * shape.dim * float(np.sqrt(shape.n_centroids)) * PASSES * vectors
    return {stage: round(count) for stage, count in flops.items()}


def _query_flops(shape: _Shape, encoder: Encoder | None) -> dict[str, int]:
    """Stage -> FLOPs of one query."""
    flops: dict[str, float] = {}
    if encoder is not None:
        n = len(encoder.tokenizer.queries(["a query"])[0].ids)
        flops["encode"] = _encoder_flops(encoder, n, n * n)
    per_vector = 2 * shape.n_q * shape.dim  # a token or a centroid
    scan = per_vector * shape.tokens * shape.n_docs
    if shape.coded:
        flops["centroids"] = per_vector * shape.n_centroids
    if shape.coded and shape.n_docs > shape.candidates:
        pruned = min(shape.candidates, shape.entries)  # documents
        ranked = min(REFINE_FACTOR * shape.k + REFINE_EXTRA, pruned)
        first = min(max(ROUND, ranked), pruned)
        refined = first + IN_REACH * (pruned - first)
        flops["refine"] = per_vector * NEAREST * shape.tokens * (refined if pruned > ranked else 0)
        flops |= {"rank": per_vector * shape.tokens * ranked, "scan": scan}
    else:  # raw vectors, or so few documents that a search ranks all of them
        flops |= {"rank": scan, "scan": scan}
    return {stage: round(count) for stage, count in flops.items()}


def _encoder_flops(encoder: Encoder, tokens: float, squared: float) -> float:
    """FLOPs of a text of that many tokens; `squared` is their square, or the mean of it over several texts."""
    per_token, per_pair = matrix_products((encoder.folder / "model.onnx").read_bytes())
    return 2 * (per_token * tokens + per_pair * squared)


def _memory(shape: _Shape, documents: _Documents, index_bytes: int) -> dict[str, int]:
    """Bytes, by the formulas of `bulk_build` and the chunks of a search."""
    n_tokens, row = shape.n_docs * shape.tokens, 4 * shape.dim
    batch = 2 * min(shape.n_docs, BUILD_BATCH) * (shape.tokens * row + documents.text_bytes)
    fitting = 100.0 * shape.n_docs + 6 * n_tokens + COPIES * row * round(shape.n_fitted)
    query = float(CHUNK_TOKENS * (row + 4 * shape.n_q))
    if shape.coded:
        query += 9 * shape.n_centroids * shape.n_q + (32 + shape.n_q) * shape.entries
    staged = n_tokens * shape.dim * (4 if shape.nbits == "float32" else 2) + shape.n_docs * documents.file_bytes
    memory = {"build": max(batch, fitting), "building": staged, "search": index_bytes, "query": query}
    return {purpose: round(size) for purpose, size in memory.items()}
