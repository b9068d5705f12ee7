"""Token vectors of many texts, as the trainer needs them: with gradients, or without and recomputed later.

Encoding is done group by group. With `Cached` a step never holds more than one group's activations: all texts are
encoded without a graph, the loss is differentiated with respect to the vectors alone, and each group is encoded again
to carry its share of that gradient into the weights (gradient caching; Gao et al. 2021). Equal to the direct gradient.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from refcolbert.encoding.tokens import Tokens
from refcolbert.errors import TrainingError

from ..model import ColbertModel
from .batches import Group, group

__all__ = ["Cached", "Direct", "Embedder", "Vectors", "precision_context"]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


class Vectors:
    """The kept rows of all texts one after another, [n_rows, dim], and where each text's are."""

    def __init__(self, parts: Sequence[Tensor], groups: Sequence[Group]) -> None:
        self.rows = torch.cat(list(parts))  # [n_rows, dim]
        self.lengths = [n for g in groups for n in g.lengths]
        texts = [i for g in groups for i in g.texts]  # the text of each place
        self.places = torch.empty(len(texts), dtype=torch.int64)  # [n_texts] the place of each text
        self.places[torch.tensor(texts)] = torch.arange(len(texts))


class Embedder(Protocol):
    """How a step gets vectors, and how the loss's gradient gets back to the weights."""

    def embed(self, groups: Sequence[Group]) -> Vectors:
        """Vectors that a loss can be computed on."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the weights'."""
        ...


class Direct:
    """One graph from ids to loss."""

    def __init__(self, model: ColbertModel, precision: str) -> None:
        self.model, self.precision = model, precision

    def embed(self, groups: Sequence[Group]) -> Vectors:
        """Vectors with their graph."""
        return Vectors([encode(self.model, g, self.precision) for g in groups], groups)

    def backward(self, loss: Tensor) -> None:
        """Plain backpropagation."""
        torch.autograd.backward(loss)


class Cached:
    """Two passes: vectors without a graph, then each group again with the gradient of its vectors."""

    def __init__(self, model: ColbertModel, precision: str) -> None:
        self.model, self.precision = model, precision
        self._open: list[tuple[Group, Tensor, Tensor]] = []  # group, state of the generator before it, its vectors

    def embed(self, groups: Sequence[Group]) -> Vectors:
        """Vectors whose gradient is kept."""
        parts = []
        for g in groups:
            state = torch.get_rng_state()
            with torch.no_grad():
                part = encode(self.model, g, self.precision)
            parts.append(part.requires_grad_())
            self._open.append((g, state, part))
        return Vectors(parts, groups)

    def backward(self, loss: Tensor) -> None:
        """The loss down to the vectors, then group by group down to the weights, dropping the same units."""
        torch.autograd.backward(loss)
        after = torch.get_rng_state()
        for g, state, part in self._open:
            torch.set_rng_state(state)
            torch.autograd.backward(encode(self.model, g, self.precision), part.grad)
        torch.set_rng_state(after)
        self._open.clear()


def encode(model: ColbertModel, g: Group, precision: str) -> Tensor:  # -> [n_kept, dim] float32
    """The transformer in `precision`, head and normalization in float32, on the rows that count."""
    with precision_context(precision):
        states = model.states(g.ids, g.attention)  # [n, length, hidden]
    kept = states.flatten(0, 1).index_select(0, g.rows)  # [n_kept, hidden]
    return model.project(kept.float() if precision == "bf16" else kept)


@contextmanager
def precision_context(precision: str) -> Iterator[None]:
    """Matrix products in bfloat16, or as the weights are."""
    dtype = PRECISIONS[precision]
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        yield


def groups_of(tokens: Sequence[Tokens], texts: Sequence[str], pad_id: int, most: int) -> list[Group]:
    """Groups of texts that all have a row to score. Raises `TrainingError` naming one that has none."""
    for t, text in zip(tokens, texts, strict=True):
        if not t.keep.any():
            raise TrainingError(f"no token of this text is kept, so it cannot be scored: {text[:60]!r}")
    return group(tokens, pad_id, most)
