"""The work of a worker, as classes that any engine can send to its workers. No engine is imported here.

An object holds names and hashes only, so pickling it is cheap. A process loads a model at its first use, and keeps it.
The session of a model has one thread, so that as many objects may work at a time as there are cores. One thread also
means that vectors have the same bits in whatever process they are computed.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np

from .._version import __version__
from ..arguments import batches, document_vectors
from ..arrays import Floats
from ..documents import Document, as_documents, records
from ..encoding.encoder import Encoder, Progress
from ..engine.codec import Codec
from ..engine.ragged import Ragged
from ..errors import IndexExists, IndexLocked, IndexNotFound, IndexWriteError, InvalidInput
from ..index import BUILD_BATCH, FIRST_BATCH
from ..storage.bulk_build import Building, staging_store
from ..storage.format import Manifest
from ..storage.generation import Generation
from ..storage.remote import RemoteStore, download, is_url, store_at, upload
from ..storage.store import Store

__all__ = [
    "BuildShard",
    "EncodeDocuments",
    "Receipt",
    "content_hash",
    "generation_of",
    "scratch",
    "text_key",
    "texts_of",
    "write_index",
]

Batches = Iterable[tuple[list[Document], Ragged]]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Facts about an index that was written. Processes send each other receipts, never vectors."""

    name: str
    documents: int
    tokens: int
    bytes: int
    sha256: str  # of its manifest, which has the hashes of all files


@dataclass(frozen=True)
class EncodeDocuments:
    """Encode a batch of columns, of which one is "text".

    - `model`: as in `Encoder.load`: a folder or hub id that every worker finds, "small", or None for the default model.
    - `expected_hash`: the model's content hash. A worker that finds another model raises `EncoderMismatch`.

    The call returns the columns and two more: "vectors", one flat array of tokens * dim numbers per text, and "tokens".

        >>> import pickle
        >>> from refcolbert import Encoder
        >>> from refcolbert.cluster import EncodeDocuments
        >>> encode = EncodeDocuments(None, Encoder.load().hash)
        >>> columns = pickle.loads(pickle.dumps(encode))({"text": ["Read a file.", "Dates"]})
        >>> columns["tokens"], columns["vectors"][1].shape
        ([6, 4], (256,))
    """

    model: str | None
    expected_hash: str
    device: str = "cpu"
    version: str = __version__  # of refcolbert, where this object was made

    @property
    def encoder(self) -> Encoder:
        """The model. Raises `InvalidInput` in a process with another version of refcolbert, `ModelError`."""
        if self.version != __version__:
            raise InvalidInput(f"expected refcolbert {self.version}, found {__version__}; install the same version")
        return _load(self.model, self.expected_hash, self.device)

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns and the two new ones."""
        vectors = self.encoder.encode_documents([str(text) for text in columns["text"]])
        flat = [vectors[i].reshape(-1) for i in range(len(vectors))]
        return {**columns, "vectors": flat, "tokens": vectors.lengths.tolist()}


@lru_cache(maxsize=2)
def _load(model: str | None, expected_hash: str, device: str) -> Encoder:
    return Encoder.load(model, device=device, threads=1, expected_hash=expected_hash)


@dataclass(frozen=True)
class BuildShard:
    """Write one shard. `cluster.prepare` makes such an object.

    A shard's name has a hash of everything that its bytes depend on: its documents and their numbers, the settings, the
    model, the codec. A shard that is there already is not written again. Each attempt writes a folder of its own, which
    is renamed or published when it is complete. So it does no harm if a worker dies, or if two write the same shard.

    As a function it takes columns and returns columns, one row for each shard: the fields of a `Receipt`.
    """

    folder: str  # of the sharded index, or its URL
    encode: EncodeDocuments
    manifest: Manifest  # the settings: an empty generation
    codec: str | None = None  # the index folder that has it; None: vectors stay raw
    sample: tuple[str, ...] = ()  # index folders with vectors that are computed already

    def write(
        self,
        prefix: str,
        documents: Any,
        first: int = 0,
        digest: str | None = None,
        progress: bool | Progress = False,
    ) -> Receipt:
        """Write the shard of some documents, unless it is there.

        - `prefix`: of the shard's name.
        - `documents`: as `Index.add` takes them.
        - `first`: the number of the first one. A document without an id gets its number as id.
        - `digest`: the hash of the documents' content, if it is known.
        - `progress`: as in `Encoder.encode_documents`.

        Raises `DuplicateId`, `IndexWriteError`, `InvalidInput`, `ModelError`.
        """
        rows = records(documents, need_text=True)
        if digest is None:
            rows = as_documents(rows, first, need_text=True)
            digest = content_hash(rows)
        facts = [self.manifest.to_bytes().decode(), self.codec, self.sample, digest, first]
        name = f"{prefix}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"
        codec, error = (None, 0.0) if self.codec is None else _codec(self.folder, self.codec)
        return write_index(self.folder, name, self.manifest, self._batches(rows, first, progress), codec, error)

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Write a shard of all rows: "text", perhaps "id", other columns as metadata. Return its receipt as columns."""
        receipt = self.write("shard", _Rows({name: list(column) for name, column in columns.items()}))
        return {name: [getattr(receipt, name)] for name in Receipt.__slots__}

    def _batches(
        self, rows: Iterable[Any], first: int, progress: bool | Progress
    ) -> Iterator[tuple[list[Document], Ragged]]:
        sample = [generation_of(self.folder, name) for name in self.sample]
        for number, items in batches(rows, BUILD_BATCH, FIRST_BATCH):
            batch = as_documents(items, first + number, need_text=True)
            yield batch, self._vectors(batch, sample, progress)

    def _vectors(self, batch: list[Document], sample: list[Generation], progress: bool | Progress) -> Ragged:
        """Return the vectors of a batch: those of the sample are read, the others are computed."""
        keys = {text_key(self.manifest.seed, text): text for text in texts_of(batch)}
        known: dict[str, Floats] = {}
        for generation in sample:
            for key, (i, row) in generation.find(list(keys)).items():
                segment = generation.stored[i].segment
                known[keys[key]] = np.asarray(segment.raw)[segment.offsets[row] : segment.offsets[row + 1]]
        new = [document for document in batch if document.text not in known]
        if not known:
            return document_vectors(new, None, self.encode.encoder, self.manifest, progress)
        if callable(progress):
            progress(len(batch) - len(new))
        if new:
            vectors = document_vectors(new, None, self.encode.encoder, self.manifest, progress)
            known |= {document.text or "": vectors[i] for i, document in enumerate(new)}
        return Ragged.from_list([known[text] for text in texts_of(batch)], self.manifest.dim)


class _Rows:
    """Columns as a frame: rows in turn, missing values and NumPy's types as `records` treats them."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.column_names, self._columns = list(columns), columns

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.column_names, row, strict=True)) for row in zip(*self._columns.values(), strict=True))


def write_index(
    folder: str, name: str, manifest: Manifest, staged: Batches, codec: Codec | None = None, error: float = 0.0
) -> Receipt:
    """Write the index `name`, unless it is there, and return its receipt.

    - `folder`: it is written below this folder or URL.
    - `staged`: batches of documents and their vectors.

    `codec` encodes the vectors; without one they stay raw unless the manifest says otherwise.
    """
    target = store_at(f"{folder}/{name}")
    if (written := _written(target)) is None:
        with scratch() if is_url(folder) else nullcontext(folder) as beside:
            attempt = Path(beside, f"{name}.{uuid4().hex[:8]}")
            building = Building(attempt, manifest, codec, error)
            try:
                for batch, vectors in staged:
                    building.n_held(batch)  # ids that occurred before are refused
                    building.stage(batch, vectors)
                building.finish()
            except BaseException:
                staging_store(attempt).discard()
                raise
            try:
                if isinstance(target, RemoteStore):
                    upload(attempt, target.url)
                else:
                    Store(attempt).move(target.path)
            except (IndexExists, IndexLocked, IndexWriteError):
                # Another worker may have written the same shard meanwhile.
                Store(attempt).discard()
                if _written(target) is None:
                    raise
        written = target.read()
    return Receipt(
        name,
        sum(entry.n_docs for entry in written.segments),
        sum(entry.n_tokens for entry in written.segments),
        sum(file.bytes for file in written.files()),
        hashlib.sha256(written.to_bytes()).hexdigest(),
    )


def _written(store: Store) -> Manifest | None:
    """Return the manifest of an index, None if there is none."""
    with suppress(IndexNotFound):
        return store.read()
    return None


def scratch() -> AbstractContextManager[str]:
    """Return a context with a new folder of this machine, in TMPDIR."""
    return TemporaryDirectory(prefix="refcolbert-", ignore_cleanup_errors=True)


def text_key(seed: int, text: str) -> str:
    """Return a random number in hex that depends on the seed and the text alone: the sample has the lowest ones."""
    return hashlib.blake2b(f"{seed} {text}".encode(), digest_size=16).hexdigest()


def texts_of(batch: Iterable[Document]) -> list[str]:
    """Return the texts of documents that have one."""
    return [document.text or "" for document in batch]


def content_hash(documents: Iterable[Document]) -> str:
    """Return a hash of ids, texts and metadata."""
    digest = hashlib.sha256()
    for d in documents:
        digest.update(json.dumps([d.id, d.text, d.metadata], sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def generation_of(folder: str, name: str) -> Generation:
    """Return an index of the build, opened. A process keeps it open, because the next shard needs it, too."""
    path = download(f"{folder}/{name}") if is_url(folder) else Path(folder, name)
    # The time tells it from an index that an earlier build had at this path.
    return _opened(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _opened(path: Path, changed: int) -> Generation:
    store = Store(path)
    return Generation.load(store, store.read(), verify=False)


def _codec(folder: str, name: str) -> tuple[Codec | None, float]:
    generation = generation_of(folder, name)
    return generation.segmented.codec, generation.manifest.codec.error if generation.manifest.codec else 0.0
