"""Arguments of `Index` methods: checked, and converted to the types that the other modules take."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from .arrays import Floats
from .checks import check_count, check_seed, check_vectors
from .documents import Document
from .encoding.encoder import Encoder, Progress
from .engine.codec import NBITS
from .engine.pooling import pool_documents
from .engine.ragged import Ragged
from .errors import EncoderMismatch, InvalidInput, ModelError
from .storage.format import LARGEST_POOL_FACTOR, RAW, EncoderEntry, Manifest, VectorFormat

__all__ = [
    "Documents",
    "EncoderFor",
    "Query",
    "Vectors",
    "batches",
    "document_vectors",
    "first_manifest",
    "id_list",
    "matching_encoder",
    "query_arrays",
]

Vectors = Ragged | Sequence[ArrayLike]
Documents = Iterable[str | Mapping[str, Any] | Document]
Query = str | ArrayLike
EncoderFor = Callable[[Manifest], Encoder]  # returns the encoder whose vectors an index holds


def first_manifest(
    encoder: Encoder | None, dim: int | None, nbits: int | str, train_at: int, seed: int, pool_factor: int
) -> Manifest:
    """Return the manifest of an empty index with these options of `Index.create`. Raises `InvalidInput`."""
    if encoder is not None and dim not in (None, encoder.dim):
        raise InvalidInput(f"dim must be {encoder.dim}, the encoder's, found {dim!r}; leave it out")
    if not VectorFormat.allows(nbits):
        raise InvalidInput(f"nbits must be one of {[*NBITS, *RAW]}, found {nbits!r}")
    if check_count(pool_factor, "pool_factor") > LARGEST_POOL_FACTOR:
        raise InvalidInput(f"pool_factor must be at most {LARGEST_POOL_FACTOR}, found {pool_factor}")
    return Manifest(
        generation=1,
        dim=check_count(encoder.dim if encoder else dim, "dim"),
        nbits=nbits,
        train_at=check_count(train_at, "train_at"),
        seed=check_seed(seed),
        pool_factor=pool_factor,
        encoder=EncoderEntry(encoder.hash, encoder.source) if encoder else None,
    )


def matching_encoder(encoder: Encoder | None, manifest: Manifest, path: Path) -> Encoder:
    """Return the encoder whose vectors the index at `path` holds.

    That is `encoder`. If it is None, the model is loaded from the path or name in the manifest. Raises
    `EncoderMismatch` if the index has no encoder, if the model cannot be loaded, and if it is another model.
    """
    entry = manifest.encoder
    if entry is None:
        raise EncoderMismatch(f"{path} was made for ready-made vectors of dim {manifest.dim}: pass vectors, not texts")
    name = f"{entry.hash[:12]} ({entry.source or 'the default model'})"
    if encoder is None:
        try:
            encoder = Encoder.load(entry.source)
        except ModelError as error:
            raise EncoderMismatch(f"{path} needs the model {name}: {error}") from error
    if encoder.hash != entry.hash:
        raise EncoderMismatch(
            f"{path} holds vectors of the model {name}, found {encoder.hash[:12]} from {encoder.folder}; "
            "open it with that model, or call reencode(encoder) to change it"
        )
    return encoder


def document_vectors(
    batch: Sequence[Document],
    vectors: Vectors | None,
    encoder: Encoder | None,
    manifest: Manifest,
    progress: bool | Progress,
) -> Ragged:
    """Return the vectors of a batch as the index stores them: the caller's or the encoded texts', checked and pooled.

    Raises `InvalidInput` for vectors of another dim, and for another number of documents.
    """
    if vectors is None and encoder is not None:
        vectors = encoder.encode_documents([document.text or "" for document in batch], progress)
    ragged = vectors if isinstance(vectors, Ragged) else Ragged.from_list(vectors or [], manifest.dim)
    if len(ragged) != len(batch):
        raise InvalidInput(f"expected vectors for {len(batch)} documents, found {len(ragged)}")
    checked = Ragged(check_vectors(ragged.vectors, "vectors", manifest.dim), ragged.offsets)
    return pool_documents(checked, manifest.pool_factor)


def query_arrays(queries: Sequence[Query], encoder_for: EncoderFor, manifest: Manifest) -> list[Floats]:
    """Return each query as an array [n_q, dim]. All texts are encoded together.

    Raises `InvalidInput` for one string in place of a list and for vectors of another dim. Raises `EncoderMismatch` for
    a text if the index's encoder is not available.
    """
    if isinstance(queries, str):
        raise InvalidInput("expected a list of queries, found one string; use search, or pass [query]")
    texts = [query for query in queries if isinstance(query, str)]
    encoded = iter(encoder_for(manifest).encode_queries(texts) if texts else [])
    return [next(encoded) if isinstance(q, str) else check_vectors(q, "query", manifest.dim) for q in queries]


def id_list(ids: Iterable[str]) -> list[str]:
    """Return the ids as a list, without repetitions. Raises `InvalidInput` for one string in place of a list."""
    if isinstance(ids, str):
        raise InvalidInput("expected a list of ids, found one string; pass [id]")
    return list(dict.fromkeys(ids))


def batches(documents: Iterable[Any], size: int) -> Iterator[tuple[int, list[Any]]]:
    """Yield lists of up to `size` documents, each with the number of its first.

    >>> list(batches("abcde", 2))
    [(0, ['a', 'b']), (2, ['c', 'd']), (4, ['e'])]
    """
    rest = iter(documents)
    for first in itertools.count(step=size):
        batch = list(itertools.islice(rest, size))
        if not batch:
            return
        yield first, batch
