"""Vectors in and out: import of the `.npy` folders that fast-plaid and next-plaid write, export as `.npz`.

Both keep PLAID's layout: metadata.json {"num_chunks", "nbits"}, centroids.npy [n_centroids, dim], bucket_weights.npy
[2^nbits], and for each chunk i `i.codes.npy` [n_tokens], `i.residuals.npy` [n_tokens, dim * nbits / 8] uint8 and
doclens.i.json. A vector is centroid + weight of each component's bucket, normalized; a bucket number takes nbits bits,
the low one first, counted from the high bit of the first byte (our own `codec.pack` counts from the low bit).

`.npy` files are read without pickle; `buffer.npy`, which fast-plaid pickles, is refused. Stanford's `.pt` indexes are
pickles throughout and are no matter for the core.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInput
from .files import open_plain
from .format import F4, npy_header
from .index import NBITS, Index
from .ragged import Ragged, offsets_of

__all__ = ["export_vectors", "import_plaid", "read_plaid"]

LARGEST_JSON = 64 << 20
EXPORT_BATCH = 1024  # documents decoded at once


def import_plaid(
    source: str | Path, target: str | Path, *, nbits: int | str = NBITS, ids: Sequence[str] | None = None
) -> Index:
    """Make an index at `target` of what a fast-plaid or next-plaid folder holds, and publish it complete.

    Documents get their decimal position as id unless `ids` names them, and have no text: those engines keep none. The
    decoded vectors are encoded anew; `nbits="float16"` keeps them as they are.
    Raises `InvalidInput` for a folder that is not such an index, `IndexExists`.
    """
    shapes = [
        (len(chunk), chunk.dim) for chunk in read_plaid(Path(source))
    ]  # all of it is checked before anything is made
    n_docs = sum(n for n, _ in shapes)
    if n_docs == 0 or (ids is not None and len(ids) != n_docs):
        raise InvalidInput(
            f"{source} holds {n_docs} documents; expected at least one, and as many ids if any are given"
        )
    names = [str(i) for i in range(n_docs)] if ids is None else list(ids)
    index = Index.create(target, dim=shapes[0][1], nbits=nbits)
    for chunk in read_plaid(Path(source)):
        first = len(index)
        index.add([{"id": name} for name in names[first : first + len(chunk)]], vectors=chunk)
    return index


def export_vectors(index: Index, path: str | Path) -> None:
    """Write the live documents' decoded vectors as an uncompressed `.npz` that `numpy.load` reads, some at a time.

    It holds `ids` [n_docs] text, `offsets` [n_docs + 1] int64 and `vectors` [n_tokens, dim] float32, as in `Ragged`.
    """
    ids = index.ids()
    batches = [ids[i : i + EXPORT_BATCH] for i in range(0, len(ids), EXPORT_BATCH)]
    info = index.info()
    lengths = [0]
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("vectors.npy", "w", force_zip64=True) as member:
            member.write(npy_header((F4, (info["tokens"], info["dim"]))))
            for batch in batches:
                ragged = index.vectors(batch)
                lengths += ragged.lengths.tolist()
                member.write(np.ascontiguousarray(ragged.vectors, F4).data)
        for name, values in (
            ("offsets.npy", np.cumsum(lengths, dtype=np.int64)),
            ("ids.npy", np.array(ids, dtype=np.str_)),
        ):
            with archive.open(name, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def read_plaid(folder: Path) -> Iterator[Ragged]:
    """The documents' decoded vectors, unit rows, chunk by chunk. Raises `InvalidInput` naming the wrong file."""
    if (folder / "buffer.npy").exists():
        raise InvalidInput(f"{folder / 'buffer.npy'} is a pickle, which is never read; rebuild that index without it")
    metadata = _json(folder / "metadata.json")
    n_chunks, nbits = (_field(folder, metadata, name) for name in ("num_chunks", "nbits"))
    if nbits not in (1, 2, 4, 8):
        raise InvalidInput(f"{folder / 'metadata.json'}: nbits must be 1, 2, 4 or 8, found {nbits}")
    centroids = _array(folder / "centroids.npy", "f", 2)  # [n_centroids, dim]
    weights = _array(folder / "bucket_weights.npy", "f", 1)  # [2^nbits]
    if len(weights) != 2**nbits or not (np.isfinite(weights).all() and np.isfinite(centroids).all()):
        raise InvalidInput(f"{folder / 'bucket_weights.npy'}: expected {2**nbits} finite weights and finite centroids")
    for chunk in range(n_chunks):
        codes = _array(folder / f"{chunk}.codes.npy", "iu", 1)  # [n_tokens]
        residuals = _array(folder / f"{chunk}.residuals.npy", "u", 2)  # [n_tokens, dim * nbits / 8]
        lengths = _lengths(folder / f"doclens.{chunk}.json")  # [n_docs]
        width = centroids.shape[1] * nbits
        if (
            residuals.dtype != np.uint8
            or 8 * residuals.shape[1] != width
            or not len(codes) == len(residuals) == sum(lengths)
        ):
            raise InvalidInput(
                f"{folder}: chunk {chunk} has {len(codes)} codes, residuals {residuals.shape} and documents of "
                f"{sum(lengths)} tokens; expected as many of each, with {width} bits a token"
            )
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < len(centroids):
            raise InvalidInput(f"{folder / f'{chunk}.codes.npy'}: expected codes below {len(centroids)}")
        if lengths:
            yield Ragged(_decode(codes, residuals, centroids, weights, nbits), offsets_of(lengths))


def _decode(
    codes: NDArray[Any], residuals: NDArray[np.uint8], centroids: NDArray[Any], weights: NDArray[Any], nbits: int
) -> NDArray[np.float32]:
    """[n], [n, dim * nbits / 8] -> [n, dim] unit rows."""
    bits = np.unpackbits(residuals, axis=1).reshape(len(codes), -1, nbits)  # [n, dim, nbits], low bit first
    buckets = np.packbits(bits, axis=2, bitorder="little")[:, :, 0]  # [n, dim]
    vectors: NDArray[np.float32] = centroids[codes].astype(np.float32) + weights.astype(np.float32)[buckets]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # [n, 1]
    units: NDArray[np.float32] = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return units


def _array(path: Path, kinds: str, ndim: int) -> NDArray[Any]:
    """One `.npy` file, mapped."""
    try:
        open_plain(path).close()
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInput(f"{path} cannot be read as a plain .npy array: {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in kinds or found.ndim != ndim:
        raise InvalidInput(
            f"{path}: expected {ndim} dimensions of kind {kinds!r}, found {getattr(found, 'dtype', found)}"
        )
    return found


def _json(path: Path) -> Any:
    try:
        with open_plain(path) as file:
            return json.loads(file.read(LARGEST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}") from error


def _field(folder: Path, metadata: Any, name: str) -> int:
    value = metadata.get(name) if isinstance(metadata, dict) else None
    if type(value) is not int or value < 0:
        raise InvalidInput(f"{folder / 'metadata.json'}: expected a count as {name!r}, found {value!r}")
    return value


def _lengths(path: Path) -> list[int]:
    found = _json(path)
    if not isinstance(found, list) or any(type(n) is not int or n < 1 for n in found):
        raise InvalidInput(f"{path}: expected a list of document lengths, each at least 1")
    return found
