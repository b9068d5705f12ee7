"""An initial projection: the directions in which the transformer's states vary most."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from refcolbert.encoding.tokens import TextTokenizer

from .data import Example
from .embed import groups_of
from .start import Start

__all__ = ["fit_head"]

MAX_TEXTS, MAX_TEXT_TOKENS = 400, 128
# Tokens per run of the transformer.
GROUP_TOKENS = 2048


def fit_head(start: Start, examples: Sequence[Example]) -> None:
    """Set the projection to the leading eigenvectors of the second moment of the documents' token states.

    Of all projections to `dim` columns this one changes the inner products of these states least. The untrained model
    then ranks as the transformer's states do. It is not centred, because a ColBERT projection has no bias to subtract
    a mean.
    """
    texts = list(dict.fromkeys(example.positives[0] for example in examples))
    texts = texts[:: max(len(texts) // MAX_TEXTS, 1)][:MAX_TEXTS]
    head: Any = start.model.head[0]
    with torch.no_grad():
        # Eigenvalues ascend, so the leading vectors are the last columns.
        _, vectors = torch.linalg.eigh(_second_moment(start, texts))  # [hidden, hidden]
        rows = vectors.flip(1)[:, : start.spec.dim].T  # [dim, hidden]
        largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))  # [dim, 1]
        # The sign of an eigenvector is arbitrary. Its largest component becomes positive.
        head.weight.copy_(rows * largest.sign())


def _second_moment(start: Start, texts: Sequence[str]) -> Tensor:  # -> [hidden, hidden] float64
    spec = replace(start.spec, document_length=min(MAX_TEXT_TOKENS, start.spec.document_length))
    tokens = TextTokenizer(start.tokenizer_json, spec).documents(texts)
    moment = torch.zeros((), dtype=torch.float64)
    for group in groups_of(tokens, texts, spec.pad_id, GROUP_TOKENS):
        states = start.model.states(group.ids, group.attention).flatten(0, 1)[group.rows].double()  # [n_kept, hidden]
        moment = moment + states.T @ states
    return moment
