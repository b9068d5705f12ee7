"""Bi-encoder vectors of many texts, kept in files: an interrupted run continues where it stopped.

Texts are embedded in shards of `SHARD`, each a .npy named by the hash of its texts.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from refcolbert.arrays import Floats

__all__ = ["embed"]


SHARD = 1024


class Embeds(Protocol):
    """A bi-encoder."""

    def encode(self, texts: Sequence[str], length: int) -> Floats:
        """Unit rows [n_texts, dim]."""
        ...


def embed(encoder: Embeds, texts: Sequence[str], length: int, folder: Path) -> Floats:
    """Unit rows [n_texts, dim] of the texts cut at `length` tokens; shards that are in `folder` are read."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = [list(texts[start : start + SHARD]) for start in range(0, len(texts), SHARD)]
    paths = [folder / f"{_name(shard, length)}.npy" for shard in shards]
    for shard, path in tqdm(list(zip(shards, paths, strict=True)), desc="embed"):
        if not path.is_file():
            _write(path, encoder.encode(shard, length))
    return np.concatenate([np.load(path) for path in paths])


def _name(texts: Sequence[str], length: int) -> str:
    return hashlib.sha256("\0".join([str(length), *texts]).encode()).hexdigest()[:32]


def _write(path: Path, rows: Floats) -> None:
    beside = path.with_suffix(".part.npy")
    np.save(beside, rows)
    beside.replace(path)
