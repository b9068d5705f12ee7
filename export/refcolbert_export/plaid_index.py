"""Reads indexes of Stanford's ColBERT: PLAID's layout in `.pt` files.

These files are pickles and are read with weights_only. centroids.pt holds the centroids [n_centroids, dim].
buckets.pt holds the cutoffs and the weights of the buckets. i.codes.pt and i.residuals.pt hold the arrays of chunk i.
Two files are not read: avg_residual.pt is a statistic, and ivf.pid.pt follows from the codes.

Vectors are decompressed in float32, as colbert-ai does on a CPU. On a GPU colbert-ai rounds them to float16.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refcolbert.errors import InvalidInput
from refcolbert.interchange.plaid import Plaid, checked_array, read_metadata
from refcolbert.storage.locks import open_regular_file

__all__ = ["open_plaid"]


def open_plaid(folder: Path) -> Plaid:
    """Read the index in a folder that colbert-ai wrote, for `import_plaid`. Raises `InvalidInput`."""
    metadata = read_metadata(folder)
    buckets = _load(folder / "buckets.pt")
    if not isinstance(buckets, tuple | list) or len(buckets) != 2:
        raise InvalidInput(f"{folder / 'buckets.pt'}: expected a pair of cutoffs and weights, found {type(buckets)}")
    weights = _array(buckets[1], folder / "buckets.pt", "f", 1)

    def read(name: str, kinds: str, ndim: int) -> NDArray[Any]:
        path = folder / f"{name}.pt"
        return _array(_load(path), path, kinds, ndim)

    return Plaid(folder, metadata["nbits"], metadata["num_chunks"], read("centroids", "f", 2), weights, read)


def _load(path: Path) -> Any:
    """The tensors in a file, in plain containers. Raises `InvalidInput` for anything else."""
    try:
        with open_regular_file(path) as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    # torch.load raises errors of many types on damaged bytes
    except Exception as error:
        raise InvalidInput(f"{path} cannot be read as tensors: {type(error).__name__}: {str(error)[:200]}") from error


def _array(tensor: Any, path: Path, kinds: str, ndim: int) -> NDArray[Any]:
    """The tensor as an array. Raises `InvalidInput` unless it is dense and every element is in the file."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
        raise InvalidInput(f"{path}: expected a dense tensor, found {type(tensor).__name__}")
    if not tensor.is_contiguous():
        raise InvalidInput(
            f"{path}: expected a contiguous tensor of {ndim} dimensions, found strides {tensor.stride()}"
        )
    tensor = tensor.detach()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return checked_array(np.asarray(array), path, kinds, ndim)
