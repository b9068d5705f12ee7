"""Import of indexes in PLAID's layout.

fast-plaid, next-plaid and Stanford's ColBERT share one layout: metadata.json with "num_chunks" and "nbits" (Stanford's
has that in "config"), the centroids [n_centroids, dim], the weights [2^nbits] of the buckets, and for each chunk i
`i.codes` [n_tokens], `i.residuals` [n_tokens, dim * nbits / 8] uint8 and doclens.i.json. A vector is centroid + weight
of each component's bucket, normalized; a bucket number takes nbits bits, the low one first, counted from the high bit
of the first byte (our own `codec.pack` counts from the low bit).

The first two keep arrays as `.npy`, which are read here, without pickle; `buffer.npy`, which fast-plaid pickles, is
refused. Stanford keeps them as `.pt`, for which another package registers a reader (`PT_READER`).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import Documents
from ..encoding.encoder import Encoder
from ..engine.ragged import Ragged, offsets_of
from ..errors import IndexExists, InvalidInput, MissingDependency
from ..index import NBITS, Index
from ..storage.locks import open_regular_file

__all__ = ["Plaid", "checked_array", "import_plaid", "open_plaid", "read_metadata"]

PT_READER = ("refcolbert.importers", "plaid-pt")  # entry point group and name: folder -> Plaid
LARGEST_JSON = 64 << 20
LARGEST = 1e4  # component of a centroid or weight; those of unit vectors are below 1


@dataclass(frozen=True, slots=True, eq=False)
class Plaid:
    """An index in PLAID's layout: its codec, and how to read an array of a chunk. Iterating decodes chunk by chunk."""

    folder: Path
    nbits: int
    n_chunks: int
    centroids: NDArray[Any]  # [n_centroids, dim]
    weights: NDArray[Any]  # [2^nbits]
    read: Callable[[str, str, int], NDArray[Any]]  # (name without ending, kinds of dtype, dimensions) -> array

    def check(self) -> int:
        """How many documents there are. Raises `InvalidInput` naming the file that is not as it must be."""
        if self.nbits not in (1, 2, 4, 8):
            raise InvalidInput(f"{self.folder / 'metadata.json'}: nbits must be 1, 2, 4 or 8, found {self.nbits}")
        small = all((np.abs(values) < LARGEST).all() for values in (self.weights, self.centroids))  # false for NaN
        if len(self.weights) != 2**self.nbits or not small:
            raise InvalidInput(f"{self.folder}: expected {2**self.nbits} bucket weights and centroids below {LARGEST}")
        return sum(len(self._chunk(i)[2]) for i in range(self.n_chunks))

    def __iter__(self) -> Iterator[Ragged]:
        """The documents' decoded vectors, unit rows."""
        for i in range(self.n_chunks):
            codes, residuals, lengths = self._chunk(i)
            if lengths:
                yield Ragged(self._decode(codes, residuals), offsets_of(lengths))

    def _chunk(self, i: int) -> tuple[NDArray[Any], NDArray[np.uint8], list[int]]:
        codes = self.read(f"{i}.codes", "iu", 1)  # [n_tokens]
        residuals = self.read(f"{i}.residuals", "u", 2)  # [n_tokens, dim * nbits / 8]
        lengths = _lengths(self.folder / f"doclens.{i}.json")  # [n_docs]
        width = self.centroids.shape[1] * self.nbits
        if (
            residuals.dtype != np.uint8
            or 8 * residuals.shape[1] != width
            or not len(codes) == len(residuals) == sum(lengths)
        ):
            raise InvalidInput(
                f"{self.folder}: chunk {i} has {len(codes)} codes, residuals {residuals.shape} and documents of "
                f"{sum(lengths)} tokens; expected as many of each, with {width} bits a token"
            )
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < len(self.centroids):
            raise InvalidInput(f"{self.folder}: expected codes of chunk {i} below {len(self.centroids)}")
        return codes, residuals, lengths

    def _decode(self, codes: NDArray[Any], residuals: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[n], [n, dim * nbits / 8] -> [n, dim] unit rows."""
        bits = np.unpackbits(residuals, axis=1).reshape(len(codes), -1, self.nbits)  # [n, dim, nbits], low bit first
        buckets = np.packbits(bits, axis=2, bitorder="little")[:, :, 0]  # [n, dim]
        vectors: NDArray[np.float32] = self.centroids[codes].astype(np.float32)
        vectors += self.weights.astype(np.float32)[buckets]
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # [n, 1]
        units: NDArray[np.float32] = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
        return units


def open_plaid(folder: Path) -> Plaid:
    """An index folder of fast-plaid, next-plaid or Stanford's ColBERT, whose codec is read and nothing else yet.

    Raises `InvalidInput` naming the wrong file, `MissingDependency` when `.pt` files cannot be read here.
    """
    if (folder / "centroids.pt").exists():
        return _pt_reader(folder)(folder)
    if (folder / "buffer.npy").exists():
        raise InvalidInput(f"{folder / 'buffer.npy'} is a pickle, which is never read; rebuild that index without it")
    metadata = read_metadata(folder)

    def read(name: str, kinds: str, ndim: int) -> NDArray[Any]:
        return _npy(folder / f"{name}.npy", kinds, ndim)

    return Plaid(
        folder,
        metadata["nbits"],
        metadata["num_chunks"],
        read("centroids", "f", 2),
        read("bucket_weights", "f", 1),
        read,
    )


def import_plaid(
    source: str | Path,
    target: str | Path,
    *,
    encoder: Encoder | None = None,
    documents: Documents | None = None,
    nbits: int | str = NBITS,
) -> Index:
    """Make an index at `target` of what a PLAID folder holds, and publish it complete.

    Such a folder keeps no texts: `documents` gives them, with ids and metadata if wanted, as many and in the same order
    as they were indexed. `encoder` is the model that made the vectors; with it the new index takes text queries. The
    decoded vectors are encoded anew; `nbits="float32"` keeps them as they are.
    Raises `InvalidInput` for a folder that is not such an index, `MissingDependency`, `IndexExists`.
    """
    plaid, target = open_plaid(Path(source)), Path(target)
    n_docs = plaid.check()  # all of it, before anything is made
    if n_docs == 0:
        raise InvalidInput(f"{source} holds no documents; expected at least one")
    if target.exists() or target.is_symlink():
        raise IndexExists(f"{target} exists already; choose another path or remove it first")
    staging = target.with_name(target.name + ".importing")
    index = Index.create(staging, encoder, dim=plaid.centroids.shape[1], nbits=nbits)
    try:
        rest: Iterator[Any] = iter([{}] * n_docs if documents is None else documents)
        for chunk in plaid:
            batch = list(islice(rest, len(chunk)))
            if len(batch) < len(chunk):
                raise InvalidInput(f"{source} holds {n_docs} documents, found {len(index) + len(batch)} texts for them")
            index.add(batch, vectors=chunk)
        if next(rest, None) is not None:
            raise InvalidInput(f"{source} holds {n_docs} documents, found more texts than that")
        index.compact()
    except BaseException:
        index.close()
        index._store.discard()
        raise
    index.close()
    return Index.open(index._store.move(target).path, encoder)


def read_metadata(folder: Path) -> dict[str, int]:
    """The counts "num_chunks" and "nbits" of a metadata.json, wherever they stand in it."""
    metadata = _json(folder / "metadata.json")
    config = metadata.get("config") if isinstance(metadata, dict) else None
    found = {**(config if isinstance(config, dict) else {}), **(metadata if isinstance(metadata, dict) else {})}
    return {name: _count(folder, name, found.get(name)) for name in ("num_chunks", "nbits")}


def checked_array(found: Any, path: Path, kinds: str, ndim: int) -> NDArray[Any]:
    """`found`, if it is an array of so many dimensions whose dtype is of one of these kinds."""
    if not isinstance(found, np.ndarray) or found.dtype.kind not in kinds or found.ndim != ndim:
        what = (found.dtype, found.shape) if isinstance(found, np.ndarray) else type(found).__name__
        raise InvalidInput(f"{path}: expected {ndim} dimensions of kind {kinds!r}, found {what}")
    return found


def _pt_reader(folder: Path) -> Callable[[Path], Plaid]:
    group, name = PT_READER
    install = "is read with the torch side: pip install 'refcolbert[export]'"
    for point in entry_points(group=group, name=name):
        try:
            reader: Callable[[Path], Plaid] = point.load()
        except ModuleNotFoundError as error:
            raise MissingDependency(f"{folder} needs {error.name} and {install}") from error
        return reader
    raise MissingDependency(f"{folder} {install}")


def _npy(path: Path, kinds: str, ndim: int) -> NDArray[Any]:
    """One `.npy` file, mapped."""
    try:
        open_regular_file(path).close()
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # what NumPy's reader of headers raises is not said anywhere
        raise InvalidInput(f"{path} cannot be read as a plain .npy array: {error}") from error
    return checked_array(found, path, kinds, ndim)


def _json(path: Path) -> Any:
    try:
        with open_regular_file(path) as file:
            return json.loads(file.read(LARGEST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}") from error


def _count(folder: Path, name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InvalidInput(f"{folder / 'metadata.json'}: expected a count as {name!r}, found {value!r}")
    return value


def _lengths(path: Path) -> list[int]:
    found = _json(path)
    if not isinstance(found, list) or any(type(n) is not int or n < 1 for n in found):
        raise InvalidInput(f"{path}: expected a list of document lengths, each at least 1")
    return found
