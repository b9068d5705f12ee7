"""Chooses negatives: documents that rankers put high for a query and that do not answer it.

    candidates   the first documents of several rankings
    denoise      removes candidates that may answer the query
    choose       the hardest candidates, other candidates, and random documents

A negative that answers the query teaches the wrong thing. A candidate may be one if the teacher scores it above the
positive, or less than a margin below it. RocketQA (Qu et al. 2021) does so with a cross-encoder. `rank_of` serves to
leave out a pair whose positive the teacher itself does not find (Promptagator's round trip, Dai et al. 2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from refcolbert.arrays import Floats, Ints
from refcolbert.checks import check_count
from refcolbert.engine.topk import top_k
from refcolbert.errors import InvalidInput

__all__ = ["Choice", "candidates", "choose", "denoise", "rank_of"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Number of negatives of each kind per query."""

    hard: int = 8  # candidates that the teacher scores highest
    middle: int = 4  # other candidates, at random
    random: int = 3  # any documents, at random


def candidates(rankings: Sequence[Floats], depth: int) -> Ints:
    """Scores [n_docs] of several rankers -> [n] ascending indices of documents among the first `depth` of any."""
    depth = check_count(depth, "depth")
    if not rankings:
        raise InvalidInput("expected at least one ranking")
    return np.unique(np.concatenate([top_k(scores, depth) for scores in rankings]))


def rank_of(scores: Floats, document: int) -> int:
    """The rank of a document, from 1, after every document that is scored higher."""
    return int((scores > scores[document]).sum()) + 1


def denoise(candidates: Ints, teacher: Floats, positive: int, margin: float) -> Ints:
    """The candidates [n] that the teacher scores more than `margin` below the positive, in their order."""
    below = teacher[candidates] < teacher[positive] - margin  # [n]
    return np.asarray(candidates[below & (candidates != positive)])


def choose(candidates: Ints, teacher: Floats, positive: int, draw: Generator, choice: Choice) -> Ints:
    """[n] denoised candidates -> [at most hard + middle + random] documents: hardest first, each once.

    Random documents must not be scored above the hardest candidate. Otherwise one of them could answer the query.
    """
    hardest_first = candidates[np.lexsort((candidates, -teacher[candidates]))]  # [n]
    hard, rest = hardest_first[: choice.hard], hardest_first[choice.hard :]
    middle = draw.permutation(rest)[: choice.middle]
    taken = np.concatenate([hard, middle])
    ceiling = teacher[hard[0]] if len(hard) else -np.inf
    others = draw.choice(len(teacher), min(len(teacher), 4 * choice.random + len(taken) + 1), replace=False)
    others = others[(teacher[others] <= ceiling) & (others != positive) & ~np.isin(others, taken)]
    return np.concatenate([taken, others[: choice.random]]).astype(np.int64)
