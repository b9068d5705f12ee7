"""The part that all stores share: an index for reading and writing, and its documents by filter or by id."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..documents import Document
from ..encoding.encoder import Encoder
from ..errors import IndexNotFound, InvalidInput
from ..hits import Hit
from ..index import Index
from ..reading import IndexReader
from ..sharded import ShardedIndex, open_index

__all__ = ["Writable", "matching", "opened", "remove", "text_of"]

Writable = Index | ShardedIndex


def opened(index: Writable | str | Path, encoder: Encoder | None) -> Writable:
    """Return an open index as it is. Open the one in a folder, or make an empty one if there is none.

    - `encoder`: the model of a folder's index; by default its own, or the default model for one that is made.
    """
    if isinstance(index, Writable):
        return index
    try:
        return open_index(index, encoder)
    except IndexNotFound:
        return Index.create(index, encoder)


def matching(
    index: IndexReader, where: Mapping[str, Any] | None = None, ids: Iterable[str] | None = None
) -> list[Document]:
    """Return the documents that match `where` and are among `ids`, by position. Unknown ids match nothing."""
    view = index.view
    allowed, live = view.allowed(where, ids), view.segmented.live
    return view.documents(np.flatnonzero(live if allowed is None else live & allowed))


def remove(index: Writable, ids: Iterable[str]) -> int:
    """Delete the documents with these ids, and return their number. Unknown ids are passed over."""
    # A new generation is not made for nothing.
    if known := list(index.view.find(list(ids))):
        index.delete(known)
    return len(known)


def text_of(index: IndexReader, found: Document | Hit) -> str:
    """Return the text of a document. Raises `InvalidInput` if it has none."""
    if found.text is None:
        raise InvalidInput(
            f"expected documents with text, found none in {found.id!r}: {index.path} holds it as vectors only"
        )
    return found.text
