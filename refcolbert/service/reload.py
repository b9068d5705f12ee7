"""The index that is served: one whole generation, replaced by the next one after a writer has committed it."""

from dataclasses import dataclass
from pathlib import Path

from ..encoding.encoder import Encoder
from ..errors import EncoderMismatch, ModelError
from ..reading import IndexReader
from ..sharded import open_index

__all__ = ["Live", "Served"]


@dataclass(frozen=True, slots=True)
class Served:
    """One generation with its encoder, which is None for an index of ready-made vectors."""

    index: IndexReader
    encoder: Encoder | None


class Live:
    """The newest generation of an index. A request reads `now` once and uses it to its end.

    path     the index, a folder or a URL
    model    a model folder or hub id instead of the index's own
    threads  threads of ONNX Runtime inside one operator: 1 if as many searches run in parallel as there are cores

    Raises the errors of `open_index`, and `EncoderMismatch`.
    """

    def __init__(self, path: Path | str, model: str | None = None, *, threads: int = 1) -> None:
        self._path, self._model, self._threads = path, model, threads
        # The model is loaded first: verifying all bytes of the index takes longer.
        with open_index(path, verify="fast") as unverified:
            encoder = self._encoder_of(unverified, None)
        self.now = self._served(open_index(path, encoder), encoder)

    def refresh(self) -> bool:
        """Load the newest generation, then replace `now` by it. Returns False if `now` is the newest."""
        newest = self.now.index.newest()
        if newest is self.now.index:
            return False
        self.now = self._served(newest, self.now.encoder)
        return True

    def _served(self, index: IndexReader, encoder: Encoder | None) -> Served:
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
