"""Building: a large collection, encoded and staged in bounded memory, and published once, complete.

Batches are staged beside the target as raw segments of an index of their own, so an interruption loses one batch at
most. In the end a codec is fitted to a sample of all vectors, and everything becomes one segment, encoded with it.

At once in memory: one batch of documents with their vectors; then the codec's sample (`codec.SAMPLE` vectors and a few
copies of them), some 100 bytes a document and 6 a token for offsets and inverted lists. On disk: 2 dim bytes a token
(4 for float32) until the index is published.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..documents import Document
from ..engine.ragged import Ragged
from ..errors import DuplicateId, IndexNotFound, InvalidInput
from . import segment_files
from .format import Manifest
from .generation import Generation, publish
from .store import Store

__all__ = ["Building"]


class Building:
    """An index in the making; begins anew or goes on with what an interrupted one left."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        """`manifest` is the empty generation to begin with. Raises `InvalidInput` when another is under way."""
        self._store = store
        try:
            found = store.read()
        except IndexNotFound:  # nothing was begun, or it died before its first manifest
            store.create()
            with store.writing(new=True) as writer:
                writer.commit(manifest)
        else:
            empty = replace(found, generation=manifest.generation, next_position=0, codec=None, segments=())
            if empty != manifest:
                raise InvalidInput(
                    f"{store.path} holds an interrupted build with another model or other options; remove it"
                )
        self._generation = Generation(store, store.read(), verify=False)
        self._staged = self._generation.ids()  # of an earlier attempt, to be met again
        self._seen = {hash(name) for name in self._generation.ids()}  # 64 bits each; what they say is checked

    @property
    def done(self) -> int:
        """Documents that are staged."""
        return self._generation.manifest.next_position

    def holds(self, first: int, batch: Sequence[Document]) -> bool:
        """Whether the documents from the first-th on were staged by an earlier attempt.

        Raises `InvalidInput` when that attempt had others there, `DuplicateId` when one has been staged under its id.
        """
        names = [document.id for document in batch]
        if first < self.done:
            if names != list(itertools.islice(self._staged, len(names))):
                raise InvalidInput(f"{self._store.path} holds an interrupted build of other documents; remove it")
            return True
        if any(hash(name) in self._seen for name in names):
            for name in self._generation.find(names):
                raise DuplicateId(f"id {name!r} occurs twice among the documents")
        return False

    def stage(self, batch: list[Document], vectors: Ragged) -> None:
        """Add documents and their vectors."""
        with self._store.writing() as writer:
            manifest = self._generation.manifest
            positions = manifest.next_position + np.arange(len(batch))
            made = segment_files.encode(vectors, batch, positions, None, manifest.nbits)
            manifest = publish(writer, self._generation, self._generation.stored, [made], staging=True)
        self._generation = Generation(self._store, manifest, verify=False, known=self._generation)
        self._seen.update(hash(document.id) for document in batch)

    def finish(self, target: Path) -> None:
        """Fit the codec if there are tokens enough, make everything one segment, and move it to `target`."""
        with self._store.writing() as writer:
            manifest = publish(writer, self._generation, self._generation.stored, [], merge_all=True)
        del self._generation, self._staged
        with self._store.writing() as writer:  # once more, or the staged vectors would stay as the previous generation
            writer.commit(replace(manifest, generation=writer.generation))
        self._store.move(target)
