"""Index: searchable documents in a folder on disk.

An `Index` object sees one generation: one complete, immutable state of the index. Its own writes and `refresh()` move
it to the newest generation. Searches that run meanwhile in other threads keep the generation that they began with.

This module writes; `reading` has the methods that read. `arguments` checks what callers pass, `encoding` makes vectors,
`storage` writes files.
"""

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from .arguments import (
    Documents,
    EncoderOnDemand,
    Vectors,
    batches,
    document_vectors,
    first_manifest,
    id_list,
    words_for,
)
from .documents import as_documents, records
from .encoding.encoder import Encoder, Progress
from .errors import DuplicateId, IndexExists, IndexLocked, IndexNotFound, InvalidInput
from .reading import IndexReader
from .storage import segment_files
from .storage.bulk_build import Building
from .storage.format import EncoderEntry
from .storage.generation import Generation, warn_of_drift
from .storage.groups import group_of, group_places, members
from .storage.publish import publish
from .storage.remote import is_url, local_path, publish_at, store_at
from .storage.store import Store, Writer
from .synchronize import Synced, synchronize

__all__ = ["Index"]

NBITS = 4
TRAIN_AT = 1 << 17  # tokens; a scan of fewer raw vectors takes a few hundredths of a second
FULL_VERIFY_BYTES = 256 << 20  # up to this size, verify="auto" checks every byte when opening
# Documents that `build` encodes and stages at a time: the most, and the fewest, with which it begins.
BUILD_BATCH, FIRST_BATCH = 2048, 64


class Index(IndexReader):
    """A searchable collection of documents in a folder. Make one with `Index.create`, `Index.build` or `Index.open`.

    Several threads may share one object. A forked child may use an object that its parent opened. Reading never blocks.
    A second writer, in any process, gets `IndexLocked` without waiting. The files that an object needs stay on disk as
    long as the object or one of its hits exists, whatever other writers do. An index is a context manager; leaving it
    closes the files. Closing is optional, because each write is on disk when its call returns.

        >>> from refcolbert import Index
        >>> index = Index.create("notes")
        >>> index.add(["The cat sat on the mat.", "Stocks fell on Monday."])
        ['0', '1']
        >>> index.search("The cat sat on the mat.", k=1)[0].text
        'The cat sat on the mat.'

    The examples below pass ready-made vectors with two columns, so that scores can be computed by hand.
    """

    def __init__(self, store: Store, encoder: EncoderOnDemand, *, verify: str, known: Generation | None = None) -> None:
        """See the newest generation in `store`. `known` is an earlier one that is loaded already."""
        super().__init__(encoder, verify)
        self._store = store
        self._write_lock = threading.Lock()
        self._current = self._load(known)

    # ---- Opening and closing

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
        words: str | None = "auto",
    ) -> Self:
        """Make an empty index in a new folder.

        - `path`: the folder. It must not exist, or be empty.
        - `encoder`: the model for texts and queries. With neither `encoder` nor `dim`, the default model is loaded.
        - `dim`: columns of a vector. With `dim` alone, the index takes ready-made vectors and array queries only.
        - `nbits`: 1, 2, 4 or 8 bits per component of a residual, or "float16" or "float32" to keep vectors raw. Fewer
          bits take less disk and memory, and decoded vectors are less exact.
        - `train_at`: number of tokens at which the codec is fitted. Until then vectors stay float16. The `add` that
          reaches it fits the codec and encodes all earlier documents.
        - `seed`: of the codec's random choices.
        - `pool_factor`: f tokens of a document are pooled to one vector, which makes the index f times smaller and
          faster to search, but less exact. 1 keeps all vectors.
        - `words`: the tokenizer of the texts' words, for the modes "words" and "hybrid" of `search`: "porter" for
          English, "unicode61" for other languages with spaces, "trigram" for languages without spaces and for code, or
          None for no words. "auto" is "porter" with a model of the package, "unicode61" with another model, and None
          with `dim` alone.

        Raises `IndexExists`, `InvalidInput`, `ModelNotFound` when there is no default model, `MissingDependency` when
        this Python's SQLite lacks the tokenizer (with "auto", that is a warning, and the index gets no words).

            >>> from refcolbert import Index
            >>> len(Index.create("vectors", dim=128))
            0
        """
        if encoder is None and dim is None:
            encoder = Encoder.load()
        store = Store(local_path(path))
        manifest = first_manifest(encoder, dim, nbits, train_at, seed, pool_factor, words)
        store.create()
        with store.writing(new=True) as writer:
            writer.commit(manifest)
        return cls(store, EncoderOnDemand(encoder, store.path), verify="auto")

    @classmethod
    def open(cls, path: str | Path, encoder: Encoder | None = None, *, verify: str = "auto") -> Self:
        """Open an index.

        - `path`: its folder, or a URL such as s3://bucket/index, which is read through a cache (`storage.remote`).
        - `encoder`: its model. By default the model is loaded at the first text, from the path or name
          that the index has on record.
        - `verify`: "full" checks every byte. "fast" checks the manifest, sizes, headers and the small arrays, so damage
          may go unseen until `check`. "auto" is full up to 256 MiB.

        Raises `IndexNotFound`, `CorruptIndexError`, `IndexTooNewError`.
        """
        store = store_at(path)
        return cls(store, EncoderOnDemand(encoder, store.path), verify=verify)

    @classmethod
    def open_or_create(cls, path: str | Path, encoder: Encoder | None = None, **settings: Any) -> Self:
        """Open the index at `path`, or make an empty one if there is none.

        `settings` are those of `create`, for an index that is made; an index that is there keeps its own.

            >>> from refcolbert import Index
            >>> len(Index.open_or_create("maybe", dim=2)), len(Index.open_or_create("maybe"))
            (0, 0)
        """
        try:
            return cls.open(path, encoder)
        except IndexNotFound:
            return cls.create(path, encoder, **settings)

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Documents,
        encoder: Encoder | None = None,
        *,
        text: str = "text",
        id: str = "id",  # noqa: A002
        vectors: Iterable[ArrayLike] | None = None,
        dim: int | None = None,
        nbits: int | str = NBITS,
        train_at: int = TRAIN_AT,
        seed: int = 0,
        pool_factor: int = 1,
        words: str | None = "auto",
        progress: bool = False,
    ) -> Self:
        """Index a large collection in bounded memory, and publish it in one step when it is complete.

        Documents are encoded and staged in batches beside `path`. After an interruption, the same call continues where
        it stopped, provided that `documents` yields the same documents in the same order; other ones raise
        `InvalidInput`. An interruption loses at most 2,048 documents, and no more than 64 or half of what was encoded.
        The docstring of `storage.bulk_build` states the memory and disk that it takes.

        - `documents`, `text`, `id`: as in `add`. Documents are read once, so a generator is fine.
        - `vectors`: ready-made vectors, one array [n_d, dim] per document. They are read once, too.
        - `progress`: show a progress bar.

        The other parameters are those of `create`. Raises `IndexExists`, `DuplicateId`, `InvalidInput`.

            >>> from refcolbert import Index
            >>> documents = ({"id": f"d{i}"} for i in range(1000))
            >>> vectors = ([[i / 1000, 0]] for i in range(1000))
            >>> len(Index.build("large", documents, vectors=vectors, dim=2))
            1000
        """
        target = local_path(path)
        if target.exists() or target.is_symlink():
            raise IndexExists(f"{target} exists already; choose another path or remove it first")
        rows = records(documents, text, id, need_text=vectors is None)
        if encoder is None and dim is None:
            encoder = Encoder.load()
        manifest = first_manifest(encoder, dim, nbits, train_at, seed, pool_factor, words)
        building = Building(target, manifest)
        arrays = None if vectors is None else iter(vectors)
        total = len(documents) if isinstance(documents, Sized) else None
        with tqdm(desc="index", unit="doc", initial=building.n_staged, total=total, disable=not progress) as bar:
            for first, items in batches(rows, BUILD_BATCH, FIRST_BATCH):
                batch = as_documents(items, first, need_text=arrays is None)
                batch_arrays = None if arrays is None else list(itertools.islice(arrays, len(batch)))
                n_staged = building.n_held(batch)
                if new := batch[n_staged:]:
                    new_arrays = None if batch_arrays is None else batch_arrays[n_staged:]
                    building.stage(new, document_vectors(new, new_arrays, encoder, manifest, bar.update))
            if arrays is not None and next(arrays, None) is not None:
                raise InvalidInput(
                    f"expected vectors for {building.n_staged} documents, found more; pass one array for each"
                )
            bar.set_postfix_str("compressing and writing")
            building.finish()
            bar.set_postfix_str("")
        return cls.open(target, encoder)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path, not the content: another process opens the newest generation."""
        return partial(type(self).open, verify=self._verify), (self._store.source, self._encoder.encoder)

    # ---- Reading: the rest is in `IndexReader`

    @property
    def path(self) -> Path:
        """The folder of the index."""
        return self._store.path

    @property
    def store(self) -> Store:
        """The files of the index."""
        return self._store

    def refresh(self) -> bool:
        """Move to the newest generation. Returns True if there was a newer one."""
        if self._store.read() == self.view.manifest:
            return False
        self._current = self._load(self.view)
        return True

    def newest(self) -> Self:
        """Return an object that sees the newest generation: this object if it does, else a new one."""
        if self._store.read() == self.view.manifest:
            return self
        return type(self)(self._store, self._encoder, verify=self._verify, known=self.view)

    def snapshot(self, path: str | Path) -> None:
        """Copy the generation that this object sees to a new folder or URL. Raises `IndexExists`, `IndexWriteError`."""
        if is_url(path):
            publish_at({"": (self._store, self.view.manifest)}, path)
            return
        target = Store(Path(path))
        manifest = self.view.manifest
        target.create()
        with target.writing(new=True) as writer:
            for file in manifest.files():
                writer.copy(file, self._store)
            writer.commit(manifest)

    def check(self) -> dict[str, Any]:
        """Verify every byte of the newest generation; see `IndexReader.check`. Raises `CorruptIndexError`."""
        manifest, pin = self._store.pin()
        Generation.load(self._store, manifest, verify=True, pin=pin).check()
        return self.info()

    # ---- Writing: each call is one transaction. It is committed in full, or nothing has changed.

    def add(
        self,
        documents: Documents,
        *,
        text: str = "text",
        id: str = "id",  # noqa: A002
        vectors: Vectors | None = None,
        progress: bool | Progress = False,
    ) -> list[str]:
        """Add documents and return their ids.

        - `documents`: texts, mappings with "id", "text" and "metadata", or `Document`s. One without an id gets its
          decimal position as id. Or a frame of pandas or polars, an Arrow table or a Hugging Face dataset: its rows are
          documents.
        - `text`, `id`: a frame's columns of the texts and ids. Its other columns become metadata. Missing values (None,
          NaN, NaT) are left out, and dates become ISO 8601 text.
        - `vectors`: ready-made token vectors, one array [n_d, dim] per document, or a `Ragged`. By default the texts
          are encoded.
        - `progress`: show a progress bar, or call a function, as in `Encoder.encode_documents`.

        Raises `DuplicateId` when an id is in the index already, `InvalidInput`, `IndexLocked`, `IndexWriteError`. The
        index is unchanged after any error.

            >>> from refcolbert import Index
            >>> index = Index.create("mixed")
            >>> index.add(["a text alone", {"id": "b", "text": "with metadata", "metadata": {"year": 2020}}])
            ['0', 'b']
        """
        items = records(documents, text, id, need_text=vectors is None)
        return self._put(items, vectors, progress, replacing=False)

    def upsert(
        self,
        documents: Documents,
        *,
        text: str = "text",
        id: str = "id",  # noqa: A002
        vectors: Vectors | None = None,
        progress: bool | Progress = False,
        group_by: str | None = None,
    ) -> list[str]:
        """Add documents and return their ids. A document whose id is in the index replaces that one, at a new position.

        - `group_by`: a metadata key. All documents in the groups of the new ones are replaced as well. With
          "passage_of", the passages of a text replace all its earlier passages.

        The other parameters and errors are those of `add`, except that a known id is no error.

            >>> from refcolbert import Index
            >>> index = Index.create("replaced", dim=2)
            >>> index.add([{"id": "a"}, {"id": "b"}], vectors=[[[1, 0]], [[0, 1]]])
            ['a', 'b']
            >>> index.upsert([{"id": "a"}], vectors=[[[0.6, 0.8]]])
            ['a']
            >>> index.ids()
            ['b', 'a']
        """
        items = records(documents, text, id, need_text=vectors is None)
        return self._put(items, vectors, progress, replacing=True, group_by=group_by)

    def update_metadata(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the metadata of documents. Their texts and vectors stay as they are, so nothing is encoded.

        - `metadata`: id -> all metadata of that document from now on.

        As after `upsert`, the documents come after all others. Raises `UnknownId`, and then changes nothing.

            >>> from refcolbert import Index
            >>> index = Index.create("relabelled", dim=2)
            >>> index.add([{"id": "a"}, {"id": "b"}], vectors=[[[1, 0]], [[0, 1]]])
            ['a', 'b']
            >>> index.update_metadata({"a": {"read": True}})
            >>> [hit.id for hit in index.search([[1, 0]], where={"read": True})]
            ['a']
        """
        if not metadata:
            return
        with self._writing() as (writer, generation):
            places = sorted(generation.places(list(metadata)))
            new = segment_files.take(generation.stored, places)
            changed = [{"id": d.id, "text": d.text, "metadata": metadata[d.id]} for d in new.documents]
            next_position = generation.manifest.next_position
            positions = next_position + np.arange(len(changed))
            new = replace(
                new,
                segment=replace(new.segment, positions=positions),
                documents=as_documents(changed, next_position, need_text=False),
            )
            publish(writer, generation, generation.without(places), [new])

    def sync(
        self,
        documents: Documents,
        *,
        text: str = "text",
        id: str = "id",  # noqa: A002
        progress: bool | Progress = False,
    ) -> Synced:
        """Make the index hold exactly these documents; see `synchronize`.

        >>> from refcolbert import Index
        >>> index = Index.create("mirror")
        >>> index.sync([{"id": "a", "text": "one"}, {"id": "b", "text": "two"}])
        Synced(added=2, changed=0, removed=0, unchanged=0)
        >>> index.sync([{"id": "a", "text": "one"}, {"id": "b", "text": "three"}])
        Synced(added=0, changed=1, removed=0, unchanged=1)
        """
        return synchronize(self, records(documents, text, id, need_text=True), progress)

    def delete(self, ids: Iterable[str], *, group_by: str | None = None) -> None:
        """Delete documents.

        - `ids`: their ids, or with `group_by` the names of groups.
        - `group_by`: a metadata key. All documents of the groups are deleted.

        Raises `UnknownId` naming one that is not in the index, and then deletes nothing.
        """
        names = id_list(ids)
        with self._writing() as (writer, generation):
            places = generation.places(names) if group_by is None else group_places(generation, names, group_by)
            publish(writer, generation, generation.without(places), [])

    def compact(self, refit: bool = False, *, words: str | None = None) -> None:
        """Merge all segments into one without deleted documents.

        - `refit`: also fit the codec again to the stored vectors, after documents have drifted from it (`info`).
        - `words`: cut the texts into words again with this tokenizer; see `create`. By default an index keeps its own.
          One that was made before indexes had words gets those that `create` would give it.
        """
        with self._writing() as (writer, generation):
            manifest = generation.manifest
            if words is not None or manifest.format_version == 1:
                words = words_for(manifest.encoder, words or "auto")
            publish(writer, generation, generation.stored, [], merge_all=True, refit=refit, words=words)

    def reencode(self, encoder: Encoder, progress: bool = False) -> None:
        """Encode every text again with another model, in one generation.

        - `encoder`: the new model of the index.
        - `progress`: show a progress bar.

        Raises `InvalidInput` when a document has no text.
        """
        with self._writing() as (writer, generation):
            missing = [document.id for document in generation.live_documents() if document.text is None]
            if missing:
                raise InvalidInput(
                    f"expected a text in every document, found {len(missing)} without, the first is {missing[0]!r}; "
                    "delete or replace them first"
                )
            entry = EncoderEntry(encoder.hash, encoder.source)
            # Without words, which are cut at the end: a staged segment keeps fewer files open.
            manifest = replace(generation.manifest, dim=encoder.dim, encoder=entry, words=None, codec=None, segments=())
            positions = generation.segmented.positions[generation.segmented.live]
            staged = []
            with tqdm(desc="reencode", unit="doc", total=len(positions), disable=not progress) as bar:
                for first, batch in batches(generation.live_documents(), BUILD_BATCH):
                    vectors = document_vectors(batch, None, encoder, manifest, bar.update)
                    new = segment_files.encode(
                        vectors, batch, positions[first : first + len(batch)], None, manifest.vector_format
                    )
                    written = segment_files.write(writer, [new], manifest, None, None)
                    staged.append(segment_files.load(self._store, manifest, written, verify=False))
            empty = Generation.load(self._store, manifest, verify=False)
            publish(writer, empty, staged, [], merge_all=True, words=generation.manifest.words)
        self._encoder.encoder = encoder

    # ---- Private

    def _put(
        self,
        documents: Iterable[Any],
        vectors: Vectors | None,
        progress: bool | Progress,
        *,
        replacing: bool,
        group_by: str | None = None,
    ) -> list[str]:
        """Add a batch in one transaction and return its ids; see `add` and `upsert` for the parameters.

        The batch is checked and encoded before anything is written. Documents that it replaces are marked as deleted in
        their segments, and the batch becomes a new segment. Both are committed together.
        """
        with self._writing() as (writer, generation):
            manifest = generation.manifest
            batch = as_documents(documents, manifest.next_position, need_text=vectors is None)
            if not batch:
                return []
            names = [document.id for document in batch]
            known = generation.find(names)
            if known and not replacing:
                raise DuplicateId(f"id {next(iter(known))!r} is in the index already; use upsert to replace it")
            replaced = set(known.values())
            if group_by is not None:
                groups = {group_of(document.id, document.metadata, group_by) for document in batch}
                replaced.update(*members(generation, groups, group_by).values())
            encoder = self._encoder(manifest) if vectors is None else None
            ragged = document_vectors(batch, vectors, encoder, manifest, progress)
            positions = manifest.next_position + np.arange(len(batch))
            new = segment_files.encode(ragged, batch, positions, generation.segmented.codec, manifest.vector_format)
            publish(writer, generation, generation.without(replaced), [new])
            warn_of_drift(self.path, manifest, new)
            return names

    @contextmanager
    def _writing(self) -> Iterator[tuple[Writer, Generation]]:
        """Hold the lock of writers for one operation on the newest generation, and see its result afterwards."""
        if not self._write_lock.acquire(blocking=False):
            raise IndexLocked(f"{self.path} is being written by another thread; try again later")
        try:
            with self._store.writing() as writer:
                self.refresh()
                generation = self.view
                yield writer, generation
                self._current = self._load(generation)
        finally:
            self._write_lock.release()

    def _load(self, known: Generation | None = None) -> Generation:
        """Return the newest generation, pinned. Segments that `known` has loaded are not read again."""
        manifest, pin = self._store.pin()
        size = sum(file.bytes for file in manifest.files())
        full = self._verify == "full" or (self._verify == "auto" and size <= FULL_VERIFY_BYTES)
        return Generation.load(self._store, manifest, verify=full, pin=pin, known=known)
