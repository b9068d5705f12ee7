"""Index: documents that can be searched, on disk. It introduces the rooms to each other and does little itself.

An `Index` object sees one generation. Its own writes and `refresh()` move it to the newest; searches that run meanwhile
in other threads keep the generation they began with.
"""

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from . import codec as codecs
from . import segments
from .documents import Document, as_documents
from .encoder import Encoder, Progress
from .errors import (
    CorruptIndexError,
    DuplicateId,
    EncoderMismatch,
    IndexExists,
    IndexLocked,
    InvalidInput,
    ModelError,
)
from .explain import Explanation, explain
from .format import RAW, EncoderEntry, Manifest
from .generation import Generation, publish, warn_of_drift
from .hits import Hit
from .ragged import Ragged, check_vectors
from .search import Result, search
from .segments import Made, Stored
from .store import Store, Writer
from .topk import check_k

__all__ = ["Index"]

Floats = NDArray[np.float32]
Vectors = Ragged | Sequence[ArrayLike]
Documents = Iterable[str | Mapping[str, Any] | Document]
Query = str | ArrayLike

NBITS = 4
TRAIN_AT = 1 << 17  # tokens: below, scanning every raw vector takes a few hundredths of a second
FULL_VERIFY_BYTES = 256 << 20  # up to this size, verify="auto" checks every byte when opening
BUILD_BATCH = 2048  # documents encoded and published at once by `build`


class Index:
    """A searchable collection of documents in a folder. Make one with `Index.create` or `Index.open`.

    One object may be shared by threads; one that was opened before a fork may be used in the child. Reading never
    blocks; a second writer, in whatever process, gets `IndexLocked` at once. What an object sees stays on disk as long
    as the object or one of its hits lives, whatever writers do. It is a context manager; `close` lets go of the files,
    and nothing is lost without it.
    """

    def __init__(self, store: Store, encoder: Encoder | None, *, verify: str) -> None:
        if verify not in ("auto", "full", "fast"):
            raise InvalidInput(f"verify must be 'auto', 'full' or 'fast', found {verify!r}")
        self._store, self._encoder, self._verify = store, encoder, verify
        self._write_lock = threading.Lock()
        self._current: Generation | None = self._load()

    @property
    def _generation(self) -> Generation:
        if self._current is None:
            raise InvalidInput(f"{self.path} has been closed; open it again with Index.open")
        return self._current

    @property
    def path(self) -> Path:
        """The folder of the index."""
        return self._store.path

    # ---- life

    @classmethod
    def create(
        cls,
        path: str | Path,
        encoder: Encoder | None = None,
        *,
        dim: int | None = None,
        nbits: int | str = NBITS,
        train_at: int = TRAIN_AT,
        seed: int = 0,
    ) -> Self:
        """Make an empty index in a new folder.

        With neither `encoder` nor `dim` the default model is loaded; with `dim` alone the index takes ready-made
        vectors and array queries only. `nbits` is 1, 2, 4 or 8 bits for each component of a residual, or "float16" or
        "float32" to keep vectors raw. Vectors stay float16 until the index holds `train_at` tokens; the add that
        crosses it fits the codec, with `seed`, and converts what is there.
        Raises `IndexExists`, `InvalidInput`, and `ModelNotFound` when there is no default model.
        """
        if encoder is None and dim is None:
            encoder = Encoder.load()
        if encoder is not None and dim not in (None, encoder.dim):
            raise InvalidInput(f"dim is {dim}, the encoder gives vectors of dim {encoder.dim}; leave dim out")
        if nbits not in (*codecs.NBITS, *RAW) or isinstance(nbits, bool):
            raise InvalidInput(f"nbits must be one of {[*codecs.NBITS, *RAW]}, found {nbits!r}")
        store = Store(Path(path))
        entry = EncoderEntry(encoder.hash, encoder.source) if encoder else None
        manifest = Manifest(
            generation=1,
            dim=check_k(encoder.dim if encoder else dim),
            nbits=nbits,
            train_at=check_k(train_at),
            seed=check_k(seed + 1) - 1,
            encoder=entry,
        )
        store.create()
        with store.writing(new=True) as writer:
            writer.commit(manifest)
        return cls(store, encoder, verify="auto")

    @classmethod
    def open(cls, path: str | Path, encoder: Encoder | None = None, *, verify: str = "auto") -> Self:
        """Open an index. `encoder` is needed only if the index's own model is not where it was.

        `verify="full"` checks every byte before use; "fast" checks the manifest, sizes, headers and the small arrays,
        so damage may go unseen until `check`; "auto" is full up to 256 MiB.
        Raises `IndexNotFound`, `CorruptIndexError`, `IndexTooNewError`.
        """
        return cls(Store(Path(path)), encoder, verify=verify)

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Documents,
        encoder: Encoder | None = None,
        *,
        progress: bool = False,
        **options: Any,
    ) -> Self:
        """Index a large collection in bounded memory and publish it once, complete.

        Documents are encoded and staged by the thousand beside `path`; after an interruption the same call goes on
        where it stopped, provided `documents` yields the same ones in the same order. `options` are those of `create`.
        """
        target = Path(path)
        staging = target.with_name(target.name + ".building")
        if target.exists():
            raise IndexExists(f"{target} exists already; choose another path or remove it first")
        index = cls.open(staging, encoder) if staging.exists() else cls.create(staging, encoder, **options)
        manifest = index._generation.manifest
        done = manifest.next_position
        same = all(getattr(manifest, name) == value for name, value in options.items())
        if not same or (encoder and manifest.encoder and encoder.hash != manifest.encoder.hash):
            raise InvalidInput(f"{staging} holds an interrupted build with another model or other options; remove it")
        total = len(documents) if isinstance(documents, Sized) else None
        with tqdm(desc="index", unit="doc", initial=done, total=total, disable=not progress) as bar:
            for first, batch in _batches(documents, BUILD_BATCH):
                if first >= done:
                    index.add(batch, progress=bar.update)
                elif not all(document.id in index for document in as_documents(batch, first, need_text=True)):
                    raise InvalidInput(f"{staging} holds an interrupted build of other documents; remove it")
        index.compact()
        index.close()
        index._store.move(target)
        return cls.open(target, encoder)

    def snapshot(self, path: str | Path) -> None:
        """Copy the generation this object sees to a new folder: an index of its own, consistent while others write."""
        target = Store(Path(path))
        manifest = self._generation.manifest
        target.create()
        with target.writing(new=True) as writer:
            for file in manifest.files():
                writer.copy(file, self._store)
            writer.commit(manifest)

    def close(self) -> None:
        """Let go of the files. Hits of earlier searches keep what they need; any other use is an error."""
        self._current = None  # connections, maps and the pin go with the last search that still uses them

    def refresh(self) -> bool:
        """Move to the newest generation; True if that was another one."""
        if self._store.read() == self._generation.manifest:
            return False
        self._current = self._load(self._generation)
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Pickling keeps the place, not the content: the other process opens the newest generation."""
        return {"path": self.path, "encoder": self._encoder, "verify": self._verify}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Index.__init__(self, Store(state["path"].absolute()), state["encoder"], verify=state["verify"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- reading

    def __len__(self) -> int:
        """Live documents."""
        return int(self._generation.collection.live.sum())

    def __contains__(self, document_id: object) -> bool:
        return isinstance(document_id, str) and document_id in self._generation.find([document_id])

    def ids(self) -> list[str]:
        """Ids of the live documents, by position."""
        generation = self._generation
        return [
            name
            for stored in generation.stored
            for name, live in zip(stored.documents.ids(), stored.segment.live, strict=True)
            if live
        ]

    def get(self, ids: Iterable[str]) -> list[Document]:
        """The documents with these ids, in that order. Raises `UnknownId` naming those that are not here."""
        generation = self._generation
        places = generation.places(_id_list(ids))
        return [generation.stored[i].documents.get([row])[0] for i, row in places]

    def vectors(self, ids: Iterable[str]) -> Ragged:
        """The vectors that are held of the documents with these ids, decoded, in that order. Raises `UnknownId`."""
        generation = self._generation
        starts = generation.collection.starts
        numbers = np.array([starts[i] + row for i, row in generation.places(_id_list(ids))], np.int64)
        order = np.argsort(numbers)
        return generation.collection.vectors(numbers[order]).take(np.argsort(order))

    def info(self) -> dict[str, Any]:
        """What the index holds and how."""
        manifest, collection = self._generation.manifest, self._generation.collection
        entry = manifest.encoder
        return {
            "path": str(self.path),
            "documents": len(self),
            "tokens": int(collection.lengths[collection.live].sum()),
            "dim": manifest.dim,
            "nbits": manifest.nbits,
            "centroids": len(collection.codec.centroids) if collection.codec else None,
            "quantization_error": self._generation.quantization_error(),
            "segments": len(manifest.segments),
            "deleted": int((~collection.live).sum()),
            "generation": manifest.generation,
            "bytes": sum(file.bytes for file in manifest.files()),
            "format_version": manifest.format_version,
            "encoder": {"hash": entry.hash, "source": entry.source} if entry else None,
        }

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """The k best documents for a text or for query vectors [n_q, dim]: score descending, then position ascending.

        `where` is a metadata filter (`filters`), `ids` a list of ids to search among (unknown ones match nothing);
        both are applied before candidates are chosen, and an empty choice gives an empty answer. `nprobe` cells are
        probed for each query token and `candidates` documents ranked exactly; `exact=True` ranks all.
        Scores are exact for the stored vectors whatever the parameters. Raises `InvalidInput`, `EncoderMismatch`.
        """
        return self.search_many([query], k, where=where, ids=ids, nprobe=nprobe, candidates=candidates, exact=exact)[0]

    def search_many(
        self,
        queries: Sequence[Query],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """`search` for each query, all on the same generation; text queries are encoded together."""
        generation = self._generation
        allowed = generation.allowed(where, ids)
        hits = []
        for query, q in zip(queries, self._vectors_of(queries, generation.manifest), strict=True):
            found = search(
                q, generation.collection, k, allowed=allowed, nprobe=nprobe, candidates=candidates, exact=exact
            )
            hits.append(self._hits(generation, query, q, found))
        return hits

    def check(self) -> dict[str, Any]:
        """Verify every byte of the newest generation and everything that can be derived again; returns `info()`.

        Raises `CorruptIndexError` naming the file and what is wrong with it.
        """
        manifest, pin = self._store.pin()
        generation = Generation(self._store, manifest, verify=True, pin=pin)
        positions = generation.collection.positions
        if (np.diff(positions) <= 0).any():
            raise CorruptIndexError("segments: expected positions that ascend from one to the next; restore the index")
        names = [document.id for document in generation.live_documents()]
        if len(set(names)) != len(names):
            raise CorruptIndexError("documents: an id occurs twice among the live documents; restore the index")
        return self.info()

    # ---- writing: each call is one transaction, which has either happened or not

    def add(
        self, documents: Documents, *, vectors: Vectors | None = None, progress: bool | Progress = False
    ) -> list[str]:
        """Add documents and return their ids; strings get their decimal position as id.

        `vectors` are ready-made token vectors, one array [n_d, dim] a document; without them the texts are encoded,
        with `progress` as in `Encoder.encode_documents`.
        Raises `DuplicateId` when an id is in the index already, and leaves the index as it was on any error.
        """
        return self._put(documents, vectors, progress, replacing=False)

    def upsert(
        self, documents: Documents, *, vectors: Vectors | None = None, progress: bool | Progress = False
    ) -> list[str]:
        """`add`, but a document whose id is in the index replaces that one, at a new position."""
        return self._put(documents, vectors, progress, replacing=True)

    def delete(self, ids: Iterable[str]) -> None:
        """Delete documents. Raises `UnknownId` naming those that are not here, and then deletes none."""
        wanted = _id_list(ids)
        with self._writing() as (writer, generation):
            kept = generation.without(generation.places(wanted))
            self._publish(writer, generation, kept, [])

    def compact(self, refit: bool = False) -> None:
        """Merge all segments into one and drop deleted documents; `refit` fits the codec anew on what is there."""
        with self._writing() as (writer, generation):
            self._publish(writer, generation, generation.stored, [], merge_all=True, refit=refit)

    def reencode(self, encoder: Encoder, progress: bool = False) -> None:
        """Encode every text again with another model, in one generation. Documents without text are an error."""
        with self._writing() as (writer, generation):
            missing = [d.id for d in generation.live_documents() if d.text is None]
            if missing:
                raise InvalidInput(f"{len(missing)} documents have no text to encode, the first is {missing[0]!r}")
            entry = EncoderEntry(encoder.hash, encoder.source)
            manifest = replace(generation.manifest, dim=encoder.dim, encoder=entry, codec=None, segments=())
            positions = generation.collection.positions[generation.collection.live]
            staged = []
            with tqdm(desc="reencode", unit="doc", total=len(positions), disable=not progress) as bar:
                for first, batch in _batches(generation.live_documents(), BUILD_BATCH):
                    vectors = encoder.encode_documents([d.text or "" for d in batch], bar.update)
                    made = segments.encode(vectors, batch, positions[first : first + len(batch)], None, manifest.nbits)
                    written = segments.write(writer, [made], manifest.nbits, None, None)
                    staged.append(segments.load(self._store, manifest, written, verify=False))
            fresh = Generation(self._store, manifest, verify=False)
            self._publish(writer, fresh, staged, [], merge_all=True)
            self._encoder = encoder

    # ---- inside

    def _put(
        self, documents: Documents, vectors: Vectors | None, progress: bool | Progress, *, replacing: bool
    ) -> list[str]:
        with self._writing() as (writer, generation):
            manifest = generation.manifest
            batch = as_documents(documents, manifest.next_position, need_text=vectors is None)
            if not batch:
                return []
            names = [document.id for document in batch]
            found = generation.find(names)
            if found and not replacing:
                raise DuplicateId(f"id {next(iter(found))!r} is in the index already; use upsert to replace it")
            if vectors is None:
                texts = [document.text or "" for document in batch]
                vectors = self._encoder_for(manifest).encode_documents(texts, progress)
            ragged = _check_ragged(vectors, len(batch), manifest.dim)
            positions = manifest.next_position + np.arange(len(batch))
            made = segments.encode(ragged, batch, positions, generation.collection.codec, manifest.nbits)
            self._publish(writer, generation, generation.without(found.values()), [made])
            warn_of_drift(self.path, manifest, made)
            return names

    @contextmanager
    def _writing(self) -> Iterator[tuple[Writer, Generation]]:
        """One write operation on the newest generation."""
        if not self._write_lock.acquire(blocking=False):
            raise IndexLocked(f"{self.path} is being written by another thread; try again later")
        try:
            with self._store.writing() as writer:
                if writer.manifest is not None and writer.manifest != self._generation.manifest:
                    self._current = self._load(self._generation)
                yield writer, self._generation
        finally:
            self._write_lock.release()

    def _publish(
        self, writer: Writer, generation: Generation, kept: Sequence[Stored], made: Sequence[Made], **how: bool
    ) -> None:
        publish(writer, generation, kept, made, **how)
        self._current = self._load(generation)

    def _load(self, known: Generation | None = None) -> Generation:
        """The newest generation, pinned; what a known one shares with it is not read and verified again."""
        manifest, pin = self._store.pin()
        size = sum(file.bytes for file in manifest.files())
        full = self._verify == "full" or (self._verify == "auto" and size <= FULL_VERIFY_BYTES)
        return Generation(self._store, manifest, verify=full, pin=pin, known=known)

    def _encoder_for(self, manifest: Manifest) -> Encoder:
        """The encoder whose vectors the index holds. Raises `EncoderMismatch` naming it when it is not at hand."""
        entry = manifest.encoder
        if entry is None:
            raise EncoderMismatch(
                f"{self.path} was made for ready-made vectors of dim {manifest.dim}: pass vectors, not texts"
            )
        if self._encoder is None:
            try:
                self._encoder = Encoder.load(entry.source)
            except ModelError as error:
                raise EncoderMismatch(f"{self.path} needs the model {_name(entry)}: {error}") from error
        if self._encoder.hash != entry.hash:
            raise EncoderMismatch(
                f"{self.path} holds vectors of the model {_name(entry)}, found {self._encoder.hash[:12]} from "
                f"{self._encoder.folder}; open it with that model, or call reencode(encoder) to change it"
            )
        return self._encoder

    def _vectors_of(self, queries: Sequence[Query], manifest: Manifest) -> list[Floats]:
        """Query vectors, texts encoded in one go: one array [n_q, dim] a query."""
        if isinstance(queries, str):
            raise InvalidInput("queries must be a list, found one string; use search, or pass [query]")
        texts = [query for query in queries if isinstance(query, str)]
        encoded = iter(self._encoder_for(manifest).encode_queries(texts) if texts else [])
        return [next(encoded) if isinstance(q, str) else check_vectors(q, "query", manifest.dim) for q in queries]

    def _hits(self, generation: Generation, query: Query, q: Floats, found: Result) -> list[Hit]:
        documents = generation.documents(found.documents)
        rows = zip(documents, found.documents, found.scores, strict=True)
        return [
            Hit(
                rank=rank,
                score=float(score),
                id=document.id,
                text=document.text,
                metadata=document.metadata,
                _explain=partial(self._explain, generation, query, q, int(number), document.text),
            )
            for rank, (document, number, score) in enumerate(rows, start=1)
        ]

    def _explain(self, generation: Generation, query: Query, q: Floats, number: int, text: str | None) -> Explanation:
        d = generation.collection.vectors(np.array([number]))[0]
        encoder = self._encoder_for(generation.manifest) if generation.manifest.encoder else None
        query_labels = encoder.query_labels(query) if encoder and isinstance(query, str) else []
        labels, spans = encoder.document_labels(text) if encoder and text is not None else ([], [])
        if len(query_labels) != len(q):
            query_labels = [f"query {i}" for i in range(len(q))]
        if len(labels) != len(d):  # the vectors are not this encoder's
            labels, spans = [f"row {j}" for j in range(len(d))], [None] * len(d)
        return explain(q, d, query_labels, labels, spans, text)


def _check_ragged(vectors: Vectors, n_docs: int, dim: int) -> Ragged:
    """The vectors of `n_docs` documents, checked."""
    ragged = vectors if isinstance(vectors, Ragged) else Ragged.from_list(vectors, dim)
    if len(ragged) != n_docs:
        raise InvalidInput(f"expected vectors for {n_docs} documents, found {len(ragged)}")
    return Ragged(check_vectors(ragged.vectors, "vectors", dim), ragged.offsets)


def _id_list(ids: Iterable[str]) -> list[str]:
    """The ids, each once."""
    if isinstance(ids, str):
        raise InvalidInput("ids must be a list of ids, found one string; pass [id]")
    return list(dict.fromkeys(ids))


def _batches(documents: Documents, size: int) -> Iterator[tuple[int, list[Any]]]:
    """Lists of up to `size` documents, each with the number of its first."""
    rest = iter(documents)
    for first in itertools.count(step=size):
        batch = list(itertools.islice(rest, size))
        if not batch:
            return
        yield first, batch


def _name(entry: EncoderEntry) -> str:
    return f"{entry.hash[:12]} ({entry.source or 'the default model'})"
