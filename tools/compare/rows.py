"""Query and document rows in the forms that the experiments compare."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from refcolbert import Encoder
from refcolbert.arrays import Ints
from refcolbert.encoding.tokens import TextTokenizer, Tokens
from refcolbert.engine.maxsim import Floats
from refcolbert.engine.ragged import Ragged

__all__ = ["MOST", "QueryRows", "augmented", "best_of", "maxima", "means", "similarities", "unit"]

LONGEST = 256  # tokens of a query here, less where the model reads less
MOST = 48  # expansion rows


@dataclass(frozen=True, slots=True, eq=False)
class QueryRows:
    """A query whose last rows are expansion."""

    vectors: Floats  # [n_q, dim]
    ids: Ints  # [n_q]
    n_words: int  # rows that are not expansion: markers and words
    marked: NDArray[np.bool_]  # [n_q] True where the token is no word of the text


def augmented(encoder: Encoder, texts: Sequence[str], n_rows: int, attended: bool = False) -> list[QueryRows]:
    """Each query with exactly `n_rows` <= MOST [MASK] rows behind it; `attended`: its words may attend to them.

    Words are cut where MOST rows would no longer fit, whatever `n_rows` is. A model without an expansion id gets no
    such rows.
    """
    spec = encoder.spec
    length = min(LONGEST, max(spec.query_length, spec.document_length) - MOST)
    tokenizer_json = (encoder.folder / "tokenizer.json").read_text(encoding="utf-8")
    plain = TextTokenizer(tokenizer_json, replace(spec, query_length=length, expansion_id=None, expansion_length=None))
    n_rows = 0 if spec.expansion_id is None else n_rows
    tokens = [_filled(t, spec.expansion_id or 0, n_rows, attended) for t in plain.queries(texts)]
    vectors = encoder._encode(tokens, lambda _: None)
    return [
        QueryRows(vectors[i], t.ids[t.keep], int(t.keep.sum()) - n_rows, np.array([s is None for s in t.spans])[t.keep])
        for i, t in enumerate(tokens)
    ]


def _filled(tokens: Tokens, mask: int, n_rows: int, attended: bool) -> Tokens:
    return Tokens(
        np.concatenate([tokens.ids, np.full(n_rows, mask, np.int64)]),
        np.concatenate([tokens.attention, np.full(n_rows, attended)]),
        np.concatenate([tokens.keep, np.ones(n_rows, np.bool_)]),
        (*tokens.spans, *[None] * n_rows),
        n_rows,
    )


def similarities(q: Floats, documents: Ragged) -> Floats:
    """[n_q, dim], documents -> [n_tokens, n_q]."""
    found: Floats = documents.vectors @ q.T
    return found


def best_of(values: Floats, documents: Ragged) -> Floats:
    """[n_tokens, n_q] -> [n_docs, n_q] the maximum over each document's tokens."""
    found: Floats = np.maximum.reduceat(values, documents.offsets[:-1], axis=0)
    return found


def maxima(q: Floats, documents: Ragged) -> Floats:
    """[n_docs, n_q]: of each query row its best similarity in each document. Their sum is MaxSim."""
    return best_of(similarities(q, documents), documents)


def means(documents: Ragged) -> Floats:
    """[n_docs, dim]: the documents' mean rows, normalized."""
    sums = np.add.reduceat(documents.vectors, documents.offsets[:-1], axis=0)  # [n_docs, dim]
    return unit(sums)


def unit(rows: Floats) -> Floats:
    """[..., dim] with norm 1; a row of zeros stays."""
    found: Floats = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return found
