"""Bi-encoder vectors of many texts, kept in files: a run that was cut off goes on where it stopped.

Texts are embedded in shards of `SHARD`, each a .npy named by what it holds. Two processes can share the work: one goes
backwards, and each leaves alone what the other has written.
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
    """What `embed` needs of a bi-encoder."""

    def encode(self, texts: Sequence[str], length: int) -> Floats:
        """Unit rows [n_texts, dim]."""
        ...


def embed(encoder: Embeds, texts: Sequence[str], length: int, folder: Path, backwards: bool = False) -> Floats:
    """Unit rows [n_texts, dim] of the texts cut at `length` tokens; shards that are in `folder` are read."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = [list(texts[start : start + SHARD]) for start in range(0, len(texts), SHARD)]
    paths = [folder / f"{_name(shard, length)}.npy" for shard in shards]
    for shard, path in tqdm(list(zip(shards, paths, strict=True))[:: -1 if backwards else 1], desc="embed"):
        if not path.is_file():
            _write(path, encoder.encode(shard, length))
    return np.concatenate([np.load(path) for path in paths])


def _name(texts: Sequence[str], length: int) -> str:
    return hashlib.sha256("\0".join([str(length), *texts]).encode()).hexdigest()[:32]


def _write(path: Path, rows: Floats) -> None:
    beside = path.with_suffix(".part.npy")
    np.save(beside, rows)
    beside.replace(path)
