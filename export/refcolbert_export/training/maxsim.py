"""MaxSim of all pairs of queries and documents, with its gradient.

    S(q, d) = sum over i of max over j of q_i . d_j

The matrices hold the kept rows of all texts without padding, so nothing has to be masked. For each query token and
document the gradient goes to the document token with the largest product (the first of equals). The backward pass
therefore reads these tokens only, and not all similarities.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["maxsim"]

# Similarities held at a time.
CHUNK = 1 << 22


def maxsim(q: Tensor, q_lengths: Sequence[int], d: Tensor, d_lengths: Sequence[int]) -> Tensor:
    """Scores [n_queries, n_docs] of every query with every document.

    q, d                  rows of all texts, one text after another: [sum of lengths, dim]
    q_lengths, d_lengths  rows per text, at least 1
    """
    best: Tensor = _Best.apply(q, d, tuple(d_lengths))  # type: ignore[no-untyped-call]  # [n_query_tokens, n_docs]
    owner = torch.repeat_interleave(torch.arange(len(q_lengths)), torch.tensor(q_lengths))  # [n_query_tokens]
    out: Tensor = best.new_zeros(len(q_lengths), len(d_lengths)).index_add(0, owner, best)
    return out


class _Best(torch.autograd.Function):
    """The largest q_i . d_j over the tokens j of each document: [n_query_tokens, n_docs]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, d: Tensor, lengths: tuple[int, ...]) -> Tensor:
        best = q.new_empty(len(q), len(lengths))  # [n_query_tokens, n_docs]
        winner = torch.empty(len(q), len(lengths), dtype=torch.int64)  # [n_query_tokens, n_docs] row of d
        first = 0
        for k, run in _chunks(lengths, max(CHUNK // len(q), 1)):
            block = q @ d[first : first + sum(run)].T  # [n_query_tokens, n_run_tokens]
            for i, part in enumerate(torch.split(block, list(run), dim=1)):
                best[:, k + i], winner[:, k + i] = part.max(dim=1)
                winner[:, k + i] += first
                first += run[i]
        ctx.save_for_backward(q, d, winner)
        return best

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients  # [n_query_tokens, n_docs]
        q, d, winner = ctx.saved_tensors
        to_q, to_d = torch.zeros_like(q), torch.zeros_like(d)
        for k in range(winner.shape[1]):
            share, rows = gradient[:, k : k + 1], winner[:, k]
            to_q.addcmul_(share, d.index_select(0, rows))
            to_d.index_add_(0, rows, share * q)
        return to_q, to_d, None


def _chunks(lengths: tuple[int, ...], most: int) -> list[tuple[int, tuple[int, ...]]]:
    """(first document, lengths) of runs of documents with at most `most` tokens, or of one longer document."""
    out: list[tuple[int, tuple[int, ...]]] = []
    begin = total = 0
    for k, length in enumerate(lengths):
        if k > begin and total + length > most:
            out.append((begin, lengths[begin:k]))
            begin, total = k, 0
        total += length
    return [*out, (begin, lengths[begin:])] if lengths else out
