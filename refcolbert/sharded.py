"""ShardedIndex: several indexes in one folder, searched as one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from .arguments import Documents, EncoderOnDemand, Vectors, id_list
from .checks import check_vectors
from .corpus.readers import PASSAGE_OF
from .documents import Document, as_documents, records
from .encoding.encoder import Encoder, Progress
from .engine.ragged import Ragged
from .errors import CorruptIndexError, DuplicateId, IndexExists, InvalidInput
from .index import Index
from .reading import IndexReader
from .storage.generation import Generation, Place
from .storage.groups import group_of, group_places, members
from .storage.remote import is_sharded_at, is_url, publish_at, shard_stores
from .storage.shards import check_alike, list_of, write_shards, writing_shards
from .storage.store import Store
from .synchronize import Synced, synchronize

__all__ = ["ShardedIndex", "open_index"]


def open_index(path: str | Path, encoder: Encoder | None = None, *, verify: str = "auto") -> "Index | ShardedIndex":
    """Open the index in a folder or at a URL, one index or a sharded one.

    The parameters and errors are those of `Index.open`.

    >>> import refcolbert
    >>> index = refcolbert.Index.create("either", dim=2)
    >>> len(refcolbert.open_index("either"))
    0
    """
    if is_sharded_at(path):
        return ShardedIndex.open(path, encoder, verify=verify)
    return Index.open(path, encoder, verify=verify)


class ShardedIndex(IndexReader):
    """A searchable collection in several shards, each of them an index of its own. `cluster.build` makes one.

    It reads like an `Index`. In one process its answers are those of one index with the segments of all shards, bit for
    bit, by any mode and with any filter, because all shards share one codec and one model.

    Writes are transactions of one shard each. `add` writes to the last shard, `upsert` and `delete` to the shards that
    own the ids. A call that touches several shards can be interrupted between two of them; then some of its documents
    are written and the others are not, and the same call completes it. Only one writer at a time may use the folder.
    """

    def __init__(
        self,
        source: str | Path,
        path: Path,
        names: Sequence[str],
        shards: Sequence[Index],
        encoder: EncoderOnDemand,
        *,
        verify: str,
        complete: bool,
    ) -> None:
        """See the generations that `shards` see.

        - `source`: `path`, or the URL of which `path` is a copy.
        - `complete`: these are all shards of the index.

        Raises `CorruptIndexError` for shards that do not belong together.
        """
        super().__init__(encoder, verify)
        self._source, self._path, self._names, self._shards = source, path, tuple(names), tuple(shards)
        self._complete = complete
        self._current = self._join()

    @classmethod
    def open(
        cls,
        path: str | Path,
        encoder: Encoder | None = None,
        *,
        verify: str = "auto",
        shards: Sequence[str] | None = None,
    ) -> Self:
        """Open a sharded index.

        - `shards`: open only the shards of these names, in the order of the index, to read them.

        The other parameters are those of `Index.open`. Raises `InvalidInput` for a name that is not there.

        Raises `IndexNotFound`, `IndexTooNewError`, and `CorruptIndexError` naming the shard that is damaged. The other
        shards can still be opened, each as an `Index`.
        """
        folder, stores = shard_stores(path)
        source = EncoderOnDemand(encoder, folder)
        if shards is not None:
            if isinstance(shards, str) or not shards or set(shards) - set(stores):
                raise InvalidInput(f"expected a list of some of the shards {', '.join(stores)}, found {shards!r}")
            stores = {name: store for name, store in stores.items() if name in shards}
        opened = [_open_shard(name, store, source, verify) for name, store in stores.items()]
        seen = path if is_url(path) else folder
        return cls(seen, folder, [*stores], opened, source, verify=verify, complete=shards is None)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path, not the content: another process opens the newest generation."""
        shards = None if self._complete else self._names
        return partial(type(self).open, verify=self._verify, shards=shards), (self._source, self._encoder.encoder)

    # ---- Reading: the rest is in `IndexReader`

    @property
    def path(self) -> Path:
        """The folder with the shards."""
        return self._path

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the shards, in order."""
        return self._names

    @property
    def shards(self) -> tuple[Index, ...]:
        """The shards, in order."""
        return self._shards

    def info(self) -> dict[str, Any]:
        """Return facts about the index, as `Index.info` does, and the number of shards.

        Bytes are those of all shards. The generation is the sum of theirs.
        """
        bytes_of: dict[str, int] = defaultdict(int)
        for shard in self._shards:
            for role, n_bytes in shard.view.manifest.bytes_of().items():
                bytes_of[role] += n_bytes
        sizes = {"bytes": sum(bytes_of.values()), "bytes_of": dict(bytes_of)}
        return super().info() | sizes | {"shards": len(self._shards)}

    def refresh(self) -> bool:
        """Move to the newest generation of every shard. Returns True if one was newer.

        If an index of other shards was moved to the same path, that one is opened.
        """
        if (other := self._other()) is not None:
            self._names, self._shards = other.names, other.shards
            self._current = self._join()
            return True
        for shard in self._shards:
            shard.refresh()
        # Not by what these calls return: a shard may have moved before, by a call of another thread.
        if all(shard.view is view for shard, view in zip(self._shards, self._views, strict=True)):
            return False
        self._current = self._join()
        return True

    def newest(self) -> Self:
        """Return an object that sees the newest generations: this object if it does, else a new one."""
        if (other := self._other()) is not None:
            return other
        newest = [shard.newest() for shard in self._shards]
        if all(new is old for new, old in zip(newest, self._shards, strict=True)):
            return self
        return type(self)(
            self._source,
            self.path,
            self._names,
            newest,
            self._encoder,
            verify=self._verify,
            complete=self._complete,
        )

    def snapshot(self, path: str | Path) -> None:
        """Copy the generations that this object sees to a new folder or URL. Raises `IndexExists`, `IndexWriteError`.

        An interrupted copy has no shards.json, so nothing takes it for an index.
        """
        if is_url(path):
            seen = {name: (s.store, s.view.manifest) for name, s in zip(self._names, self._shards, strict=True)}
            publish_at(seen, path, shards=list_of(self._names))
            return
        target = Path(path).absolute()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise IndexExists(f"{target} exists already; choose another path or remove it first")
        for name, shard in zip(self._names, self._shards, strict=True):
            shard.snapshot(target / name)
        write_shards(target, self._names)

    def check(self) -> dict[str, Any]:
        """Verify every byte of the newest generation of every shard, and that no id is in two of them.

        Returns `info()`. Raises `CorruptIndexError` naming the shard.
        """
        for name, shard in zip(self._names, self._shards, strict=True):
            with _naming(name):
                shard.check()
        self.newest().view.check_ids()
        return self.info()

    def close(self) -> None:
        """Close the files of all shards. Hits of earlier searches keep what they need."""
        super().close()
        for shard in self._shards:
            shard.close()

    # ---- Writing: one transaction per shard

    def add(
        self,
        documents: Documents,
        *,
        text: str = "text",
        id: str = "id",  # noqa: A002
        vectors: Vectors | None = None,
        progress: bool | Progress = False,
    ) -> list[str]:
        """Add documents to the last shard, in one transaction, and return their ids; see `Index.add`.

        A document without an id gets the number of all documents that were ever added as its id. Raises `DuplicateId`
        for an id that some shard has.
        """
        with self._writing():
            batch = self._documents(records(documents, text, id, need_text=vectors is None), vectors)
            known = self.view.find([document.id for document in batch])
            if known:
                raise DuplicateId(f"id {next(iter(known))!r} is in the index already; use upsert to replace it")
            return self._shards[-1].add(batch, vectors=vectors, progress=progress)

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
        """Add documents and return their ids; see `Index.upsert`. One whose id is known replaces that one.

        It is written to the shard of the document that it replaces, or with `group_by` to the shard of its group, and
        else to the last shard. So a position only grows within its shard. Raises `InvalidInput` for a document that
        would replace documents of two shards.
        """
        with self._writing():
            batch = self._documents(records(documents, text, id, need_text=vectors is None), vectors)
            if not batch:
                return []
            # All texts are encoded before anything is written, so that an error there changes nothing.
            if vectors is None:
                encoder = self._encoder(self.view.manifest)
                vectors = encoder.encode_documents([document.text or "" for document in batch], progress)
            ragged = vectors if isinstance(vectors, Ragged) else Ragged.from_list(vectors, self.view.manifest.dim)
            if len(ragged) != len(batch):
                raise InvalidInput(f"expected vectors for {len(batch)} documents, found {len(ragged)}")
            # Each shard checks its own vectors, but the shards before it would be written by then.
            check_vectors(ragged.vectors, "vectors", self.view.manifest.dim)
            by_shard: dict[int, list[int]] = defaultdict(list)
            owners = self._owners(batch, group_by)
            for i, owner in enumerate(owners):
                by_shard[owner].append(i)
            for owner, rows in sorted(by_shard.items()):
                self._shards[owner].upsert(
                    [batch[i] for i in rows], vectors=ragged.take(np.array(rows)), group_by=group_by
                )
            for number, shard in enumerate(self._shards):
                # As in `delete`, an id may be in several shards. The others would keep its earlier document.
                others = [document.id for document, owner in zip(batch, owners, strict=True) if owner != number]
                if old := shard.view.find(others):
                    shard.delete(old)
            return [document.id for document in batch]

    def update_metadata(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the metadata of documents, in one transaction per shard; see `Index.update_metadata`."""
        with self._writing():
            by_shard: dict[int, dict[str, Mapping[str, Any]]] = defaultdict(dict)
            names = list(metadata)
            # All are checked before anything is written, so that a wrong one changes nothing.
            as_documents([{"id": name, "metadata": metadata[name]} for name in names], 0, need_text=False)
            for name, place in zip(names, self.view.places(names), strict=True):
                by_shard[self._shard_of(place)][name] = metadata[name]
            for owner, own in sorted(by_shard.items()):
                self._shards[owner].update_metadata(own)

    def sync(
        self,
        documents: Documents,
        *,
        text: str = "text",
        id: str = "id",  # noqa: A002
        progress: bool | Progress = False,
    ) -> Synced:
        """Make the index hold exactly these documents; see `synchronize`.

        An id that is in several shards, because a document was added to a shard itself, keeps its last document.
        """
        self.refresh()
        n_before = len(self)
        synced = synchronize(self, records(documents, text, id, need_text=True), progress)
        with self._writing():
            kept = set[str]()
            for shard in reversed(self._shards):
                ids = set(shard.ids())
                shard.delete(ids & kept)
                kept |= ids
        return synced._replace(removed=n_before + synced.added - len(self))

    def delete(self, ids: Iterable[str], *, group_by: str | None = None) -> None:
        """Delete documents, or with `group_by` groups, in one transaction per shard that has some of them.

        Raises `UnknownId` naming one that no shard has, and then deletes nothing.
        """
        with self._writing():
            names, view = id_list(ids), self.view
            places = view.places(names) if group_by is None else group_places(view, names, group_by)
            names = [document.id for document in self._at(places)]
            for shard in self._shards:
                # An id may be in several shards, if a document was added to a shard itself.
                if own := shard.view.find(names):
                    shard.delete(own)

    def compact(self, refit: bool = False, *, words: str | None = None) -> None:
        """Merge the segments of each shard into one without deleted documents; see `Index.compact`.

        Raises `InvalidInput` for `refit`: all shards share the codec, so a new one needs a new index.
        """
        if refit:
            raise InvalidInput("expected refit=False for a sharded index, found True; build the index again")
        with self._writing():
            for shard in self._shards:
                shard.compact(words=words)

    # ---- Private

    def _other(self) -> Self | None:
        """Return the index that is at the path now, if its shards are others."""
        if self._current is None or not self._complete or tuple(shard_stores(self._source)[1]) == self._names:
            return None
        return type(self).open(self._source, self._encoder.encoder, verify=self._verify)

    def _documents(self, items: Iterable[Any], vectors: Vectors | None) -> list[Document]:
        n_ever = sum(shard.view.manifest.next_position for shard in self._shards)
        return as_documents(items, n_ever, need_text=vectors is None)

    def _owners(self, batch: Sequence[Document], group_by: str | None) -> list[int]:
        """Return the number of the shard to which each document is written: [n].

        A new passage goes to the shard that has the other passages of its text, whether `group_by` says so or not: they
        could not be replaced together otherwise.
        """
        key = PASSAGE_OF if group_by is None else group_by
        known = {name: self._shard_of(place) for name, place in self.view.find([d.id for d in batch]).items()}
        names = {d.id: group_of(d.id, d.metadata, key) for d in batch if group_by is not None or key in d.metadata}
        # Looking up groups reads the metadata of all documents, so it is done for those that have one.
        found = members(self.view, set(names.values()), key) if names else {}
        groups = {name: {self._shard_of(place) for place in places} for name, places in found.items()}
        for document in batch:
            if document.id in known and document.id in names:
                groups.setdefault(names[document.id], set()).add(known[document.id])
        owners = []
        for document in batch:
            shards = {known[document.id]} if document.id in known else set()
            if group_by is not None or not shards:
                shards |= groups.get(names.get(document.id, ""), set())
            if len(shards) > 1 and group_by is not None:
                raise InvalidInput(
                    f"expected all documents that {document.id!r} replaces in one shard, found them in "
                    f"{' and '.join(self._names[i] for i in sorted(shards))}; delete them first, then add it"
                )
            owners.append(max(shards, default=len(self._shards) - 1))
        return owners

    def _shard_of(self, place: Place) -> int:
        """Return the number of the shard that a segment of the view belongs to."""
        segment, _ = place
        for number, shard in enumerate(self._shards):
            segment -= len(shard.view.stored)
            if segment < 0:
                return number
        raise InvalidInput(f"expected a segment of the index, found number {place[0]}")

    def _at(self, places: Sequence[Place]) -> Iterator[Document]:
        for segment, row in places:
            yield from self.view.stored[segment].documents.get([row])

    def _join(self) -> Generation:
        views = [shard.view for shard in self._shards]
        check_alike(self._names, [view.manifest for view in views])
        self._views = views
        return Generation.join(views)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock of writers for one operation on the newest generations, and see its result afterwards."""
        if not self._complete:
            # An id may be in a shard that is not open.
            raise InvalidInput(
                f"expected all shards of {self.path} to be open, found {', '.join(self._names)}; "
                "open it without shards=..."
            )
        with writing_shards(self.path):
            self.refresh()
            try:
                yield
            finally:
                self._current = self._join()


def _open_shard(name: str, store: Store, encoder: EncoderOnDemand, verify: str) -> Index:
    with _naming(name):
        return Index(store, encoder, verify=verify)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the shard in an error about its files."""
    try:
        yield
    except CorruptIndexError as error:
        raise CorruptIndexError(f"shard {name}: {error}") from error
