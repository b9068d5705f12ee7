"""Import of indexes in PLAID's layout.

fast-plaid, next-plaid and Stanford's ColBERT share one layout:

    metadata.json    "num_chunks" and "nbits"; Stanford's has these in "config"
    centroids        [n_centroids, dim]
    bucket_weights   [2^nbits]
    i.codes          [n_tokens] of chunk i
    i.residuals      [n_tokens, dim * nbits / 8] uint8
    doclens.i.json   number of tokens of each document of chunk i

A vector is its centroid plus the weight of each component's bucket, normalized. A bucket number takes nbits bits, the
lowest bit first. These bits fill each byte from its highest bit down. (`codec.pack` of this package fills bytes from
the lowest bit up.)

fast-plaid and next-plaid keep arrays as `.npy`, which are read here, without pickle. `buffer.npy`, which fast-plaid
pickles, is refused. Stanford's ColBERT keeps arrays as `.pt`. Another package registers a reader for these
(`PT_READER`).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import Documents
from ..arrays import Array, Bytes, Floats
from ..documents import records
from ..encoding.encoder import Encoder
from ..engine.ragged import Ragged, offsets_of
from ..errors import IndexExists, InvalidInput, MissingDependency
from ..index import NBITS, Index
from ..storage.bulk_build import staging_store
from ..storage.locks import open_regular_file

__all__ = ["Plaid", "checked_array", "import_plaid", "open_plaid", "read_metadata"]

PT_READER = ("refcolbert.importers", "plaid-pt")  # entry point group and name: folder -> Plaid
MAX_JSON_BYTES = 64 << 20
MAX_COMPONENT = 1e4  # of a centroid or weight; components of unit vectors are below 1


@dataclass(frozen=True, slots=True, eq=False)
class Plaid:
    """An index in PLAID's layout: its codec, and how to read an array. Iterating decodes one chunk at a time."""

    folder: Path
    nbits: int
    n_chunks: int
    centroids: Array  # [n_centroids, dim]
    weights: Array  # [2^nbits]
    read: Callable[[str, str, int], Array]  # (name without ending, kinds of dtype, dimensions) -> array

    def check(self) -> int:
        """Check everything and return the number of documents. Raises `InvalidInput` naming the file that is wrong."""
        if self.nbits not in (1, 2, 4, 8):
            raise InvalidInput(f"{self.folder / 'metadata.json'}: nbits must be 1, 2, 4 or 8, found {self.nbits}")
        # A comparison with NaN is false, so this refuses NaN as well.
        small = all((np.abs(values) < MAX_COMPONENT).all() for values in (self.weights, self.centroids))
        if len(self.weights) != 2**self.nbits or not small:
            raise InvalidInput(
                f"{self.folder}: expected {2**self.nbits} bucket weights, and centroids and weights below "
                f"{MAX_COMPONENT}, found {len(self.weights)} weights or larger values; write that index again"
            )
        return sum(len(self._chunk(i)[2]) for i in range(self.n_chunks))

    def __iter__(self) -> Iterator[Ragged]:
        """Yield the decoded vectors of each chunk, unit rows."""
        for i in range(self.n_chunks):
            codes, residuals, lengths = self._chunk(i)
            if lengths:
                yield Ragged(self._decode(codes, residuals), offsets_of(lengths))

    def _chunk(self, i: int) -> tuple[Array, Bytes, list[int]]:
        """Return codes, residuals and document lengths of a chunk. Raises `InvalidInput` unless they fit together."""
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
                f"{sum(lengths)} tokens; expected as many of each, with {width} bits per token"
            )
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < len(self.centroids):
            raise InvalidInput(f"{self.folder}: expected codes of chunk {i} below {len(self.centroids)}")
        return codes, residuals, lengths

    def _decode(self, codes: Array, residuals: Bytes) -> Floats:
        """Return the vectors [n, dim], unit rows, of codes [n] and residuals [n, dim * nbits / 8]."""
        bits = np.unpackbits(residuals, axis=1).reshape(len(codes), -1, self.nbits)  # [n, dim, nbits], low bit first
        buckets = np.packbits(bits, axis=2, bitorder="little")[:, :, 0]  # [n, dim]
        vectors: Floats = self.centroids[codes].astype(np.float32)
        vectors += self.weights.astype(np.float32)[buckets]
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # [n, 1]
        units: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
        return units


def open_plaid(folder: Path) -> Plaid:
    """Open an index folder of fast-plaid, next-plaid or Stanford's ColBERT, and read its codec.

    Raises `InvalidInput` naming the wrong file, `MissingDependency` when `.pt` files cannot be read here.
    """
    if (folder / "centroids.pt").exists():
        return _pt_reader(folder)(folder)
    if (folder / "buffer.npy").exists():
        raise InvalidInput(f"{folder / 'buffer.npy'} is a pickle, which is never read; rebuild that index without it")
    metadata = read_metadata(folder)

    def read(name: str, kinds: str, ndim: int) -> Array:
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
    """Make an index of the documents in a PLAID folder, and publish it complete.

    - `source`: the folder.
    - `target`: the folder of the new index, as in `Index.create`.
    - `encoder`: the model that made the vectors. With it the new index takes text queries.
    - `documents`: the texts, as in `Index.add`, in the order in which they were indexed. A PLAID folder has no texts;
      without `documents`, the ids are positions.
    - `nbits`: as in `Index.create`. The decoded vectors are encoded again; "float32" keeps them as they are.

    Raises `InvalidInput` for a folder that is not such an index, `MissingDependency`, `IndexExists`. Nothing is left at
    `target` after an error.
    """
    plaid, target = open_plaid(Path(source)), Path(target)
    n_docs = plaid.check()
    if n_docs == 0:
        raise InvalidInput(f"expected at least one document in {source}, found none; import another folder")
    staging = staging_store(target)
    if staging.path.exists() or staging.path.is_symlink():
        raise IndexExists(f"{staging.path} exists already, from an interrupted build; remove it first")
    try:
        return Index.build(
            target,
            _exactly(n_docs, repeat({}, n_docs) if documents is None else documents, source),
            encoder,
            vectors=(vectors for chunk in plaid for vectors in chunk),
            dim=plaid.centroids.shape[1],
            nbits=nbits,
        )
    except BaseException:
        staging.discard()
        raise


def _exactly(n_docs: int, documents: Documents, source: str | Path) -> Iterator[Any]:
    """Yield `documents`. Raises `InvalidInput` at the end unless there are `n_docs` of them."""
    n = 0
    for n, document in enumerate(records(documents, need_text=False), start=1):
        if n > n_docs:
            raise InvalidInput(f"expected texts for the {n_docs} documents in {source}, found more; pass one for each")
        yield document
    if n < n_docs:
        raise InvalidInput(f"expected texts for the {n_docs} documents in {source}, found {n}; pass one for each")


def read_metadata(folder: Path) -> dict[str, int]:
    """Return the counts "num_chunks" and "nbits" of metadata.json, from its top level or from its "config"."""
    metadata = _json(folder / "metadata.json")
    config = metadata.get("config") if isinstance(metadata, dict) else None
    values = {**(config if isinstance(config, dict) else {}), **(metadata if isinstance(metadata, dict) else {})}
    return {name: _count(folder, name, values.get(name)) for name in ("num_chunks", "nbits")}


def checked_array(value: Any, path: Path, kinds: str, ndim: int) -> Array:
    """Return `value` if it is an array with `ndim` dimensions and a dtype of one of these kinds.

    Raises `InvalidInput` naming `path`, the file that it was read from.
    """
    if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds or value.ndim != ndim:
        found = (value.dtype, value.shape) if isinstance(value, np.ndarray) else type(value).__name__
        raise InvalidInput(f"{path}: expected {ndim} dimensions of kind {kinds!r}, found {found}")
    return value


def _pt_reader(folder: Path) -> Callable[[Path], Plaid]:
    """Return the registered reader of `.pt` folders. Raises `MissingDependency` naming the extra that has one."""
    group, name = PT_READER
    install = "the extra that reads .pt files: pip install 'refcolbert[export]'"
    for point in entry_points(group=group, name=name):
        try:
            reader: Callable[[Path], Plaid] = point.load()
        except ModuleNotFoundError as error:
            raise MissingDependency(f"{folder} needs {error.name} and {install}") from error
        return reader
    raise MissingDependency(f"{folder} needs {install}")


def _npy(path: Path, kinds: str, ndim: int) -> Array:
    """Map one `.npy` file. Raises `InvalidInput` unless it holds an array of these kinds and dimensions."""
    try:
        open_regular_file(path).close()
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # NumPy does not document what its reader of headers raises, so every exception counts.
        raise InvalidInput(f"{path}: expected a plain .npy array, found {error}; write that index again") from error
    return checked_array(array, path, kinds, ndim)


def _json(path: Path) -> Any:
    try:
        with open_regular_file(path) as file:
            return json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: expected JSON, found {error}; write that index again") from error


def _count(folder: Path, name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InvalidInput(f"{folder / 'metadata.json'}: expected a count as {name!r}, found {value!r}")
    return value


def _lengths(path: Path) -> list[int]:
    lengths = _json(path)
    if not isinstance(lengths, list) or any(type(n) is not int or n < 1 for n in lengths):
        raise InvalidInput(f"{path}: expected a list of document lengths, each an integer >= 1, found something else")
    return lengths
