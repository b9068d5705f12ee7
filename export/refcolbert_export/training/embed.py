"""Token vectors of many texts with gradients, directly or by gradient caching (Gao et al. 2021).

Texts are encoded group by group. With `Cached` a step never holds the activations of more than one group. All texts are
encoded without a graph, the loss is differentiated with respect to the vectors, and each group is encoded again to pass
its part of that gradient on to the weights. The result equals the direct gradient.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from refcolbert.encoding.tokens import Tokens
from refcolbert.errors import TrainingError

from ..model import ColbertModel
from .batches import Group, group

__all__ = ["Cached", "Direct", "Vectors", "encode", "groups_of", "precision_context"]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


class Vectors:
    """The kept rows of all texts one after another, and the place of each text among them."""

    def __init__(self, parts: Sequence[Tensor], groups: Sequence[Group]) -> None:
        self.rows = torch.cat(list(parts))  # [n_rows, dim]
        self.lengths = [n for g in groups for n in g.lengths]
        texts = [i for g in groups for i in g.texts]  # [n_texts] the text at each place
        self.places = torch.empty(len(texts), dtype=torch.int64)  # [n_texts] the place of each text
        self.places[torch.tensor(texts)] = torch.arange(len(texts))


class Direct:
    """Plain backpropagation: one graph from ids to loss."""

    def __init__(self, model: ColbertModel, precision: str) -> None:
        self.model, self.precision = model, precision

    def embed(self, groups: Sequence[Group]) -> Vectors:
        """Vectors with their graph."""
        return Vectors([encode(self.model, g, self.precision) for g in groups], groups)

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the weights'."""
        torch.autograd.backward(loss)


class Cached:
    """Gradient caching: vectors without a graph, then each group again with the gradient of its vectors."""

    def __init__(self, model: ColbertModel, precision: str) -> None:
        self.model, self.precision = model, precision
        # Each group, the state of the random generator before it, and its vectors.
        self._open: list[tuple[Group, Tensor, Tensor]] = []

    def embed(self, groups: Sequence[Group]) -> Vectors:
        """Vectors without a graph. Their gradient is kept."""
        parts = []
        for g in groups:
            state = torch.get_rng_state()
            with torch.no_grad():
                part = encode(self.model, g, self.precision)
            parts.append(part.requires_grad_())
            self._open.append((g, state, part))
        return Vectors(parts, groups)

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient to the weights', group by group. Dropout drops the same units as before."""
        torch.autograd.backward(loss)
        after = torch.get_rng_state()
        for g, state, part in self._open:
            torch.set_rng_state(state)
            torch.autograd.backward(encode(self.model, g, self.precision), part.grad)
        torch.set_rng_state(after)
        self._open.clear()


def encode(model: ColbertModel, g: Group, precision: str) -> Tensor:  # -> [n_kept, dim] float32
    """The kept rows: the transformer in `precision`, head and normalization in float32."""
    with precision_context(precision):
        states = model.states(g.ids, g.attention)  # [n, length, hidden]
    kept = states.flatten(0, 1).index_select(0, g.rows)  # [n_kept, hidden]
    return model.project(kept.float() if precision == "bf16" else kept)


@contextmanager
def precision_context(precision: str) -> Iterator[None]:
    """Compute matrix products in bfloat16 inside the block, or in the type of the weights for "fp32"."""
    dtype = PRECISIONS[precision]
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        yield


def groups_of(tokens: Sequence[Tokens], texts: Sequence[str], pad_id: int, most: int) -> list[Group]:
    """Texts in groups of similar length. Raises `TrainingError` naming a text without a kept row."""
    for t, text in zip(tokens, texts, strict=True):
        if not t.keep.any():
            raise TrainingError(
                f"expected a text with a token that is kept, found {text[:60]!r}; remove it from the data"
            )
    return group(tokens, pad_id, most)
