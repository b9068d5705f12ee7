"""The batch of each training step, and its texts in groups of similar length for the transformer.

The examples of a step depend only on the seed and the number of the step, so a resumed run sees the same batches as an
uninterrupted one. Texts that occur several times in a batch are encoded once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refcolbert.encoding.tokens import Tokens

from ..lengths import by_length, padded_rows
from .data import Example

__all__ = ["Batch", "Draw", "Group", "group", "known_positives"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Queries, the distinct documents of all of them, and which documents belong to which query."""

    queries: list[str]  # [n_queries]
    documents: list[str]  # [n_docs] distinct
    columns: list[list[int]]  # per query: the column of its positive, then those of its own negatives
    teacher: list[list[float] | None]  # per query: the teacher's scores of these columns
    compared: Tensor  # bool [n_queries, n_docs] the positive, and documents not known to be another positive


class Draw:
    """Draws batches: the permutations of all epochs one after another, cut into pieces."""

    def __init__(
        self, examples: Sequence[Example], size: int, negatives: int | None, seed: int, block: int = 1
    ) -> None:
        """Draw from `examples`.

        size       examples per batch
        negatives  negatives per example; None: all
        block      consecutive examples that stay together
        """
        self.examples, self.size, self.negatives, self.seed, self.block = examples, size, negatives, seed, block
        self._known = known_positives(examples)

    def batch(self, number: int) -> Batch:
        """The batch of this number, counted from 0 over the whole run."""
        first = number * self.size
        return self._assemble([self._pick(position) for position in range(first, first + self.size)])

    def _pick(self, position: int) -> Example:
        """An example with one positive and the wanted number of negatives, chosen again in every epoch."""
        epoch, place = divmod(position, len(self.examples))
        index = int(_order(len(self.examples), self.block, self.seed, epoch)[place])
        example = self.examples[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        positive, n = int(rng.integers(len(example.positives))), len(example.positives)
        most = len(example.negatives) if self.negatives is None else min(self.negatives, len(example.negatives))
        chosen = [n + int(i) for i in rng.permutation(len(example.negatives))[:most]]
        texts = (*example.positives, *example.negatives)
        scores = None if example.scores is None else tuple(example.scores[i] for i in (positive, *chosen))
        return Example(example.query, (texts[positive],), tuple(texts[i] for i in chosen), scores)

    def _assemble(self, picked: list[Example]) -> Batch:
        columns: dict[str, int] = {}  # document -> its column
        rows = [[columns.setdefault(text, len(columns)) for text in (*e.positives, *e.negatives)] for e in picked]
        compared = torch.ones(len(picked), len(columns), dtype=torch.bool)  # [n_queries, n_docs]
        for i, example in enumerate(picked):
            for text in self._known[example.query] & columns.keys():
                compared[i, columns[text]] = False
            compared[i, rows[i][0]] = True
        teacher = [None if example.scores is None else list(example.scores) for example in picked]
        return Batch([example.query for example in picked], list(columns), rows, teacher, compared)


# Two entries, because a batch may extend into the next epoch.
@lru_cache(maxsize=2)
def _order(n: int, block: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of n examples in an epoch, [n]: blocks of consecutive examples are shuffled as a whole."""
    starts = block * np.random.default_rng([seed, epoch]).permutation(-(-n // block))  # [n_blocks]
    order: NDArray[np.int64] = (starts[:, None] + np.arange(block)).ravel()  # [n_blocks * block]
    return order[order < n]


def known_positives(examples: Sequence[Example]) -> Mapping[str, set[str]]:
    """Query -> every text that is a positive of it in some example."""
    known: defaultdict[str, set[str]] = defaultdict(set)
    for example in examples:
        known[example.query].update(example.positives)
    return known


@dataclass(frozen=True, slots=True)
class Group:
    """Texts of similar length, padded to the longest of them."""

    texts: list[int]  # [n] their positions
    ids: Tensor  # int64 [n, length]
    attention: Tensor  # int64 [n, length]
    rows: Tensor  # int64 [n_kept] positions of the kept rows in the flat [n * length], text by text
    lengths: list[int]  # [n] number of kept rows per text, at least 1


def group(tokens: Sequence[Tokens], pad_id: int, most: int) -> list[Group]:
    """All texts in groups of similar length."""
    groups = by_length([len(t.ids) for t in tokens], most)
    return [_padded([tokens[i] for i in chosen], chosen, pad_id) for chosen in groups]


def _padded(tokens: list[Tokens], texts: list[int], pad_id: int) -> Group:
    ids = torch.from_numpy(padded_rows([t.ids for t in tokens], pad_id))  # [n, length]
    attention = torch.from_numpy(padded_rows([t.attention for t in tokens], 0).astype(np.int64))  # [n, length]
    keep = padded_rows([t.keep for t in tokens], 0)  # [n, length]
    return Group(texts, ids, attention, torch.from_numpy(np.flatnonzero(keep)), keep.sum(axis=1).tolist())
