"""The index that is served: always one whole generation, exchanged for the next one when a writer has committed it."""

import logging
from pathlib import Path

from ..encoder import Encoder
from ..errors import EncoderMismatch, RefColbertError
from ..index import Index

__all__ = ["Live"]

log = logging.getLogger("refcolbert.service")


class Live:
    """The newest generation of an index, with its encoder. Requests take `index` once and keep it to their end.

    `threads` are those of ONNX Runtime inside one operator: 1, as searches share the cores already.
    """

    def __init__(self, path: Path, model: str | None = None, *, threads: int = 1) -> None:
        self._model, self._threads = model, threads
        with Index.open(path, verify="fast") as found:
            self.encoder = self._load(found)
        self.index = Index.open(path, self.encoder)

    def refresh(self) -> bool:
        """Move to the newest generation, loaded whole before it is shown; True if that is another one."""
        newest = self.index.newest()
        if newest is self.index:
            return False
        entry = newest.info()["encoder"]
        if entry and self.encoder and entry["hash"] != self.encoder.hash:
            self.encoder = self._load(newest)
            newest = Index.open(newest.path, self.encoder)
        self.index = newest
        return True

    def _load(self, index: Index) -> Encoder | None:
        """The encoder whose vectors the index holds. Raises `EncoderMismatch` when it is not at hand."""
        entry = index.info()["encoder"]
        if entry is None:
            return None
        try:
            encoder = Encoder.load(self._model or entry["source"], threads=self._threads)
        except RefColbertError as error:
            raise EncoderMismatch(f"{index.path} needs the model {entry['source'] or 'default'}: {error}") from error
        if encoder.hash != entry["hash"]:
            raise EncoderMismatch(
                f"{index.path} holds vectors of the model {entry['hash'][:12]}, found {encoder.hash[:12]} from "
                f"{encoder.folder}; name that model with --model"
            )
        return encoder
