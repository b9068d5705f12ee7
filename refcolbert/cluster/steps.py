"""Build a sharded index: one shard for each partition, with one model and one codec.

    read     each partition is read: the number of its documents, and a hash of their content
    choose   the documents of the sample: those whose text has the smallest hash, in whatever partition they are
    encode   the sample is encoded in batches of 256; the vectors become float32 indexes beside the shards
    fit      the codec is fitted to the sample
    shard    each partition is encoded, with the vectors of the sample as they are, and becomes a shard
    ids      the ids of all shards are compared
    publish  shards.json is written, and the folder gets its name

A name has a hash of everything that the bytes of the shard depend on. So a build uses what an interrupted one left, but
only shards that it would make with the same bytes.
"""

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arguments import batches, first_manifest
from ..documents import Document, as_documents, records
from ..encoding.encoder import Encoder, Progress
from ..engine.ragged import offsets_of
from ..errors import DuplicateId, IndexExists, InvalidInput
from ..index import BUILD_BATCH, NBITS, TRAIN_AT
from ..sharded import ShardedIndex
from ..storage import segment_files
from ..storage.document_file import DocumentFile
from ..storage.remote import RemoteStore, check_free, is_url, list_shards_at, store_at
from ..storage.shards import write_shards
from ..storage.store import Store
from .callables import (
    BuildShard,
    EncodeDocuments,
    Receipt,
    content_hash,
    generation_of,
    scratch,
    text_key,
    texts_of,
    write_index,
)
from .partitions import partitions, read
from .workers import Workers, one_blas_thread

__all__ = ["build", "choose", "fit", "prepare", "publish", "repeated_id", "survey"]

SAMPLE = 1 << 14  # documents that the codec is fitted to
SAMPLE_BATCH = 256  # of them are encoded together
MADE = re.compile(r"(shard|sample|codec)(-[0-9]+)?-[0-9a-f]{12}")  # the names of this and earlier builds
UNNUMBERED = 1 << 62  # where numbers begin before they are known: no document has such an id of its own


class _Survey(NamedTuple):
    """Facts about one partition."""

    documents: int
    digest: str  # of their content


def build(
    path: str | Path,
    documents: Any,
    client: Any = None,
    *,
    encoder: Encoder | None = None,
    nbits: int | str = NBITS,
    train_at: int = TRAIN_AT,
    seed: int = 0,
    pool_factor: int = 1,
    words: str | None = "auto",
    progress: bool | Progress = False,
    partition_size: int | None = None,
) -> ShardedIndex:
    """Build a sharded index, publish it in one step when it is complete, and return it.

    - `path`: its folder, which every worker must see under the same path. It must not exist. Or a URL, see below.
    - `documents`: as `partitions` takes them: files, a `dask.bag`, a `dask.dataframe` with the columns "text", perhaps
      "id", and metadata, or an iterable of partitions.
    - `client`: a `distributed.Client`. None does the same in this process, one partition after the other. The bytes of
      the index are the same.
    - `progress`: show a progress bar for each step, or call a function with the numbers of documents that were encoded
      for the shards, as in `Encoder.encode_documents`. Their sum is that of all documents.
    - `partition_size`: bytes of files per shard, see `partitions`.

    The other parameters are those of `Index.create`. A document without an id gets its number in the collection, or in
    files the name of its file and line. The same call goes on after an interruption, of this process or of a worker.
    Partitions are read three times, and must not change meanwhile.

    At a URL, such as s3://bucket/index, each worker builds in a folder of its own, in TMPDIR, and publishes each shard
    when it is complete. shards.json is written last: before that, nobody finds an index. There is no rename and no
    lock, so nothing stops a second build at the same URL, which would remove shards of this one. The index that is
    returned is read through the cache, so that this process fetches all of it.

    Raises `IndexExists`, `IndexLocked`, `DuplicateId`, `InvalidInput`, also when a worker has another version or model.

        >>> from refcolbert import cluster
        >>> index = cluster.build("two-shards", [["The cat sat.", "Stocks fell."], ["Rain is expected."]])
        >>> [len(shard) for shard in index.shards]
        [2, 1]
    """
    shard = _begin(path, encoder, nbits, train_at, seed, pool_factor, words)
    parts = partitions(documents, partition_size)
    workers = Workers(client, progress=progress)
    with _claimed(shard.folder), one_blas_thread():
        workers.check(shard.encode)
        surveys = workers.map("read", survey, [(part,) for part in parts])
        sizes = [found.documents for found in surveys]
        if not sum(sizes):
            raise InvalidInput(f"expected documents in {len(parts)} partitions, found none; name other files")
        if shard.manifest.vector_format.is_compressed:
            # Keys are random, so that this share of all possible keys has about SAMPLE documents. All are below "g".
            limit = "g" if sum(sizes) <= SAMPLE else f"{(SAMPLE << 64) // sum(sizes):016x}"
            chosen = workers.map("choose", choose, [(part, seed, limit) for part in parts])
            shard = _with_codec(workers, shard, itertools.chain.from_iterable(chosen), sum(sizes))
        firsts = offsets_of(sizes).tolist()
        # A partition without documents has no shard.
        work = [i for i, size in enumerate(sizes) if size]
        items = [(parts[i], shard, f"shard-{n:04d}", firsts[i], surveys[i].digest) for n, i in enumerate(work)]
        receipts: list[Receipt] = workers.map("shard", _write, items, [sizes[i] for i in work])
        _list_shards(workers, shard.folder, [receipt.name for receipt in receipts])
    return _complete(shard.folder, path, encoder)


def prepare(
    path: str | Path, sample: Iterable[str], n_docs: int, encoder: Encoder | None = None, **settings: Any
) -> BuildShard:
    """Return a callable that builds the shards of an index at `path`, for engines other than Dask.

    - `sample`: some texts of the collection, which the codec is fitted to. They are encoded in this process.
    - `n_docs`: documents of the collection.
    - `settings`: those of `build` from `nbits` to `words`.

    The callable may be sent to other processes. `publish` completes the index.

        >>> from refcolbert import cluster
        >>> shard = cluster.prepare("by-hand", ["The cat sat.", "Stocks fell."], n_docs=2)
        >>> columns = shard({"id": ["cat", "stocks"], "text": ["The cat sat.", "Stocks fell."]})
        >>> columns["documents"], cluster.publish("by-hand", columns["name"]).ids()
        ([2], ['cat', 'stocks'])
    """
    shard = _begin(path, encoder, **settings)
    with _claimed(shard.folder), one_blas_thread():
        return _with_codec(Workers(), shard, sample, n_docs) if shard.manifest.vector_format.is_compressed else shard


def publish(path: str | Path, names: Iterable[str]) -> ShardedIndex:
    """Complete the index at `path` with these shards, in this order, and return it. Raises `DuplicateId`."""
    folder = _building(path)
    with _claimed(folder):
        _list_shards(Workers(), folder, list(names))
    return _complete(folder, path)


def _building(path: str | Path) -> str:
    """Return the folder or URL of an index that is not complete. Raises `IndexExists` if there is a complete one."""
    if is_url(path):
        check_free(path)
        return path.rstrip("/")
    target = Path(path).absolute()
    if target.exists() or target.is_symlink():
        raise IndexExists(f"{target} exists already; choose another path or remove it first")
    return f"{target}.building"


def _claimed(folder: str) -> AbstractContextManager[None]:
    """Return a context that holds the lock of a folder. A URL has no lock."""
    return nullcontext() if is_url(folder) else Store(Path(folder)).claimed()


def _complete(folder: str, path: str | Path, encoder: Encoder | None = None) -> ShardedIndex:
    """Give the folder its name, and open the index."""
    if not is_url(path):
        Store(Path(folder)).move(Path(path).absolute())
    return ShardedIndex.open(path, encoder, verify="fast")


def _begin(
    path: str | Path,
    encoder: Encoder | None = None,
    nbits: int | str = NBITS,
    train_at: int = TRAIN_AT,
    seed: int = 0,
    pool_factor: int = 1,
    words: str | None = "auto",
) -> BuildShard:
    """Return a callable that builds shards with raw vectors."""
    folder = _building(path)
    encoder = encoder or Encoder.load()
    manifest = first_manifest(encoder, None, nbits, train_at, seed, pool_factor, words)
    return BuildShard(folder, EncodeDocuments(encoder.source, encoder.hash, encoder.info()["device"]), manifest)


def survey(partition: Any) -> _Survey:
    """Read and check a partition; return the number of its documents and a hash of them. Raises `InvalidInput`."""
    n_docs, digest = 0, hashlib.sha256()
    for first, items in batches(records(read(partition), need_text=True), BUILD_BATCH):
        digest.update(content_hash(as_documents(items, UNNUMBERED + first, need_text=True)).encode())
        n_docs += len(items)
    return _Survey(n_docs, digest.hexdigest())


def _with_codec(workers: Workers, shard: BuildShard, sample: Iterable[str], n_docs: int) -> BuildShard:
    """Encode the texts of the sample on the workers, and return `fit` of them."""
    keys = {text_key(shard.manifest.seed, text): text for text in sample}
    documents = [Document(id=key, text=keys[key]) for key in sorted(keys)]
    raw = replace(shard, manifest=replace(shard.manifest, nbits="float32", words=None))
    items = [(batch, raw, "sample", 0, None) for _, batch in batches(documents, SAMPLE_BATCH)]
    return fit(shard, workers.map("encode", _write, items, [len(batch) for batch, *_ in items]), n_docs)


def choose(partition: Any, seed: int, limit: str) -> list[str]:
    """Return the texts of a partition whose key is below `limit`, each of them once."""
    rows = records(read(partition), need_text=True)
    batched = (as_documents(items, UNNUMBERED, need_text=True) for _, items in batches(rows, BUILD_BATCH))
    return sorted({text for batch in batched for text in texts_of(batch) if text_key(seed, text) < limit})


def _write(
    partition: Any, shard: BuildShard, prefix: str, first: int, digest: str | None, progress: Progress
) -> Receipt:
    return shard.write(prefix, read(partition), first, digest, progress)


def fit(shard: BuildShard, sample: Sequence[Receipt], n_docs: int) -> BuildShard:
    """Return `shard` with a codec that is fitted to the sample of a collection of `n_docs` documents.

    With fewer than `train_at` tokens in the collection, shards keep raw vectors, and never fit a codec of their own.
    """
    names = tuple(receipt.name for receipt in sample)
    n_tokens = sum(r.tokens for r in sample) * n_docs // sum(r.documents for r in sample)
    manifest = shard.manifest
    if n_tokens < manifest.train_at:
        return replace(shard, manifest=replace(manifest, nbits="float16"), sample=names)
    pieces = [stored for name in names for stored in generation_of(shard.folder, name).stored]
    codec = segment_files.fit_codec(pieces, None, manifest, n_tokens)
    n_vectors = min(segment_files.n_live_tokens(pieces), segment_files.ERROR_SAMPLE)
    vectors = segment_files.sample(pieces, None, n_vectors, manifest)
    error = segment_files.quantization_error(codec, vectors, codec.encode(vectors))
    digest = hashlib.sha256(manifest.to_bytes())
    for array in (codec.centroids, codec.coarse, codec.starts, codec.steps):
        digest.update(np.ascontiguousarray(array).tobytes())
    name = f"codec-{digest.hexdigest()[:12]}"
    write_index(shard.folder, name, manifest, [], codec, error)
    return replace(shard, codec=name, sample=names)


def repeated_id(folder: str, names: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return an id that two documents have, and their shards; (None, []) if there is none.

    Memory holds 8 bytes per document.
    """
    hashes = np.fromiter((hash(name) for shard in names for name in _ids(folder, shard)), np.int64)
    hashes.sort()
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    seen: dict[str, str] = {}
    for shard in names if suspects else ():
        for name in _ids(folder, shard):
            if hash(name) in suspects and seen.setdefault(name, shard) != shard:
                return name, [seen[name], shard]
    return None, []


def _ids(folder: str, name: str) -> Iterator[str]:
    store = store_at(f"{folder}/{name}")
    with scratch() as fetched:
        for entry in store.read().segments:
            file = entry.files["documents"]
            if isinstance(store, RemoteStore):
                store.fetch(file, path := Path(fetched, file.name))
            else:
                path = store.file_path(file, verify=False)
            yield from DocumentFile(path, entry.n_docs).ids()


def _list_shards(workers: Workers, folder: str, names: list[str]) -> None:
    """Check the ids of the shards, remove what is not part of the index, and write shards.json."""
    ((repeated, where),) = workers.map("ids", repeated_id, [(folder, names)])
    if repeated is not None:
        raise DuplicateId(f"expected distinct ids, id {repeated!r} occurs in {' and in '.join(where)}; rename one")
    if is_url(folder):
        list_shards_at(folder, names, MADE.fullmatch)
        return
    for other in Path(folder).iterdir():
        if other.is_dir() and other.name not in names:
            Store(other).discard()
    write_shards(Path(folder), names)
