"""The core with what needs torch beside it: encoders of checkpoints, which are exported first, and training losses."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

import refcolbert
from refcolbert.arrays import Floats
from refcolbert_export.conversion.colbert import export_checkpoint
from refcolbert_export.training import losses

from .core import *  # noqa: F403 - all that the core offers


class encoder_of:  # noqa: N801 - offered as a function
    """The encoder of a checkpoint's export."""

    def __init__(self, checkpoint: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            export_checkpoint(checkpoint, Path(scratch) / "model")
            self._encoder = refcolbert.Encoder.load(Path(scratch) / "model", threads=1)

    def queries(self, texts: list[str]) -> list[Floats]:
        """One array a text."""
        return self._encoder.encode_queries(texts)

    def documents(self, texts: list[str]) -> list[Floats]:
        """One array a text."""
        return list(self._encoder.encode_documents(texts))


def pairwise_hinge(positive: float, negative: float) -> float:
    """The losses of training, here of one example or batch, in float64."""
    return losses.pairwise_hinge(_rows([[positive, negative]])).item()


def pairwise_softmax(positive: float, negative: float) -> float:
    """Of one pair."""
    return losses.pairwise_softmax(_rows([[positive, negative]])).item()


def n_way(scores: Sequence[float]) -> float:
    """Of one query."""
    return losses.n_way(_rows([scores])).item()


def in_batch(scores: Sequence[Sequence[float]], temperature: float) -> float:
    """Document i is query i's."""
    return losses.in_batch(_rows(scores), torch.arange(len(scores)), temperature).item()


def kl_divergence(scores: Sequence[Sequence[float]], teacher: Sequence[Sequence[float]]) -> float:
    """Of a batch."""
    return losses.kl_divergence(_rows(scores), _rows(teacher)).item()


def margin_mse(scores: Sequence[Sequence[float]], teacher: Sequence[Sequence[float]]) -> float:
    """Of a batch."""
    return losses.margin_mse(_rows(scores), _rows(teacher)).item()


def _rows(scores: Sequence[Sequence[float]]) -> torch.Tensor:
    return torch.tensor(scores, dtype=torch.float64)
