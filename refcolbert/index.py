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
from numpy.typing import ArrayLike
from tqdm import tqdm

from .arguments import Documents, Query, Vectors, batches, first_manifest, id_list, ragged_of
from .arrays import Floats
from .checks import check_vectors
from .documents import Document, as_documents
from .encoding.encoder import Encoder, Progress
from .engine.ragged import Ragged
from .engine.search import SearchOptions, search, search_many
from .engine.segments import SegmentedIndex
from .errors import (
    CorruptIndexError,
    DuplicateId,
    EncoderMismatch,
    IndexExists,
    IndexLocked,
    InvalidInput,
    ModelError,
)
from .hits import Hit, best_of_groups, hits_of
from .storage import segment_files
from .storage.bulk_build import Building
from .storage.format import EncoderEntry, Manifest
from .storage.generation import Generation, publish, warn_of_drift
from .storage.groups import group_of, group_places, members
from .storage.segment_files import NewSegment, StoredSegment
from .storage.store import Store, Writer

__all__ = ["Index"]

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

    @property
    def generation(self) -> int:
        """The number of the generation that this object sees: each write makes the next one."""
        return self._generation.manifest.generation

    @property
    def segmented(self) -> SegmentedIndex:
        """The token vectors that this object sees: what `search.search` takes. Immutable."""
        return self._generation.segmented

    def query_vectors(self, queries: Sequence[Query]) -> list[Floats]:
        """Queries as arrays [n_q, dim]: texts encoded together, arrays checked. Raises as `search` does."""
        return self._vectors_of(queries, self._generation.manifest)

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
        pool_factor: int = 1,
    ) -> Self:
        """Make an empty index in a new folder.

        With neither `encoder` nor `dim` the default model is loaded; with `dim` alone the index takes ready-made
        vectors and array queries only. `nbits` is 1, 2, 4 or 8 bits for each component of a residual, or "float16" or
        "float32" to keep vectors raw. Vectors stay float16 until the index holds `train_at` tokens; the add that
        crosses it fits the codec, with `seed`, and converts what is there. `pool_factor` f keeps one vector for every
        f tokens of a document (`pooling`): f times smaller and faster, and less exact.
        Raises `IndexExists`, `InvalidInput`, and `ModelNotFound` when there is no default model.
        """
        if encoder is None and dim is None:
            encoder = Encoder.load()
        store = Store(Path(path))
        manifest = first_manifest(encoder, dim, nbits, train_at, seed, pool_factor)
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
        vectors: Iterable[ArrayLike] | None = None,
        dim: int | None = None,
        nbits: int | str = NBITS,
        train_at: int = TRAIN_AT,
        seed: int = 0,
        pool_factor: int = 1,
        progress: bool = False,
    ) -> Self:
        """Index a large collection in bounded memory and publish it once, complete.

        Documents are encoded and staged by the thousand beside `path`; after an interruption the same call goes on
        where it stopped, provided `documents` yields the same ones in the same order. `vectors` are ready-made ones,
        an array [n_d, dim] for each document; the other options are those of `create`. `building` says how much memory
        and disk it takes.
        """
        target = Path(path)
        if target.exists():
            raise IndexExists(f"{target} exists already; choose another path or remove it first")
        if encoder is None and dim is None:
            encoder = Encoder.load()
        given = None if vectors is None else iter(vectors)
        manifest = first_manifest(encoder, dim, nbits, train_at, seed, pool_factor)
        building = Building(Store(target.with_name(target.name + ".building")), manifest)
        total = len(documents) if isinstance(documents, Sized) else None
        with tqdm(desc="index", unit="doc", initial=building.done, total=total, disable=not progress) as bar:
            for first, some in batches(documents, BUILD_BATCH):
                batch = as_documents(some, first, need_text=given is None)
                mine = None if given is None else list(itertools.islice(given, len(batch)))
                if not building.holds(first, batch):
                    building.stage(batch, ragged_of(batch, mine, encoder, manifest, bar.update))
        if given is not None and next(given, None) is not None:
            raise InvalidInput(f"expected vectors for {building.done} documents, found more")
        building.finish(target)
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

    def newest(self) -> Self:
        """Itself, or when another generation was committed since, a second object that sees it; this one stays."""
        if self._store.read() == self._generation.manifest:
            return self
        other = object.__new__(type(self))
        other.__dict__ = {**self.__dict__, "_current": self._load(self._generation)}
        return other

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
        return int(self._generation.segmented.live.sum())

    def __contains__(self, document_id: object) -> bool:
        return isinstance(document_id, str) and document_id in self._generation.find([document_id])

    def ids(self) -> list[str]:
        """Ids of the live documents, by position."""
        return list(self._generation.ids())

    def get(self, ids: Iterable[str]) -> list[Document]:
        """The documents with these ids, in that order. Raises `UnknownId` naming those that are not here."""
        generation = self._generation
        places = generation.places(id_list(ids))
        return [generation.stored[i].documents.get([row])[0] for i, row in places]

    def vectors(self, ids: Iterable[str]) -> Ragged:
        """The vectors that are held of the documents with these ids, decoded, in that order. Raises `UnknownId`."""
        generation = self._generation
        starts = generation.segmented.starts
        numbers = np.array([starts[i] + row for i, row in generation.places(id_list(ids))], np.int64)
        order = np.argsort(numbers)
        return generation.segmented.vectors(numbers[order]).take(np.argsort(order))

    def info(self) -> dict[str, Any]:
        """What the index holds and how."""
        manifest, collection = self._generation.manifest, self._generation.segmented
        entry = manifest.encoder
        return {
            "path": str(self.path),
            "documents": len(self),
            "tokens": int(collection.lengths[collection.live].sum()),
            "dim": manifest.dim,
            "nbits": manifest.nbits,
            "pool_factor": manifest.pool_factor,
            "centroids": len(collection.codec.centroids) if collection.codec else None,
            "quantization_error": self._generation.quantization_error(),
            "segments": len(manifest.segments),
            "deleted": int((~collection.live).sum()),
            "generation": manifest.generation,
            "bytes": sum(file.bytes for file in manifest.files()),
            "bytes_of": manifest.bytes_of(),
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
        group_by: str | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
        threads: int = 1,
    ) -> list[Hit]:
        """The k best documents for a text or for query vectors [n_q, dim]: score descending, then position ascending.

        `where` is a metadata filter (`filters`), `ids` a list of ids to search among (unknown ones match nothing);
        both are applied before candidates are chosen, and an empty choice gives an empty answer. `nprobe` cells are
        probed for each query token, `candidates` documents looked at and 2 k + 12 of them ranked; `exact=True` ranks
        all. `threads` share the work of one query; they gain most where BLAS has one thread itself
        (OPENBLAS_NUM_THREADS=1). `group_by` a metadata key, the answer is the best document of each of the k best
        groups (`grouping`): with "passage_of" that is one passage of each text that was split.
        Scores are exact for the stored vectors whatever the parameters. Raises `InvalidInput`, `EncoderMismatch`.
        """
        return self.search_many(
            [query],
            k,
            where=where,
            ids=ids,
            group_by=group_by,
            nprobe=nprobe,
            candidates=candidates,
            exact=exact,
            threads=threads,
        )[0]

    def search_many(
        self,
        queries: Sequence[Query],
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        group_by: str | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
        threads: int = 1,
    ) -> list[list[Hit]]:
        """Return the hits of each query, all from the same generation; the options are those of `search`.

        Texts are encoded together and filters applied once. `threads` queries are searched at a time; for one query, or
        with `group_by`, the threads share the work of each query.
        """
        generation = self._generation
        options = SearchOptions.of(nprobe=nprobe, candidates=candidates, exact=exact, threads=threads)
        allowed = generation.allowed(where, ids)
        arrays = self._vectors_of(queries, generation.manifest)
        if group_by is None:
            results = search_many(arrays, generation.segmented, k, options, allowed=allowed)
            answers = zip(queries, arrays, results, strict=True)
            return [hits_of(generation, self._encoder_for, query, q, result) for query, q, result in answers]

        def best_hits(query: Query, q: Floats, n: int) -> list[Hit]:
            result = search(q, generation.segmented, n, options, allowed=allowed)
            return hits_of(generation, self._encoder_for, query, q, result)

        return [
            best_of_groups(partial(best_hits, query, q), k, group_by) for query, q in zip(queries, arrays, strict=True)
        ]

    def check(self) -> dict[str, Any]:
        """Verify every byte of the newest generation and everything that can be derived again; returns `info()`.

        Raises `CorruptIndexError` naming the file and what is wrong with it.
        """
        manifest, pin = self._store.pin()
        generation = Generation(self._store, manifest, verify=True, pin=pin)
        generation.check_norms()
        positions = generation.segmented.positions
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
        self,
        documents: Documents,
        *,
        vectors: Vectors | None = None,
        progress: bool | Progress = False,
        group_by: str | None = None,
    ) -> list[str]:
        """`add`, but a document whose id is in the index replaces that one, at a new position.

        With `group_by`, a metadata key, whatever else is in the groups of the new documents goes, too (`grouping`): the
        passages of a text replace all passages of its former state.
        """
        return self._put(documents, vectors, progress, replacing=True, group_by=group_by)

    def delete(self, ids: Iterable[str], *, group_by: str | None = None) -> None:
        """Delete documents, or with `group_by`, a metadata key, all documents of these groups.

        Raises `UnknownId` naming those that are not here, and then deletes none.
        """
        wanted = id_list(ids)
        with self._writing() as (writer, generation):
            places = generation.places(wanted) if group_by is None else group_places(generation, wanted, group_by)
            self._publish(writer, generation, generation.without(places), [])

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
            positions = generation.segmented.positions[generation.segmented.live]
            staged = []
            with tqdm(desc="reencode", unit="doc", total=len(positions), disable=not progress) as bar:
                for first, batch in batches(generation.live_documents(), BUILD_BATCH):
                    vectors = ragged_of(batch, None, encoder, manifest, bar.update)
                    made = segment_files.encode(
                        vectors, batch, positions[first : first + len(batch)], None, manifest.nbits
                    )
                    written = segment_files.write(writer, [made], manifest.nbits, None, None)
                    staged.append(segment_files.load(self._store, manifest, written, verify=False))
            fresh = Generation(self._store, manifest, verify=False)
            self._publish(writer, fresh, staged, [], merge_all=True)
            self._encoder = encoder

    # ---- inside

    def _put(
        self,
        documents: Documents,
        vectors: Vectors | None,
        progress: bool | Progress,
        *,
        replacing: bool,
        group_by: str | None = None,
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
            gone = set(found.values())
            if group_by is not None:
                groups = {group_of(document.id, document.metadata, group_by) for document in batch}
                gone.update(place for places in members(generation, groups, group_by).values() for place in places)
            encoder = self._encoder_for(manifest) if vectors is None else None
            ragged = ragged_of(batch, vectors, encoder, manifest, progress)
            positions = manifest.next_position + np.arange(len(batch))
            made = segment_files.encode(ragged, batch, positions, generation.segmented.codec, manifest.nbits)
            self._publish(writer, generation, generation.without(gone), [made])
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
        self,
        writer: Writer,
        generation: Generation,
        kept: Sequence[StoredSegment],
        made: Sequence[NewSegment],
        **how: bool,
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


def _name(entry: EncoderEntry) -> str:
    return f"{entry.hash[:12]} ({entry.source or 'the default model'})"
