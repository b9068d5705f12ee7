"""Export of an index's decoded vectors to `.npz` or `.safetensors`."""

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..engine.ragged import offsets_of
from ..errors import IndexWriteError, InvalidInput
from ..index import Index
from ..storage.format import F4, npy_header
from ..storage.generation import Generation
from ..storage.locks import create_new

__all__ = ["export_vectors"]


LARGEST_HEADER = 100_000_000  # of a safetensors file, as its own readers have it


EXPORT_BATCH = 1024  # documents decoded at once


def export_vectors(index: Index, path: str | Path) -> None:
    """Write the live documents' decoded vectors, some at a time, to an `.npz` or a `.safetensors` file.

    Either holds `vectors` [n_tokens, dim] float32 and `offsets` [n_docs + 1] int64, as in `Ragged`, by position, and
    the ids: `.npz` as an array `ids` [n_docs] of text, `.safetensors` as JSON in its metadata. The file appears
    complete or not at all. Raises `InvalidInput` for another ending, `IndexWriteError`.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise InvalidInput(f"expected a file ending in {' or '.join(FORMATS)}, found {path.name!r}")
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        with BufferedWriter(create_new(part)) as file:
            FORMATS[path.suffix](file, index._generation)
        part.replace(path)
    except OSError as error:
        raise IndexWriteError(f"{path} could not be written ({error.strerror}); nothing is there") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _write_npz(file: BinaryIO, generation: Generation) -> None:
    ids, offsets = _ids(generation), _offsets(generation)
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("vectors.npy", "w", force_zip64=True) as member:
            member.write(npy_header((F4, (int(offsets[-1]), generation.manifest.dim))))
            for rows in _rows(generation):
                member.write(rows)
        for name, values in (("offsets.npy", offsets), ("ids.npy", np.array(ids, dtype=np.str_))):
            with archive.open(name, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def _write_safetensors(file: BinaryIO, generation: Generation) -> None:
    """By hand, since the package's own writer wants all of it in memory: a JSON header, then the arrays."""
    offsets = _offsets(generation)
    shape = [int(offsets[-1]), generation.manifest.dim]
    end = math.prod(shape) * 4
    header: dict[str, Any] = {"__metadata__": {"ids": json.dumps(_ids(generation))}}
    header["vectors"] = {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}
    header["offsets"] = {"dtype": "I64", "shape": [len(offsets)], "data_offsets": [end, end + offsets.nbytes]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise InvalidInput(f"ids of {len(text):,} bytes are more than a safetensors file can hold; write an .npz")
    file.write(len(text).to_bytes(8, "little") + text)
    for rows in _rows(generation):
        file.write(rows)
    file.write(offsets.astype("<i8").tobytes())


FORMATS = {".npz": _write_npz, ".safetensors": _write_safetensors}


def _ids(generation: Generation) -> list[str]:
    return [document.id for document in generation.live_documents()]


def _offsets(generation: Generation) -> NDArray[np.int64]:
    return offsets_of(generation.segmented.lengths[generation.segmented.live])


def _rows(generation: Generation) -> Iterator[memoryview]:
    """The bytes of the live documents' vectors, some documents at a time."""
    live = np.flatnonzero(generation.segmented.live)
    for first in range(0, len(live), EXPORT_BATCH):
        vectors = generation.segmented.vectors(live[first : first + EXPORT_BATCH]).vectors
        yield np.ascontiguousarray(vectors, F4).reshape(-1).view(np.uint8).data
