"""Make an index hold exactly the documents of a source: add new ones, encode changed texts again, delete the rest."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from .arguments import batches
from .documents import Document, as_documents
from .encoding.encoder import Progress
from .errors import DuplicateId, InvalidInput
from .storage.generation import Generation

__all__ = ["Synced", "synchronize"]

BATCH = 2048  # documents compared and written at a time


class Synced(NamedTuple):
    """Numbers of documents."""

    added: int
    changed: int  # in text or metadata
    removed: int
    unchanged: int


class _Writable(Protocol):
    """An index that can be written: one, or a sharded one."""

    @property
    def view(self) -> Generation: ...
    def ids(self) -> list[str]: ...
    def get(self, ids: Iterable[str]) -> list[Document]: ...
    def upsert(self, documents: list[Document], *, progress: bool | Progress) -> list[str]: ...
    def update_metadata(self, metadata: Mapping[str, Mapping[str, Any]]) -> None: ...
    def delete(self, ids: Iterable[str]) -> None: ...
    def refresh(self) -> bool: ...


def synchronize(index: _Writable, documents: Iterable[Any], progress: bool | Progress = False) -> Synced:
    """Make the index hold exactly these documents, and return how many were added, changed, removed, unchanged.

    - `documents`: all documents, each with its text. One without an id gets its number. They are read once.

    A text that is in the index under the same id is not encoded again. Documents whose text or metadata changed come
    after all others, as after `upsert`. Documents are written in batches, each of them one transaction, and what is
    gone is deleted last. An interrupted call leaves some of the changes undone, and the same call completes it.

    Raises `DuplicateId`, and `InvalidInput` for no documents at all: a source that is empty is more often a wrong path.
    """
    index.refresh()
    seen: set[str] = set()
    n_added = n_changed = 0
    for first, items in batches(documents, BATCH):
        batch = as_documents(items, first, need_text=True)
        for document in batch:
            if document.id in seen:
                raise DuplicateId(f"expected distinct ids, id {document.id!r} occurs twice; rename one")
            seen.add(document.id)
        known = index.view.find([document.id for document in batch])
        stored = {old.id: old for old in index.get(known)}
        new_texts = [d for d in batch if d.id not in stored or stored[d.id].text != d.text]
        others = (d for d in batch if d.id in stored and stored[d.id].text == d.text)
        relabelled = {d.id: d.metadata for d in others if _json(stored[d.id].metadata) != _json(d.metadata)}
        index.upsert(new_texts, progress=progress)
        index.update_metadata(relabelled)
        n_added += sum(d.id not in stored for d in batch)
        n_changed += sum(d.id in stored for d in new_texts) + len(relabelled)
    gone = [name for name in index.ids() if name not in seen]
    if gone and not seen:
        raise InvalidInput(f"expected documents, found none, but {len(gone)} in the index; delete those by their ids")
    if gone:
        index.delete(gone)
    return Synced(n_added, n_changed, len(gone), len(seen) - n_added - n_changed)


def _json(metadata: Mapping[str, Any]) -> str:
    # As it is stored: 1 and true are equal in Python, and a tuple is stored as a list.
    return json.dumps(metadata, sort_keys=True)
