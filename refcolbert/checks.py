"""Checks of what callers pass: each returns the value in the form that the package uses, or raises `InvalidInput`."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Floats
from .errors import InvalidInput

__all__ = ["check_count", "check_seed", "check_texts", "check_vectors"]


def check_count(value: object, name: str) -> int:
    """Return `value` if it is an integer >= 1. Raises `InvalidInput`, which names it."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidInput(f"{name} must be an integer >= 1, found {value!r}")
    return int(value)


def check_seed(value: object) -> int:
    """Return `value` if it is an integer >= 0. Raises `InvalidInput`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise InvalidInput(f"seed must be an integer >= 0, found {value!r}")
    return int(value)


def check_texts(texts: Iterable[str], what: str = "texts") -> list[str]:
    """Return `texts` as a list of encodable strings, else raise `InvalidInput`."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InvalidInput(f"{what}: expected a list of strings, found one {type(texts).__name__}; pass [text]")
    texts = list(texts)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"{what}: item {position} must be a string, found {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"{what}: item {position} holds a lone surrogate at character {error.start}; "
                "decode the source with errors='replace' or fix its encoding"
            ) from None
    return texts


def check_vectors(array: ArrayLike, what: str, dim: int | None = None) -> Floats:
    """Return `array` as finite, C-ordered float32 [n >= 1, dim]; `what` names it in the error.

    Raises `InvalidInput` for another rank or dim, no rows, values that are not real numbers, NaN and infinity,
    including values too large for float32.
    """
    try:
        given = np.asarray(array)
        if given.dtype.kind not in "fiu":
            raise TypeError(f"dtype {given.dtype}")
        with np.errstate(over="ignore"):  # an overflow becomes infinity, which is refused below
            vectors = np.ascontiguousarray(given, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what}: expected an array of real numbers [n, dim], found {error}") from error
    if given.ndim != 2 or 0 in given.shape:
        raise InvalidInput(f"{what}: expected at least one row of shape [n, dim], found shape {given.shape}")
    if dim is not None and vectors.shape[1] != dim:
        raise InvalidInput(f"{what}: expected vectors of dim {dim}, found {vectors.shape[1]}")
    finite = np.isfinite(vectors).all(axis=1)  # [n]
    if not finite.all():
        raise InvalidInput(f"{what}: row {int(np.argmin(finite))} holds NaN or infinity; every value must be finite")
    return vectors
