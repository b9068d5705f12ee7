"""Index: searchable documents in a folder on disk.

An `Index` object sees one generation: one complete, immutable state of the index. Its own writes and `refresh()` move
it to the newest generation. Searches that run meanwhile in other threads keep the generation that they began with.

This module connects the others: `arguments` checks what callers pass, `encoding` makes vectors, `engine` searches,
`storage` reads and writes files, `hits` makes the answer.
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

from .arguments import (
    Documents,
    Query,
    ReadyQuery,
    Vectors,
    batches,
    check_min_score,
    document_vectors,
    first_manifest,
    id_list,
    matching_encoder,
    query_arrays,
    ready_queries,
    words_for,
)
from .arrays import Floats
from .documents import Document, as_documents, records
from .encoding.encoder import Encoder, Progress
from .engine.hybrid import search_by
from .engine.ragged import Ragged
from .engine.search import SearchOptions, search_many
from .engine.segments import SegmentedIndex
from .errors import DuplicateId, IndexExists, IndexLocked, InvalidInput
from .hits import Hit, Hits, best_of_groups, hits_of, similar_enough
from .storage import segment_files
from .storage.bulk_build import Building
from .storage.format import EncoderEntry, Manifest
from .storage.generation import Generation, warn_of_drift
from .storage.groups import group_of, group_places, members
from .storage.publish import publish
from .storage.store import Store, Writer

__all__ = ["Index"]

NBITS = 4
TRAIN_AT = 1 << 17  # tokens; a scan of fewer raw vectors takes a few hundredths of a second
FULL_VERIFY_BYTES = 256 << 20  # up to this size, verify="auto" checks every byte when opening
# Documents that `build` encodes and stages at a time: the most, and the fewest, with which it begins.
BUILD_BATCH, FIRST_BATCH = 2048, 64


class Index:
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

    def __init__(self, store: Store, encoder: Encoder | None, *, verify: str, known: Generation | None = None) -> None:
        """See the newest generation in `store`. `known` is an earlier one that is loaded already."""
        if verify not in ("auto", "full", "fast"):
            raise InvalidInput(f"verify must be 'auto', 'full' or 'fast', found {verify!r}")
        self._store, self._encoder, self._verify = store, encoder, verify
        self._write_lock = threading.Lock()
        self._current: Generation | None = self._load(known)

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
          None for no words. "auto" is "porter" with the default model, "unicode61" with another model, and None with
          `dim` alone.

        Raises `IndexExists`, `InvalidInput`, `ModelNotFound` when there is no default model, `MissingDependency` when
        this Python's SQLite lacks the tokenizer (with "auto", that is a warning, and the index gets no words).

            >>> from refcolbert import Index
            >>> len(Index.create("vectors", dim=128))
            0
        """
        if encoder is None and dim is None:
            encoder = Encoder.load()
        store = Store(Path(path))
        manifest = first_manifest(encoder, dim, nbits, train_at, seed, pool_factor, words)
        store.create()
        with store.writing(new=True) as writer:
            writer.commit(manifest)
        return cls(store, encoder, verify="auto")

    @classmethod
    def open(cls, path: str | Path, encoder: Encoder | None = None, *, verify: str = "auto") -> Self:
        """Open an index.

        - `path`: its folder.
        - `encoder`: its model. By default the model is loaded at the first text, from the path or name
          that the index has on record.
        - `verify`: "full" checks every byte. "fast" checks the manifest, sizes, headers and the small arrays, so damage
          may go unseen until `check`. "auto" is full up to 256 MiB.

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
        target = Path(path)
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
        building.finish()
        return cls.open(target, encoder)

    def snapshot(self, path: str | Path) -> None:
        """Copy the generation that this object sees to a new folder, an index of its own.

        The copy is consistent while others write. Raises `IndexExists`, `IndexWriteError`.
        """
        target = Store(Path(path))
        manifest = self.view.manifest
        target.create()
        with target.writing(new=True) as writer:
            for file in manifest.files():
                writer.copy(file, self._store)
            writer.commit(manifest)

    def close(self) -> None:
        """Close the files. Hits of earlier searches keep what they need; any other use raises `InvalidInput`."""
        # Database connections, mapped files and the pin end with the last search or hit that still uses them.
        self._current = None

    def refresh(self) -> bool:
        """Move to the newest generation. Returns True if there was a newer one."""
        if self._store.read() == self.view.manifest:
            return False
        self._current = self._load(self.view)
        return True

    def newest(self) -> Self:
        """Return an object that sees the newest generation: this object if it does, else a new one.

        This object goes on seeing its own generation.
        """
        if self._store.read() == self.view.manifest:
            return self
        return type(self)(self._store, self._encoder, verify=self._verify, known=self.view)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path, not the content: another process opens the newest generation."""
        return partial(type(self).open, verify=self._verify), (self.path, self._encoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- Reading

    @property
    def path(self) -> Path:
        """The folder of the index."""
        return self._store.path

    @property
    def generation(self) -> int:
        """The number of the generation that this object sees. Each write makes the next one."""
        return self.view.manifest.generation

    @property
    def segmented(self) -> SegmentedIndex:
        """The token vectors that this object sees, as `engine.search.search` takes them. They are immutable."""
        return self.view.segmented

    @property
    def view(self) -> Generation:
        """The generation that this object sees: documents and vectors that belong together. It is immutable.

        Raises `InvalidInput` after `close`.
        """
        if self._current is None:
            raise InvalidInput(f"expected an open index, found {self.path} closed; open it again with Index.open")
        return self._current

    def __len__(self) -> int:
        """Return the number of live documents."""
        return len(self.view)

    def __contains__(self, document_id: object) -> bool:
        """Return True if a live document has this id."""
        return isinstance(document_id, str) and document_id in self.view.find([document_id])

    def ids(self) -> list[str]:
        """Return the ids of the live documents, by position: in the order in which they were added."""
        return list(self.view.ids())

    def get(self, ids: Iterable[str]) -> list[Document]:
        """Return the documents with these ids, in that order.

        Raises `UnknownId` for an id that is not in the index.

            >>> from refcolbert import Index
            >>> index = Index.create("texts", dim=2)
            >>> index.add([{"id": "a", "text": "east"}, {"id": "b", "text": "north"}], vectors=[[[1, 0]], [[0, 1]]])
            ['a', 'b']
            >>> [document.text for document in index.get(["b", "a"])]
            ['north', 'east']
        """
        generation = self.view
        return [generation.stored[i].documents.get([row])[0] for i, row in generation.places(id_list(ids))]

    def vectors(self, ids: Iterable[str]) -> Ragged:
        """Return the stored vectors of the documents with these ids, decoded, in that order.

        Raises `UnknownId` for an id that is not in the index.
        """
        generation = self.view
        starts = generation.segmented.starts
        numbers = np.array([starts[i] + row for i, row in generation.places(id_list(ids))], np.int64)
        order = np.argsort(numbers)
        return generation.segmented.vectors(numbers[order]).take(np.argsort(order))

    def query_vectors(self, queries: Sequence[Query]) -> list[Floats]:
        """Return each query as an array [n_q, dim]: texts encoded together, arrays checked. Raises as `search` does."""
        return query_arrays(queries, self._encoder_for, self.view.manifest)

    def info(self) -> dict[str, Any]:
        """Return facts about the index: counts, sizes in bytes, settings, and the quantization error.

        For example:

            >>> from refcolbert import Index
            >>> info = Index.create("empty", dim=128, nbits=2).info()
            >>> info["documents"], info["dim"], info["nbits"], info["generation"]
            (0, 128, 2, 1)
        """
        return {"path": str(self.path), **self.view.info()}

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        mode: str = "late",
        vectors: ArrayLike | None = None,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        group_by: str | None = None,
        min_score: float | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
        threads: int = 1,
    ) -> Hits:
        """Return the k best documents for a query, by score descending, then position ascending.

        - `query`: a text, or query vectors [n_q, dim].
        - `k`: number of hits. There are fewer only if the index, `where`, `ids`, `min_score` or `mode` leave fewer.
        - `mode`: "late" ranks by MaxSim. "words" ranks by BM25, without the model, and returns only documents that have
          a word of the query. "hybrid" ranks by both, fused (`engine.hybrid`). The last two need a text as query, and
          an index with words. The text is text: quotes, AND, * and other signs mean nothing.
        - `vectors`: the query's vectors [n_q, dim], if they are computed already.
        - `where`: a metadata filter (`filters`), applied before candidates are chosen.
        - `ids`: ids to search among, likewise. Ids that are not in the index match nothing.
        - `group_by`: a metadata key. The answer is the best document of each of the k best groups. With "passage_of",
          that is one passage of each text that was split.
        - `min_score`: leave out hits whose `similarity` is lower, such as 0.5. `refcolbert tune --no-answer` finds a
          value for an index. There may be fewer than k hits then, or none. Not for the mode "words".
        - `nprobe`: cells that are probed per query token; default 16. More cells find more of the true best documents
          and take longer.
        - `candidates`: documents that are kept after the inverted lists are read; default 1024. The best 2 k + 12 of
          them are ranked.
        - `exact`: rank every document instead.
        - `threads`: threads that share the work of one query. They help most where BLAS itself has one thread
          (OPENBLAS_NUM_THREADS=1). The answer does not depend on them.

        Every returned MaxSim is exact for the stored vectors, and every BM25 is exact, whatever the parameters.
        Raises `InvalidInput`, `EncoderMismatch` for a text when the index's model is not available, and
        `MissingDependency` for a mode with words when this Python's SQLite has no full-text search.

            >>> from refcolbert import Index
            >>> index = Index.create("compass", dim=2)
            >>> east = {"id": "east", "metadata": {"axis": "x"}}
            >>> north = {"id": "north", "metadata": {"axis": "y"}}
            >>> index.add([east, north], vectors=[[[1, 0]], [[0, 1], [0.6, 0.8]]])
            ['east', 'north']
            >>> query = [[1, 0], [0, 1]]  # two query tokens
            >>> [(hit.id, round(hit.score, 2)) for hit in index.search(query)]  # 1 + 0 and .6 + 1
            [('north', 1.6), ('east', 1.0)]
            >>> [hit.id for hit in index.search(query, where={"axis": "x"})]
            ['east']
        """
        return self.search_many(
            [query],
            k,
            mode=mode,
            vectors=None if vectors is None else [vectors],
            where=where,
            ids=ids,
            group_by=group_by,
            min_score=min_score,
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
        mode: str = "late",
        vectors: Sequence[ArrayLike] | None = None,
        where: Mapping[str, Any] | None = None,
        ids: Iterable[str] | None = None,
        group_by: str | None = None,
        min_score: float | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        exact: bool = False,
        threads: int = 1,
    ) -> list[Hits]:
        """Return the hits of each query, all from the same generation.

        - `queries`: texts, which are encoded together, and query vectors [n_q, dim], in any mixture.
        - `threads`: queries that are searched at a time. For one query, or with `group_by`, the threads share the work
          of each query instead.

        The other parameters are those of `search`; filters are applied once for all queries. Raises as `search` does.
        """
        generation = self.view
        options = SearchOptions.of(nprobe=nprobe, candidates=candidates, exact=exact, threads=threads)
        least = check_min_score(min_score, mode)
        allowed = generation.allowed(where, ids)
        ready = ready_queries(queries, vectors, mode, self._encoder_for, generation.manifest, generation.segmented)

        def search_ready(queries: Sequence[ReadyQuery], n: int) -> list[list[Hit]]:
            pairs = [(query.vectors, query.terms) for query in queries]
            results = search_many(pairs, generation.segmented, n, options, allowed=allowed, search_one=search_by)
            return [hits_of(generation, self._encoder_for, *answer) for answer in zip(queries, results, strict=True)]

        def search_one(query: ReadyQuery, n: int) -> list[Hit]:
            return search_ready([query], n)[0]

        if group_by is None:
            answers = search_ready(ready, k)
        else:
            answers = [best_of_groups(partial(search_one, query), k, group_by, least) for query in ready]
        return [similar_enough(hits, least) for hits in answers]

    def check(self) -> dict[str, Any]:
        """Verify every byte of the newest generation, and everything that can be computed again. Returns `info()`.

        Raises `CorruptIndexError` naming the file and what is wrong with it.
        """
        manifest, pin = self._store.pin()
        Generation(self._store, manifest, verify=True, pin=pin).check()
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
            empty = Generation(self._store, manifest, verify=False)
            publish(writer, empty, staged, [], merge_all=True, words=generation.manifest.words)
        self._encoder = encoder

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
            encoder = self._encoder_for(manifest) if vectors is None else None
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
        return Generation(self._store, manifest, verify=full, pin=pin, known=known)

    def _encoder_for(self, manifest: Manifest) -> Encoder:
        """Return the encoder whose vectors the index holds, loaded at the first use. Raises `EncoderMismatch`."""
        self._encoder = matching_encoder(self._encoder, manifest, self.path)
        return self._encoder
