"""What users pass to an index, checked and in the form in which the other rooms take it."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from .checks import check_count, check_seed, check_vectors
from .documents import Document
from .encoding.encoder import Encoder, Progress
from .engine import codec as codecs
from .engine.pooling import pool_documents
from .engine.ragged import Ragged
from .errors import InvalidInput
from .storage.format import LARGEST_POOL_FACTOR, RAW, EncoderEntry, Manifest

__all__ = ["Documents", "Query", "Vectors", "batches", "first_manifest", "id_list", "ragged_of"]

Vectors = Ragged | Sequence[ArrayLike]
Documents = Iterable[str | Mapping[str, Any] | Document]
Query = str | ArrayLike


def first_manifest(
    encoder: Encoder | None, dim: int | None, nbits: int | str, train_at: int, seed: int, pool_factor: int
) -> Manifest:
    """The empty generation that an index begins with. Raises `InvalidInput`."""
    if encoder is not None and dim not in (None, encoder.dim):
        raise InvalidInput(f"dim is {dim}, the encoder gives vectors of dim {encoder.dim}; leave dim out")
    if nbits not in (*codecs.NBITS, *RAW) or isinstance(nbits, bool):
        raise InvalidInput(f"nbits must be one of {[*codecs.NBITS, *RAW]}, found {nbits!r}")
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


def ragged_of(
    batch: Sequence[Document],
    vectors: Vectors | None,
    encoder: Encoder | None,
    manifest: Manifest,
    progress: bool | Progress,
) -> Ragged:
    """The vectors of a batch as they are added: given ones, checked, or those of the texts; pooled."""
    if vectors is None and encoder is not None:
        vectors = encoder.encode_documents([document.text or "" for document in batch], progress)
    ragged = vectors if isinstance(vectors, Ragged) else Ragged.from_list(vectors or [], manifest.dim)
    if len(ragged) != len(batch):
        raise InvalidInput(f"expected vectors for {len(batch)} documents, found {len(ragged)}")
    checked = Ragged(check_vectors(ragged.vectors, "vectors", manifest.dim), ragged.offsets)
    return pool_documents(checked, manifest.pool_factor)


def id_list(ids: Iterable[str]) -> list[str]:
    """The ids, each once."""
    if isinstance(ids, str):
        raise InvalidInput("ids must be a list of ids, found one string; pass [id]")
    return list(dict.fromkeys(ids))


def batches(documents: Documents, size: int) -> Iterator[tuple[int, list[Any]]]:
    """Lists of up to `size` documents, each with the number of its first."""
    rest = iter(documents)
    for first in itertools.count(step=size):
        batch = list(itertools.islice(rest, size))
        if not batch:
            return
        yield first, batch
