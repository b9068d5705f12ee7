"""What one training step sees: examples drawn for it, texts as ids, groups of similar length for the transformer.

Which examples a step has depends on the seed and the step's number alone, so a resumed run sees what an uninterrupted
one would have seen. Texts that occur several times in a batch are encoded once.
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

from ..lengths import by_length
from .data import Example

__all__ = ["Batch", "Draw", "Group", "group", "known_positives"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Queries, the distinct documents of all of them, and who answers whom."""

    queries: list[str]  # [n_queries]
    documents: list[str]  # [n_docs] distinct
    columns: list[list[int]]  # per query: the column of its positive, then those of its own negatives
    teacher: list[list[float] | None]  # per query: the teacher's scores of these columns
    compared: Tensor  # bool [n_queries, n_docs] the positive, and what is not known to be another one


class Draw:
    """Examples of a step: the epochs' permutations one after another, cut into batches."""

    def __init__(
        self, examples: Sequence[Example], size: int, negatives: int | None, seed: int, block: int = 1
    ) -> None:
        self.examples, self.size, self.negatives, self.seed, self.block = examples, size, negatives, seed, block
        self._known = known_positives(examples)

    def batch(self, number: int) -> Batch:
        """The batch of that number, counted from 0 over the whole run."""
        first = number * self.size
        return self._assemble([self._pick(position) for position in range(first, first + self.size)])

    def _pick(self, position: int) -> Example:
        """One positive of an example, and of its negatives as many as are wanted: another choice in every epoch."""
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
        rows = [
            [columns.setdefault(text, len(columns)) for text in (*example.positives, *example.negatives)]
            for example in picked
        ]
        compared = torch.ones(len(picked), len(columns), dtype=torch.bool)  # [n_queries, n_docs]
        for i, example in enumerate(picked):
            for text in self._known[example.query] & columns.keys():
                compared[i, columns[text]] = False
            compared[i, rows[i][0]] = True
        teacher = [None if example.scores is None else list(example.scores) for example in picked]
        return Batch([example.query for example in picked], list(columns), rows, teacher, compared)


@lru_cache(maxsize=2)  # a batch reaches over the end of an epoch
def _order(n: int, block: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The epoch's order of n examples, [n]: blocks of neighbours are shuffled, and stay together."""
    starts = block * np.random.default_rng([seed, epoch]).permutation(-(-n // block))  # [n_blocks]
    order: NDArray[np.int64] = (starts[:, None] + np.arange(block)).ravel()  # [n_blocks * block]
    return order[order < n]


def known_positives(examples: Sequence[Example]) -> Mapping[str, set[str]]:
    """Query -> every text that some example calls an answer to it."""
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
    rows: Tensor  # int64 [n_kept] positions in the flat [n * length] of the rows that count, text by text
    lengths: list[int]  # [n] how many rows of each text count, at least 1


def group(tokens: Sequence[Tokens], pad_id: int, most: int) -> list[Group]:
    """All texts in groups of similar length, as `by_length` makes them."""
    groups = by_length([len(t.ids) for t in tokens], most)
    return [_padded([tokens[i] for i in chosen], chosen, pad_id) for chosen in groups]


def _padded(tokens: list[Tokens], texts: list[int], pad_id: int) -> Group:
    shape = len(tokens), max(len(t.ids) for t in tokens)
    ids, attention = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64)
    keep = np.zeros(shape, np.bool_)
    for row, t in enumerate(tokens):
        n = len(t.ids)
        ids[row, :n], attention[row, :n], keep[row, :n] = t.ids, t.attention, t.keep
    rows = torch.from_numpy(np.flatnonzero(keep))
    return Group(texts, torch.from_numpy(ids), torch.from_numpy(attention), rows, keep.sum(axis=1).tolist())
