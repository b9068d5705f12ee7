"""The index that is served: always one whole generation, exchanged for the next one when a writer has committed it."""

from dataclasses import dataclass
from pathlib import Path

from ..encoding.encoder import Encoder
from ..errors import EncoderMismatch, ModelError
from ..index import Index

__all__ = ["Live", "Served"]


@dataclass(frozen=True, slots=True)
class Served:
    """One generation with its encoder, None where the index takes ready-made vectors only."""

    index: Index
    encoder: Encoder | None


class Live:
    """The newest generation of an index. A request takes `now` once and keeps it to its end.

    `model` overrides the index's own; `threads` are those of ONNX Runtime inside one operator: 1 where as many
    searches run at a time as there are cores. Raises what `Index.open` raises, and `EncoderMismatch`.
    """

    def __init__(self, path: Path, model: str | None = None, *, threads: int = 1) -> None:
        self._model, self._threads = model, threads
        with Index.open(path, verify="fast") as first:  # the model is loaded before bytes are verified
            encoder = self._encoder_of(first, None)
        self.now = self._served(Index.open(path, encoder), encoder)

    def refresh(self) -> bool:
        """Move to the newest generation, loaded whole before it is shown; True if that is another one."""
        newest = self.now.index.newest()
        if newest is self.now.index:
            return False
        self.now = self._served(newest, self.now.encoder)
        return True

    def _served(self, index: Index, encoder: Encoder | None) -> Served:
        """The generation with its encoder: `encoder` unless a writer has encoded the index anew with another one."""
        mine = self._encoder_of(index, encoder)
        return Served(index if mine is encoder else Index.open(index.path, mine), mine)

    def _encoder_of(self, index: Index, encoder: Encoder | None) -> Encoder | None:
        entry = index.info()["encoder"]
        if entry is None or (encoder is not None and encoder.hash == entry["hash"]):
            return encoder
        return self._load(index, entry)

    def _load(self, index: Index, entry: dict[str, str]) -> Encoder:
        """The encoder whose vectors the index holds. Raises `EncoderMismatch` when it is not at hand."""
        try:
            encoder = Encoder.load(self._model or entry["source"], threads=self._threads)
        except ModelError as error:
            raise EncoderMismatch(f"{index.path} needs the model {entry['source'] or 'default'}: {error}") from error
        if encoder.hash != entry["hash"]:
            raise EncoderMismatch(
                f"{index.path} holds vectors of the model {entry['hash'][:12]}, found {encoder.hash[:12]} in "
                f"{encoder.folder}; name the right one with --model"
            )
        return encoder
