"""Export of the decoded vectors of an index to `.npz` or `.safetensors`."""

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..arrays import Ints
from ..engine.ragged import offsets_of
from ..errors import IndexWriteError, InvalidInput
from ..reading import IndexReader
from ..storage.format import F4, npy_header
from ..storage.generation import Generation
from ..storage.locks import create_new

__all__ = ["export_vectors"]

LARGEST_HEADER = 100_000_000  # bytes of a safetensors header that readers accept
EXPORT_BATCH = 1024  # documents decoded at a time


def export_vectors(index: IndexReader, path: str | Path) -> None:
    """Write the decoded vectors of the live documents to a file, in bounded memory.

    - `index`: the index. The file has the generation that it sees.
    - `path`: the file, `.npz` or `.safetensors`. It appears complete or not at all.

    The file holds `vectors` [n_tokens, dim] float32 and `offsets` [n_docs + 1] int64, as in `Ragged`, by position. It
    also holds the ids: `.npz` as an array `ids` [n_docs] of text, `.safetensors` as JSON under "ids" in its metadata.
    Raises `InvalidInput` for another ending, `IndexWriteError`.

        >>> import numpy as np
        >>> from refcolbert import Index
        >>> from refcolbert.interchange.vector_files import export_vectors
        >>> index = Index.create("source", dim=2)
        >>> index.add([{"id": "a"}, {"id": "b"}], vectors=[[[1, 0]], [[0, 1], [1, 1]]])
        ['a', 'b']
        >>> export_vectors(index, "vectors.npz")
        >>> arrays = np.load("vectors.npz")
        >>> arrays["ids"].tolist(), arrays["offsets"].tolist(), arrays["vectors"].shape
        (['a', 'b'], [0, 1, 3], (3, 2))
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise InvalidInput(f"expected a file ending in {' or '.join(FORMATS)}, found {path.name!r}")
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        with BufferedWriter(create_new(part)) as file:
            FORMATS[path.suffix](file, index.view)
        part.replace(path)
    except OSError as error:
        raise IndexWriteError(f"{path} could not be written ({error.strerror}); nothing was changed there") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _write_npz(file: BinaryIO, generation: Generation) -> None:
    """Write a zip archive of .npy files, the vectors some documents at a time."""
    ids, offsets = list(generation.ids()), _offsets(generation)
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("vectors.npy", "w", force_zip64=True) as member:
            member.write(npy_header((F4, (int(offsets[-1]), generation.manifest.dim))))
            for rows in _rows(generation):
                member.write(rows)
        for name, values in (("offsets.npy", offsets), ("ids.npy", np.array(ids, dtype=np.str_))):
            with archive.open(name, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def _write_safetensors(file: BinaryIO, generation: Generation) -> None:
    """Write a JSON header, then the arrays. The writer of the safetensors package needs all of it in memory."""
    offsets = _offsets(generation)
    shape = [int(offsets[-1]), generation.manifest.dim]
    end = math.prod(shape) * 4
    header: dict[str, Any] = {"__metadata__": {"ids": json.dumps(list(generation.ids()))}}
    header["vectors"] = {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}
    header["offsets"] = {"dtype": "I64", "shape": [len(offsets)], "data_offsets": [end, end + offsets.nbytes]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise InvalidInput(f"expected a header of at most {LARGEST_HEADER:,} bytes, found {len(text):,}; write an .npz")
    file.write(len(text).to_bytes(8, "little") + text)
    for rows in _rows(generation):
        file.write(rows)
    file.write(offsets.astype("<i8").tobytes())


FORMATS = {".npz": _write_npz, ".safetensors": _write_safetensors}


def _offsets(generation: Generation) -> Ints:
    """Return where the vectors of each live document begin: [n_docs + 1]."""
    return offsets_of(generation.segmented.lengths[generation.segmented.live])


def _rows(generation: Generation) -> Iterator[memoryview]:
    """Yield the bytes of the live documents' vectors, some documents at a time."""
    live = np.flatnonzero(generation.segmented.live)
    for first in range(0, len(live), EXPORT_BATCH):
        vectors = generation.segmented.vectors(live[first : first + EXPORT_BATCH]).vectors
        yield np.ascontiguousarray(vectors, F4).reshape(-1).view(np.uint8).data
