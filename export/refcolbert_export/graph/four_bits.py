"""Stores the rows of a table in four bits per value, two values per byte.

A block of values is `scale * integers`, the integers from -7 to 7 plus OFFSET. A byte holds a value of the first half
of its block in the low bits and the value half a block later in the high bits: with blocks of four, the integers
[1, 2, 3, 4] are the bytes [0xB9, 0xCA].

    pairs, scale = stored(rows)             least squared error among CLIPS
    restored(*stored(restored(*stored(rows)))) == restored(*stored(rows))      bit for bit

So a table that was rounded before a training that keeps it fixed is stored without loss afterwards.
"""

import numpy as np
from numpy.typing import NDArray

from refcolbert.arrays import Floats
from refcolbert.errors import ExportError

__all__ = ["OFFSET", "restored", "stored"]

Pairs = NDArray[np.uint8]  # [n, columns / block, block / 2]
Scales = NDArray[np.float16]  # [n, columns / block, 1]

OFFSET = 8
LARGEST = 7
# Values that share a scale, at most: 384 columns are four blocks of 96, with a third of the scales of int8 storage.
BLOCK = 96
# Shares of a block's largest value that the largest integer may mean. Cutting few outliers off makes the steps finer.
CLIPS = np.linspace(1.0, 0.6, 9, dtype=np.float32)
ROWS = 4096  # at a time


def stored(rows: Floats) -> tuple[Pairs, Scales]:  # [n, columns]
    """Bytes and scales of each row's blocks. Raises `ExportError` for an odd number of columns."""
    n, columns = rows.shape
    block = max((size for size in range(2, BLOCK + 1, 2) if columns % size == 0), default=0)
    if not block:
        raise ExportError(f"expected an even number of columns, found {columns}; choose the variant int8")
    blocks = rows.reshape(n, -1, block)  # [n, columns / block, block]
    parts = [_stored(blocks[start : start + ROWS]) for start in range(0, len(blocks), ROWS)]
    return np.concatenate([pairs for pairs, _ in parts]), np.concatenate([scale for _, scale in parts])


def restored(pairs: Pairs, scale: Scales) -> NDArray[np.float32]:
    """The rows [n, columns] that the model will compute with."""
    integers = np.concatenate([pairs & 15, pairs >> 4], axis=2)  # [n, columns / block, block]
    values = (integers.astype(np.float32) - OFFSET) * scale.astype(np.float32)
    return values.reshape(len(pairs), -1)


def _stored(blocks: Floats) -> tuple[Pairs, Scales]:
    largest = np.abs(blocks).max(axis=2, keepdims=True)  # [n, n_blocks, 1]
    chosen = np.ones(largest.shape, np.float16)  # the scale of a block of zeros
    least = np.full(largest.shape, np.inf, np.float32)
    for clip in CLIPS:
        scale = (largest * (clip / LARGEST)).astype(np.float16)
        usable = scale > np.finfo(np.float16).tiny
        rounding = np.square(_integers(blocks, np.where(usable, scale, 1)) * scale.astype(np.float32) - blocks)
        error = rounding.sum(axis=2, keepdims=True)  # [n, n_blocks, 1]
        # Ties keep the larger scale, which comes first.
        better = usable & (error < least)
        chosen, least = np.where(better, scale, chosen), np.where(better, error, least)
    integers = (_integers(blocks, chosen) + OFFSET).astype(np.uint8)  # [n, n_blocks, block]
    half = blocks.shape[2] // 2
    pairs: Pairs = integers[:, :, :half] | integers[:, :, half:] << np.uint8(4)
    return pairs, chosen


def _integers(blocks: Floats, scale: NDArray[np.floating]) -> NDArray[np.float32]:
    clipped: NDArray[np.float32] = np.clip(np.rint(blocks / scale.astype(np.float32)), -LARGEST, LARGEST)
    return clipped
