"""The index that is served: one whole generation, replaced by the next one after a writer has committed it."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from .._version import __version__
from ..arguments import Query
from ..arrays import Floats
from ..documents import Document
from ..encoding.encoder import Encoder
from ..errors import EncoderMismatch, ModelError
from ..hits import Hits
from ..index import Index
from ..reading import IndexReader
from ..sharded import ShardedIndex, open_index

__all__ = ["Live", "Servable", "Served"]

Kind = TypeVar("Kind", bound="Servable", covariant=True)


class Servable(Protocol):
    """What the endpoints ask: an `IndexReader`, or the parts of a router."""

    @property
    def path(self) -> Path:
        """Its name is shown."""

    @property
    def generation(self) -> int:
        """Each write makes the next one."""

    def __len__(self) -> int: ...

    def info(self) -> dict[str, Any]:
        """See `Index.info`."""

    def get(self, ids: Iterable[str]) -> list[Document]:
        """See `Index.get`."""

    def query_vectors(self, queries: Sequence[Query]) -> list[Floats]:
        """See `Searchable.query_vectors`."""

    # mypy takes these for any parameters
    def search(self, *args: Any, **options: Any) -> Hits:
        """See `Searchable.search`."""

    def search_many(self, *args: Any, **options: Any) -> list[Hits]:
        """See `Searchable.search_many`."""


@dataclass(frozen=True, slots=True)
class Served(Generic[Kind]):
    """One generation with its encoder, which is None for an index of ready-made vectors."""

    index: Kind
    encoder: Encoder | None


class Live:
    """The newest generation of an index. A request reads `now` once and uses it to its end.

    path     the index, a folder or a URL
    model    a model folder or hub id instead of the index's own
    threads  threads of ONNX Runtime inside one operator: 1 if as many searches run in parallel as there are cores
    writable  `write` is allowed

    Raises the errors of `open_index`, and `EncoderMismatch`.
    """

    def __init__(self, path: Path | str, model: str | None = None, *, threads: int = 1, writable: bool = False) -> None:
        self.writable, self._write_lock = writable, threading.Lock()
        self._path, self._model, self._threads = path, model, threads
        # The model is loaded first: verifying all bytes of the index takes longer.
        with open_index(path, verify="fast") as unverified:
            encoder = self._encoder_of(unverified, None)
        self.now = self._served(open_index(path, encoder), encoder)
        self._info = _public_info(self.now.index)

    def info(self) -> dict[str, Any]:
        """Return `Index.info` without the paths of this machine, and the version. Routers ask every second."""
        return self._info

    def readiness(self) -> dict[str, Any]:
        """Return what a probe is told beside the status: nothing."""
        return {}

    def write(self, change: Callable[[Index | ShardedIndex], Any]) -> int:
        """Change the newest generation, one caller at a time, and return the generation that is served then.

        `change` gets an object of its own: requests that run meanwhile keep the generation that they began with.
        Raises the errors of the change, and `IndexLocked` while another process writes.
        """
        with self._write_lock, open_index(self._path, self.now.encoder, verify="fast") as index:
            change(index)
            self.refresh()
            return self.now.index.generation

    def refresh(self) -> bool:
        """Load the newest generation, then replace `now` by it. Returns False if `now` is the newest."""
        newest = self.now.index.newest()
        if newest is self.now.index:
            return False
        self.now = self._served(newest, self.now.encoder)
        self._info = _public_info(newest)
        return True

    def _served(self, index: IndexReader, encoder: Encoder | None) -> Served[IndexReader]:
        """The generation with its encoder: `encoder`, unless a writer has reencoded the index with another one."""
        own = self._encoder_of(index, encoder)
        return Served(index if own is encoder else open_index(self._path, own), own)

    def _encoder_of(self, index: IndexReader, encoder: Encoder | None) -> Encoder | None:
        entry = index.info()["encoder"]
        if entry is None or (encoder is not None and encoder.hash == entry["hash"]):
            return encoder
        return self._load(index, entry)

    def _load(self, index: IndexReader, entry: dict[str, str]) -> Encoder:
        """The encoder that made the index's vectors. Raises `EncoderMismatch` if it cannot be loaded."""
        source = self._model or entry["source"]
        try:
            return Encoder.load(source, threads=self._threads, expected_hash=entry["hash"])
        except ModelError as error:
            raise EncoderMismatch(f"{index.path} needs the model {source or 'default'} (--model): {error}") from error


def _public_info(index: IndexReader) -> dict[str, Any]:
    info = index.info()
    encoder = info["encoder"] and {"hash": info["encoder"]["hash"]}
    return {**info, "path": index.path.name, "encoder": encoder, "version": __version__}
