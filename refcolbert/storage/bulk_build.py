"""Building: index a large collection in bounded memory, and publish it in one step when it is complete.

Batches are staged beside the target, as raw segments of an index of their own. So an interruption loses at most one
batch. The first batches are small, so that something is kept of a small collection, too. At the end a codec is fitted
to a sample of all vectors, and everything is encoded with it and becomes one segment. A build may also begin with a
codec, which then encodes each batch when it is staged.

Memory holds one batch of documents with their vectors at a time, and at the end the codec's sample (`codec.SAMPLE`
vectors and a few copies of them). It also holds some 100 bytes per document, and 6 bytes per token for offsets and
inverted lists. The disk holds 2 dim bytes per token (4 dim for float32) until the index is published.
"""

import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..documents import Document
from ..engine.codec import Codec
from ..engine.ragged import Ragged
from ..errors import DuplicateId, IndexNotFound, InvalidInput
from . import segment_files
from .format import Manifest
from .generation import Generation
from .publish import publish, stage
from .store import Store

__all__ = ["Building", "staging_store"]

log = logging.getLogger("refcolbert")


def staging_store(target: Path) -> Store:
    """Return the store, beside `target`, in which the index is built before it is moved to `target`."""
    return Store(target.with_name(target.name + ".building"))


class Building:
    """An index that is being built. It continues what an interrupted build has staged, if there is any."""

    def __init__(self, target: Path, manifest: Manifest, codec: Codec | None = None, error: float = 0.0) -> None:
        """Begin or continue the build of an index at `target`.

        `manifest` is the empty generation to begin with. With `codec`, whose quantization error is `error`, no codec is
        fitted. Raises `InvalidInput` when an interrupted build had another manifest.
        """
        self._target, self._store = target, staging_store(target)
        # Words are cut at the end. Six more files in each staged segment would reach the limit of open files sooner.
        self._words, manifest = manifest.words, replace(manifest, words=None)
        try:
            staged = self._store.read()
        except IndexNotFound:
            # No build was begun, or it was interrupted before its first manifest.
            self._store.create()
            with self._store.writing(new=True) as writer:
                entry = None if codec is None else segment_files.write_codec(writer, codec, error)
                writer.commit(replace(manifest, codec=entry))
        else:
            empty = replace(
                staged, generation=manifest.generation, next_position=0, words=None, codec=None, segments=()
            )
            # A build that was interrupted after its last step has its words already.
            if empty != manifest or staged.words not in (None, self._words):
                raise InvalidInput(
                    f"expected the model and the options of the interrupted build in {self._store.path}, "
                    "found others; use those, or remove that folder"
                )
        self._generation = Generation.load(self._store, self._store.read(), verify=False)
        # The documents that an earlier attempt staged. The first documents must equal them, in the same order.
        self._staged = self._generation.live_documents()
        if self.n_staged:
            log.info("%s: %d documents of an interrupted build are kept", self._store.path, self.n_staged)
        # One 64-bit hash per id takes less memory than the id. An id whose hash is known is looked up among the stored
        # ids, so equal hashes of different ids do no harm.
        self._hashes = {hash(name) for name in self._generation.ids()}

    @property
    def n_staged(self) -> int:
        """The number of documents that are staged."""
        return self._generation.manifest.next_position

    def n_held(self, batch: Sequence[Document]) -> int:
        """Return how many documents of the next batch an earlier attempt has staged: they are its first ones.

        Raises `InvalidInput` when that attempt staged other documents there, `DuplicateId` when another document has
        the id of a staged one.
        """
        staged = list(itertools.islice(self._staged, len(batch)))
        if any(_content(old) != _content(new) for old, new in zip(staged, batch, strict=False)):
            raise self._others()
        names = [document.id for document in batch[len(staged) :]]
        if any(hash(name) in self._hashes for name in names):
            for name in self._generation.find(names):
                raise DuplicateId(f"expected distinct ids, id {name!r} occurs twice among the documents; rename one")
        return len(staged)

    def _others(self) -> InvalidInput:
        return InvalidInput(
            f"expected the documents of the interrupted build in {self._store.path}, found others; "
            "pass those, or remove that folder"
        )

    def stage(self, batch: list[Document], vectors: Ragged) -> None:
        """Add documents and their vectors."""
        with self._store.writing() as writer:
            manifest = self._generation.manifest
            positions = manifest.next_position + np.arange(len(batch))
            codec = self._generation.segmented.codec
            new = segment_files.encode(vectors, batch, positions, codec, manifest.vector_format)
            manifest = stage(writer, self._generation, new)
        self._generation = Generation.load(self._store, manifest, verify=False, known=self._generation)
        self._hashes.update(hash(document.id) for document in batch)

    def finish(self) -> None:
        """Fit a codec if there is none and there are enough tokens, make everything one segment, move it to the target.

        Raises `InvalidInput` when an earlier attempt staged more documents than there are now.
        """
        if next(self._staged, None) is not None:
            raise self._others()
        with self._store.writing() as writer:
            manifest = publish(writer, self._generation, self._generation.stored, [], merge_all=True, words=self._words)
        del self._generation, self._staged
        # One more commit, because the staged vectors would otherwise stay on disk as the previous generation.
        with self._store.writing() as writer:
            writer.commit(replace(manifest, generation=writer.generation))
        self._store.move(self._target)


def _content(document: Document) -> tuple[str, str | None, str]:
    """Return what is stored of a document: 1 and true are equal in Python, and a tuple is stored as a list."""
    return document.id, document.text, json.dumps(document.metadata, sort_keys=True)
