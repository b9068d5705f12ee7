"""Plan: what an index of N documents will take, before it is made: embeddings, bytes, time, arithmetic, memory.

Bytes are those that `format` gives files of those counts, so what is exact there is exact here: codes, residuals,
scales, spreads, offsets. Three counts are estimates: tokens, where there is no sample to count them in; entries of the
inverted lists (`calibration.DISTINCT`); and the bytes of the SQLite file, taken from one that holds the sample.

Time is counts times what `calibration` measured for one:

    build   encode: a n + b n^2 for each document; fit: steps + n_sample (a + b sqrt(K)); compress and store: a token
    query   encode; centroids and cells at this K; candidates: entries of the probed lists; prune, refine and
            rank: tokens of the documents that meet them
            scan: all tokens, where vectors are raw or documents no more than are ranked anyway

FLOPs count a multiplication and an addition each: 2 n_q dim a token that is refined (`calibration.NEAREST` of those of
a document) or ranked, 2 n_q dim K for the centroids, and of the encoder the matrix products of its graph
(`graphs.matrix_products`).
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import first_manifest
from ..checks import check_count
from ..documents import Document, as_documents
from ..encoding.encoder import Encoder
from ..encoding.onnx_file import matrix_products
from ..engine import codec as codecs
from ..engine import kmeans
from ..engine.candidates import PRUNE_FACTOR
from ..engine.ranking import CHUNK_TOKENS
from ..engine.search import CANDIDATES, NPROBE
from ..errors import InvalidInput
from ..index import BUILD_BATCH, NBITS, TRAIN_AT
from ..storage.document_file import pack
from ..storage.format import RAW, CodecEntry, Manifest, SegmentEntry, array_types, npy_header
from .calibration import DISTINCT, NEAREST, Calibration, Shape, calibrate

__all__ = ["PARTS", "Plan", "parts_of", "plan"]

# What is printed of an index -> the roles of its files.
PARTS = {
    "codes": ("codes",),
    "residuals": ("residuals",),
    "vectors": ("vectors",),
    "scales": ("scales",),
    "spreads": ("spreads",),
    "lists": ("cells", "cell_offsets", "cell_documents"),
    "centroids": ("centroids", "coarse", "starts", "steps"),
    "offsets": ("positions", "offsets", "deleted"),
    "texts": ("documents",),
}
ALL_BITS: tuple[int | str, ...] = (*codecs.NBITS, *RAW)

FRAMED = 1.1  # tokens that are encoded for each that is stored: markers and punctuation
VARIED = 1.25  # mean square of documents' lengths over the square of the mean
TEXT_BYTES = 5.5  # for each stored token
QUERY_VECTORS = 32  # where there is no encoder
COPIES = 2.5  # of the sample of vectors at once, while a codec is fitted
PACKED = 1000  # documents in the SQLite file that is measured, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an index will take. One vector a document would be `n_docs` embeddings instead of `n_tokens`."""

    n_docs: int
    tokens_per_document: float
    standard_error: float | None  # of that mean, as a share of it: how far the sample may be off; None without one
    n_tokens: int  # embeddings stored
    dim: int
    nbits: int | str  # of the times
    n_centroids: int | None  # None: too few tokens for a codec, or raw ones wanted
    bytes_of: Mapping[str, Mapping[str, int]]  # nbits -> part (PARTS) -> bytes
    one_vector_bytes: int  # of n_docs float32 vectors of this dim
    build: Mapping[str, float]  # stage -> seconds
    query: Mapping[str, float]  # stage -> milliseconds
    flops: Mapping[str, int]  # of one query: stage -> FLOPs; "scan" if every document were ranked
    memory: Mapping[str, int]  # bytes: build (most at once), building (disk besides the index), search (mapped), query
    calibration: Calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class _Documents:
    """The lengths and texts of a document, on average."""

    stored: float  # tokens
    encoded: float  # tokens
    squared: float  # encoded tokens
    text_bytes: float
    file_bytes: float  # in the SQLite file
    error: float | None  # standard error of the mean of stored tokens, as a share of it


def plan(
    n_docs: int,
    tokens: float | None = None,
    *,
    sample: Iterable[str | Mapping[str, Any] | Document] | None = None,
    encoder: Encoder | None = None,
    dim: int | None = None,
    nbits: int | str = NBITS,
    pool_factor: int = 1,
    text_bytes: float | None = None,
    k: int = 10,
    nprobe: int = NPROBE,
    candidates: int = CANDIDATES,
    train_at: int = TRAIN_AT,
    calibration: Calibration | None = None,
    seed: int = 0,
) -> Plan:
    """What an index of `n_docs` documents takes, of `tokens` stored tokens each or as long as those of a `sample`.

    Without `encoder` and `dim` the default model is loaded; with `dim` alone vectors are ready-made and times of
    encoding 0. `text_bytes` are those of a document where there is no sample. The other options are those of
    `Index.build` and `search`. `calibration` is one made earlier; otherwise the machine is measured for some seconds.
    Raises `InvalidInput`, and `ModelNotFound` when there is no default model.
    """
    if (tokens is None) == (sample is None):
        raise InvalidInput("the length of documents comes from tokens or from a sample: expected one of the two")
    if encoder is None and dim is None:
        encoder = Encoder.load()
    manifest = first_manifest(encoder, dim, nbits, train_at, seed, pool_factor)
    if sample is None:
        documents = _of_length(tokens or 0.0, pool_factor, text_bytes)
    else:
        documents = _of_sample(sample, encoder, pool_factor)
    n_tokens = round(check_count(n_docs, "n_docs") * documents.stored)
    n_q = QUERY_VECTORS if encoder is None else len(encoder.encode_queries(["a query"])[0])
    shape = Shape(
        dim=manifest.dim,
        n_q=n_q,
        n_docs=n_docs,
        tokens=documents.stored,
        n_centroids=kmeans.centroid_count(n_tokens),
        nbits=_stored_bits(nbits, n_tokens, train_at),
        text_bytes=round(documents.text_bytes),
        k=check_count(k, "k"),
        nprobe=check_count(nprobe, "nprobe"),
        candidates=max(check_count(candidates, "candidates"), k),
    )
    found = calibration or calibrate(shape, encoder, seed)
    return Plan(
        n_docs=n_docs,
        tokens_per_document=documents.stored,
        standard_error=documents.error,
        n_tokens=n_tokens,
        dim=shape.dim,
        nbits=nbits,
        n_centroids=None if isinstance(shape.nbits, str) else shape.n_centroids,
        bytes_of={str(bits): _sizes(replace(manifest, nbits=bits), shape, documents) for bits in ALL_BITS},
        one_vector_bytes=n_docs * shape.dim * 4,
        build=_build(shape, documents, found),
        query={stage: 1e3 * seconds for stage, seconds in _query(shape, found).items()},
        flops=_flops(shape, encoder),
        memory=_memory(shape, documents, _sizes(manifest, shape, documents)),
        calibration=found,
    )


def parts_of(bytes_of: Mapping[str, int]) -> dict[str, int]:
    """Bytes by role, as `Index.info()` gives them -> by part; parts that are not there are left out."""
    sums = {part: sum(bytes_of.get(role, 0) for role in roles) for part, roles in PARTS.items()}
    return {part: size for part, size in sums.items() if size}


def _of_length(tokens: float, pool_factor: int, text_bytes: float | None) -> _Documents:
    if not 1 <= tokens < float("inf"):
        raise InvalidInput(f"tokens must be a mean number of at least 1 a document, found {tokens!r}")
    size = TEXT_BYTES * tokens if text_bytes is None else float(text_bytes)
    framed = FRAMED * tokens
    some = [Document(id=str(i), text="x" * round(size)) for i in range(PACKED)]
    return _Documents(
        stored=max(tokens / pool_factor, 1.0),
        encoded=framed,
        squared=VARIED * framed**2,
        text_bytes=size,
        file_bytes=_file_bytes(some),
        error=None,
    )


def _of_sample(sample: Iterable[Any], encoder: Encoder | None, pool_factor: int) -> _Documents:
    documents = as_documents(sample, 0, need_text=True)
    if encoder is None or not documents:
        raise InvalidInput("a sample is counted in tokens of a model: expected an encoder and at least one document")
    texts = [document.text or "" for document in documents]
    tokens = encoder.tokenizer.documents(texts)
    stored = np.ceil(np.array([int(t.keep.sum()) for t in tokens]) / pool_factor)  # [n_sample]
    encoded = np.array([len(t.ids) for t in tokens])  # [n_sample]
    return _Documents(
        stored=float(stored.mean()),
        encoded=float(encoded.mean()),
        squared=float(np.square(encoded.astype(float)).mean()),
        text_bytes=float(np.mean([len(text.encode()) for text in texts])),
        file_bytes=_file_bytes(documents),
        error=float(stored.std() / stored.mean() / np.sqrt(len(stored))),
    )


def _file_bytes(documents: list[Document]) -> float:
    """Bytes of a document in the SQLite file: those of a file that holds them, again and again until it is large."""
    rounds = -(-PACKED // len(documents))
    named = (replace(d, id=f"{d.id}-{i}" if i else d.id) for i in range(rounds) for d in documents)
    with tempfile.TemporaryDirectory() as folder:
        opened, path = tempfile.mkstemp(dir=folder)
        os.close(opened)
        pack(named, Path(path))
        return Path(path).stat().st_size / (rounds * len(documents))


def _stored_bits(nbits: int | str, n_tokens: int, train_at: int) -> int | str:
    """How vectors are kept in the end."""
    return "float16" if isinstance(nbits, int) and n_tokens < train_at else nbits


def _sizes(manifest: Manifest, shape: Shape, documents: _Documents) -> dict[str, int]:
    """Part -> bytes of an index of one segment."""
    n_tokens = round(shape.n_docs * documents.stored)
    coded = not isinstance(_stored_bits(manifest.nbits, n_tokens, manifest.train_at), str)
    n_cells, n_coarse = shape.n_centroids, max(1, round(np.sqrt(shape.n_centroids)))
    codec = CodecEntry(n_cells, n_coarse, 0.0, {})
    segment = SegmentEntry(shape.n_docs, n_tokens, 0, n_cells, round(DISTINCT * n_tokens), 1.0, 0.0, {})
    manifest = replace(manifest, codec=codec if coded else None)
    types = array_types(manifest, segment) | (array_types(manifest, codec) if coded else {})
    sizes = {
        role: len(npy_header(kind)) + kind[0].itemsize * int(np.prod(kind[1], dtype=object))
        for role, kind in types.items()
    }
    return parts_of({**sizes, "documents": round(shape.n_docs * documents.file_bytes)})


def _build(shape: Shape, documents: _Documents, c: Calibration) -> dict[str, float]:
    """Stage -> seconds."""
    n_tokens = shape.n_docs * documents.stored
    seconds = {"encode": shape.n_docs * (documents.encoded * c.token + documents.squared * c.pair)}
    if not isinstance(shape.nbits, str):
        fitted = _fit_vectors(shape, n_tokens) * (c.fit_vector + c.fit_root * float(np.sqrt(shape.n_centroids)))
        seconds |= {"fit": c.fit_steps + fitted, "compress": n_tokens * c.compress}
    return {**seconds, "store": n_tokens * c.store}


def _fit_vectors(shape: Shape, n_tokens: float) -> int:
    return round(min(n_tokens, codecs.POINTS_PER_CENTROID * shape.n_centroids, codecs.SAMPLE))


def _query(shape: Shape, c: Calibration) -> dict[str, float]:
    """Stage -> seconds."""
    ranked = shape.ranked * shape.tokens
    if isinstance(shape.nbits, str):
        stages = {"scan": shape.n_docs * shape.tokens * c.scan}
    elif shape.n_docs <= shape.candidates:
        stages = {"centroids": c.centroids, "rank": ranked * c.rank}
    else:
        found = shape.found
        pruned = min(found, PRUNE_FACTOR * shape.candidates)
        stages = {
            "centroids": c.centroids,
            "cells": c.cells,
            "candidates": shape.entries * c.candidates,
            "prune": pruned * shape.tokens * c.prune if found > shape.candidates else 0.0,
            "refine": shape.refined * shape.tokens * c.refine if shape.refined > shape.ranked else 0.0,
            "rank": ranked * c.rank,
        }
    return {"encode": c.query, **stages, "answer": c.answer}


def _flops(shape: Shape, encoder: Encoder | None) -> dict[str, int]:
    """Stage -> FLOPs of one query."""
    found: dict[str, float] = {}
    if encoder is not None:
        by_token, by_pair = matrix_products((encoder.folder / "model.onnx").read_bytes())
        n = len(encoder.tokenizer.queries(["a query"])[0].ids)
        found["encode"] = 2 * (n * by_token + n * n * by_pair)
    one = 2 * shape.n_q * shape.dim  # of a token, or a centroid
    if not isinstance(shape.nbits, str):
        refined = NEAREST * shape.refined if shape.refined > shape.ranked else 0.0
        found |= {"centroids": one * shape.n_centroids, "refine": one * refined * shape.tokens}
        found["rank"] = one * shape.ranked * shape.tokens
    return {stage: round(flops) for stage, flops in {**found, "scan": one * shape.n_docs * shape.tokens}.items()}


def _memory(shape: Shape, documents: _Documents, sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes, as `building` and `search` say what they hold at once."""
    n_tokens, row = shape.n_docs * shape.tokens, 4 * shape.dim
    batch = 2 * min(shape.n_docs, BUILD_BATCH) * (documents.stored * row + documents.text_bytes)
    counted = 100.0 * shape.n_docs + 6 * n_tokens
    query = float(CHUNK_TOKENS * (row + 4 * shape.n_q))
    if not isinstance(shape.nbits, str):
        counted += COPIES * row * _fit_vectors(shape, n_tokens)
        query += 9 * shape.n_centroids * shape.n_q + (32 + shape.n_q) * shape.entries
    staged = n_tokens * shape.dim * (4 if shape.nbits == "float32" else 2) + shape.n_docs * documents.file_bytes
    found = {"build": max(batch, counted), "building": staged, "search": sum(sizes.values()), "query": query}
    return {what: round(size) for what, size in found.items()}
