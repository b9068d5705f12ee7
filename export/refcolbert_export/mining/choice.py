"""Negatives: documents that rankers put high for a query and that do not answer it, with a teacher's scores.

    candidates   the first documents of each of several rankings
    denoise      without those that may answer the query after all
    choose       the hardest of them, others from further down, and some at random

A false negative teaches the wrong thing. A candidate counts as one if the teacher scores it above the positive or
within a margin below it; RocketQA (Qu et al. 2021) does so with a cross-encoder. A pair whose positive the
teacher itself does not find is left out by `rank_of` (Promptagator's round trip, Dai et al. 2023).
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
    """How many negatives of each kind a query gets."""

    hard: int = 8  # the teacher's highest
    middle: int = 4  # at random among the other candidates
    random: int = 3  # at random among all documents


def candidates(rankings: Sequence[Floats], depth: int) -> Ints:
    """Scores [n_docs] of several rankers -> ascending indices of what is among the first `depth` of any: [n]."""
    depth = check_count(depth, "depth")
    if not rankings:
        raise InvalidInput("expected at least one ranking")
    return np.unique(np.concatenate([top_k(scores, depth) for scores in rankings]))


def rank_of(scores: Floats, document: int) -> int:
    """The document's place, from 1 on, behind every one that is scored higher."""
    return int((scores > scores[document]).sum()) + 1


def denoise(found: Ints, teacher: Floats, positive: int, margin: float) -> Ints:
    """[n] candidates -> those, in their order, that the teacher scores more than `margin` below the positive."""
    return np.asarray(found[(teacher[found] < teacher[positive] - margin) & (found != positive)])


def choose(found: Ints, teacher: Floats, positive: int, draw: Generator, choice: Choice) -> Ints:
    """[n] denoised candidates -> [at most hard + middle + random] documents: hardest first, each once.

    Random ones must be scored below the hardest kept candidate, so that no false negative comes in with them.
    """
    hardest_first = found[np.lexsort((found, -teacher[found]))]  # [n]
    hard, rest = hardest_first[: choice.hard], hardest_first[choice.hard :]
    middle = draw.permutation(rest)[: choice.middle]
    taken = np.concatenate([hard, middle])
    ceiling = teacher[hard[0]] if len(hard) else -np.inf
    others = draw.choice(len(teacher), min(len(teacher), 4 * choice.random + len(taken) + 1), replace=False)
    others = others[(teacher[others] <= ceiling) & (others != positive) & ~np.isin(others, taken)]
    return np.concatenate([taken, others[: choice.random]]).astype(np.int64)
