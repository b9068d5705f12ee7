"""Arguments of `Index` methods: checked, and converted to the types that the other modules take."""

import itertools
import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from .arrays import Floats
from .checks import check_count, check_seed, check_texts, check_vectors
from .documents import Document, Frame
from .encoding.encoder import Encoder, Progress, is_packaged
from .encoding.words import WordTokenizer
from .engine.bm25 import Collection, QueryWords, weigh
from .engine.codec import NBITS
from .engine.pooling import pool_documents
from .engine.ragged import Ragged
from .errors import EncoderMismatch, InvalidInput, MissingDependency, ModelError
from .storage.format import LARGEST_POOL_FACTOR, RAW, EncoderEntry, Manifest, VectorFormat

__all__ = [
    "MODES",
    "Documents",
    "EncoderFor",
    "EncoderOnDemand",
    "Query",
    "ReadyQuery",
    "Vectors",
    "batches",
    "check_min_score",
    "document_vectors",
    "first_manifest",
    "id_list",
    "matching_encoder",
    "query_arrays",
    "ready_queries",
    "words_for",
]

Vectors = Ragged | Sequence[ArrayLike]
Documents = Iterable[str | Mapping[str, Any] | Document] | Frame
Query = str | ArrayLike
EncoderFor = Callable[[Manifest], Encoder]  # returns the encoder whose vectors an index holds
MOST = sys.float_info.max
MODES = ("late", "words", "hybrid")

log = logging.getLogger("refcolbert")


@dataclass(frozen=True, eq=False)
class ReadyQuery:
    """A query as the engine takes it."""

    query: Query  # as the caller passed it
    vectors: Floats | None  # [n_q, dim]; None in a search by words
    words: QueryWords | None  # weighted for the collection; None in a search by vectors

    @cached_property
    def n_vectors(self) -> int:
        """The number of vectors that are not zero, at least 1. A zero vector adds nothing to a score."""
        return 1 if self.vectors is None else max(int(self.vectors.any(axis=1).sum()), 1)


def first_manifest(
    encoder: Encoder | None,
    dim: int | None,
    nbits: int | str,
    train_at: int,
    seed: int,
    pool_factor: int,
    words: str | None,
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
        words=words_for(EncoderEntry(encoder.hash, encoder.source) if encoder else None, words),
        encoder=EncoderEntry(encoder.hash, encoder.source) if encoder else None,
    )


def words_for(encoder: EncoderEntry | None, words: str | None) -> str | None:
    """Return the tokenizer that `words` names, once it has been tried; None for no words.

    "auto" is "porter" with a model of the package, which knows English, "unicode61" with another model, and None for
    ready-made vectors. It is also None, with a warning, where SQLite has no full-text search. Raises `InvalidInput`,
    and `MissingDependency` for another name where SQLite lacks it.
    """
    if words is None or (words == "auto" and encoder is None):
        return None
    name = words if words != "auto" or encoder is None else "porter" if is_packaged(encoder.source) else "unicode61"
    try:
        WordTokenizer(name).terms("")
    except MissingDependency as error:
        if words != "auto":
            raise
        log.warning("the index gets no words: %s", error)
        return None
    return name


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
            encoder = Encoder.load(entry.source, expected_hash=entry.hash)
        except ModelError as error:
            if is_packaged(entry.source) and isinstance(error, EncoderMismatch):
                named = repr(entry.source) if entry.source else ""
                raise EncoderMismatch(
                    f"{path} was made with the {entry.source or 'default'} model of another version of refcolbert, "
                    f"{entry.hash[:12]}; call reencode(Encoder.load({named})) to encode its texts with this version's"
                ) from error
            raise EncoderMismatch(f"{path} needs the model {name}: {error}") from error
    if encoder.hash != entry.hash:
        raise EncoderMismatch(
            f"{path} holds vectors of the model {name}, found {encoder.hash[:12]} from {encoder.folder}; "
            "open it with that model, or call reencode(encoder) to change it"
        )
    return encoder


class EncoderOnDemand:
    """The encoder whose vectors an index holds: the caller's, or the index's own, loaded at the first use."""

    def __init__(self, encoder: Encoder | None, path: Path) -> None:
        self.encoder, self._path = encoder, path

    def __call__(self, manifest: Manifest) -> Encoder:
        """Return the encoder. Raises `EncoderMismatch` as `matching_encoder` does."""
        self.encoder = matching_encoder(self.encoder, manifest, self._path)
        return self.encoder


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


def ready_queries(
    queries: Sequence[Query],
    vectors: Sequence[ArrayLike] | None,
    mode: str,
    encoder_for: EncoderFor,
    manifest: Manifest,
    collection_of: Callable[[Sequence[bytes]], Collection],
) -> list[ReadyQuery]:
    """Return the queries with what `mode` needs of them: vectors, words, or both.

    - `vectors`: each query's vectors, which are then not computed.
    - `collection_of`: returns the collection's counts, at least of the given terms. Called if the mode needs words.

    Raises as `query_arrays` does. Raises
    `InvalidInput` for an unknown mode, for a query without a text or an index without words in a mode that needs them.
    """
    if mode not in MODES:
        raise InvalidInput(f"mode must be one of {', '.join(MODES)}, found {mode!r}")
    if vectors is not None and len(vectors) != len(queries):
        raise InvalidInput(f"expected vectors for {len(queries)} queries, found {len(vectors)}")
    arrays: Sequence[Floats | None] = [None] * len(queries)
    if mode != "words":
        arrays = query_arrays(queries if vectors is None else vectors, encoder_for, manifest)
    words: Sequence[QueryWords | None] = [None] * len(queries)
    if mode != "late":
        words = _words(queries, mode, manifest, collection_of)
    return [ReadyQuery(*ready) for ready in zip(queries, arrays, words, strict=True)]


def _words(
    queries: Sequence[Query], mode: str, manifest: Manifest, collection_of: Callable[[Sequence[bytes]], Collection]
) -> list[QueryWords]:
    """Return the words of each query. Raises `InvalidInput` if the index has no words, or no text at all."""
    if manifest.words is None:
        raise InvalidInput(
            f"mode={mode!r} requires an index with words, found one without; compact(words='porter') adds the words of "
            "its texts, create(..., words='porter') makes an index with words"
        )
    tokenizer = WordTokenizer(manifest.words)
    terms = [tokenizer.terms(_text(query, mode)) for query in queries]
    collection = collection_of(list(itertools.chain.from_iterable(terms)))
    if collection.n_live and not collection.total_words:
        raise InvalidInput(
            f"mode={mode!r} requires documents with words, found {collection.n_live} without a text; add the "
            "documents with their texts"
        )
    return [weigh(own, collection) for own in terms]


def _text(query: Query, mode: str) -> str:
    if not isinstance(query, str):
        raise InvalidInput(f"mode={mode!r} requires a query with a text, found vectors; pass the text, and vectors=...")
    (text,) = check_texts([query], "query")
    return text


def check_min_score(min_score: object, mode: str) -> float:
    """Return the least similarity of a hit; -inf for None. Raises `InvalidInput`, also for a mode without one."""
    if min_score is None:
        return -math.inf
    if isinstance(min_score, bool) or not isinstance(min_score, int | float) or not abs(min_score) <= MOST:
        raise InvalidInput(f"min_score must be a finite number, such as 0.5, found {min_score!r}")
    if mode == "words":
        raise InvalidInput("min_score is a similarity of vectors, which mode='words' does not compute; use 'hybrid'")
    return float(min_score)


def id_list(ids: Iterable[str]) -> list[str]:
    """Return the ids as a list, without repetitions. Raises `InvalidInput` for one string in place of a list."""
    if isinstance(ids, str):
        raise InvalidInput("expected a list of ids, found one string; pass [id]")
    return list(dict.fromkeys(ids))


def batches(documents: Iterable[Any], size: int, smallest: int | None = None) -> Iterator[tuple[int, list[Any]]]:
    """Yield lists of up to `size` documents, each with the number of its first.

    With `smallest`, the first list has as many, and each later one as many as all before it, up to `size`. The sizes
    depend on nothing but numbers, because the texts of a batch change a vector by rounding.

    >>> list(batches("abcde", 2))
    [(0, ['a', 'b']), (2, ['c', 'd']), (4, ['e'])]
    >>> [(first, "".join(batch)) for first, batch in batches("abcdefghijklm", 4, 1)]
    [(0, 'a'), (1, 'b'), (2, 'cd'), (4, 'efgh'), (8, 'ijkl'), (12, 'm')]
    """
    rest, first = iter(documents), 0
    while batch := list(itertools.islice(rest, min(max(first, smallest or size), size))):
        yield first, batch
        first += len(batch)
