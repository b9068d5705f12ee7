"""The losses of ColBERT training, on scores S with a teacher's T. `definition` has those of scores in plain loops.

    pairwise-hinge     max(0, 1 - S+ + S-)                                   a margin of 1
    pairwise-softmax   -log(exp S+ / (exp S+ + exp S-))                      ColBERT, section 3.3
    n-way              -log softmax(S)_0                                     over one positive and n - 1 negatives
    in-batch           -log softmax(S / temperature)_positive                over every document of the batch
    kl                 sum of p (log p - log r), p = softmax(T), r = softmax(S)    ColBERTv2, section 3.2
    margin-mse         ((S+ - S-) - (T+ - T-))^2
    vectors            1 - v . w                                             v the model's, w the teacher's unit vectors

Rows are queries. Column 0 is the positive, except for in-batch, which names the columns. Each loss is a mean over
queries (pairwise losses and margin-mse: over queries and negatives; vectors: over tokens), so a weight means the same
for every batch size.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "LOSSES",
    "in_batch",
    "kl_divergence",
    "margin_mse",
    "n_way",
    "pairwise_hinge",
    "pairwise_softmax",
    "vectors",
]


def pairwise_hinge(scores: Tensor) -> Tensor:  # [n_queries, 1 + n_negatives] -> []
    """Mean of max(0, 1 - S+ + S-)."""
    return torch.relu(1 - scores[:, :1] + scores[:, 1:]).mean()


def pairwise_softmax(scores: Tensor) -> Tensor:  # [n_queries, 1 + n_negatives] -> []
    """Mean of log(1 + exp(S- - S+)), which is -log(exp S+ / (exp S+ + exp S-))."""
    return functional.softplus(scores[:, 1:] - scores[:, :1]).mean()


def n_way(scores: Tensor) -> Tensor:  # [n_queries, 1 + n_negatives] -> []
    """Mean of -log softmax(S)_0."""
    return -scores.log_softmax(dim=1)[:, 0].mean()


def in_batch(
    scores: Tensor,  # [n_queries, n_docs]
    positives: Tensor,  # int64 [n_queries] the column of each query's positive
    temperature: float,
    compared: Tensor | None = None,  # bool [n_queries, n_docs] columns that count; the positive's must
) -> Tensor:  # []
    """Mean of -log softmax(S / temperature)_positive over the columns that count."""
    logits = scores / temperature
    if compared is not None:
        logits = logits.masked_fill(~compared, -torch.inf)
    return functional.cross_entropy(logits, positives)


def kl_divergence(scores: Tensor, teacher: Tensor) -> Tensor:  # [n_queries, n] each -> []
    """Mean over queries of the divergence of softmax(S) from softmax(T)."""
    target, log_probabilities = teacher.log_softmax(dim=1), scores.log_softmax(dim=1)  # [n_queries, n] each
    return functional.kl_div(log_probabilities, target, reduction="batchmean", log_target=True)


def margin_mse(scores: Tensor, teacher: Tensor) -> Tensor:  # [n_queries, 1 + n_negatives] each -> []
    """Mean squared difference between the student's margins S+ - S- and the teacher's."""
    return functional.mse_loss(scores[:, :1] - scores[:, 1:], teacher[:, :1] - teacher[:, 1:])


def vectors(rows: Tensor, teacher: Tensor) -> Tensor:  # unit rows [n_rows, dim] each -> []
    """Mean over token vectors of 1 minus the cosine with the teacher's vector of the same token."""
    return 1 - (rows * teacher).sum(dim=1).mean()


# name -> its data besides the student's scores ("negatives" of the example, a "teacher", or the whole "batch"),
# function. `vectors` is not among them: it needs no scores.
LOSSES: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "pairwise-hinge": ("negatives", pairwise_hinge),
    "pairwise-softmax": ("negatives", pairwise_softmax),
    "n-way": ("negatives", n_way),
    "in-batch": ("batch", in_batch),
    "kl": ("teacher", kl_divergence),
    "margin-mse": ("teacher", margin_mse),
}
