"""A whole ranking by colbert-ai: python -m tools.goldens.ranking OUT CHECKPOINT TEXTS, where colbert-ai is.

CHECKPOINT is the one that tests/models/tiny was exported from (`tools.tiny_model --checkpoint`), TEXTS the committed
extract of XQuAD. colbert-ai encodes and scores; nothing of refcolbert runs.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from colbert.infra import ColBERTConfig
from colbert.modeling.checkpoint import Checkpoint
from colbert.modeling.colbert import colbert_score

from .record import write

N_Q, DIM, VECTORS = 32, 16, 1e-5  # query tokens, columns, how far a component may be off in another runtime


def main() -> None:
    """Scores of every document for every query."""
    out, folder, path = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    texts = json.loads(path.read_text())
    checkpoint = Checkpoint(folder, colbert_config=ColBERTConfig(), verbose=0)
    scores = np.zeros((len(texts["queries"]), len(texts["documents"])))  # [n_queries, n_docs]
    documents = [checkpoint.docFromText([text], keep_dims=False)[0] for text in texts["documents"]]
    for i, text in enumerate(texts["queries"]):
        q = checkpoint.queryFromText([text])  # [1, n_q, dim]
        for j, d in enumerate(documents):
            scores[i, j] = float(colbert_score(q, d[None], torch.ones(1, len(d), 1, dtype=torch.bool))[0])
    write(
        out,
        "ranking",
        "xquad-tiny",
        {"scores": scores},
        source="colbert-ai: Checkpoint.queryFromText, docFromText, colbert_score, on golden/ranking/xquad-texts.json",
        tools=["tools/goldens/ranking.py", "tools/tiny_model.py"],
        packages=["colbert-ai", "torch", "transformers", "tokenizers", "numpy"],
        seed=None,
        # each maximum moves by at most |q_i - q_i'| + |d_j - d_j'|, each norm by sqrt(dim) times a component's
        tolerance={"scores": N_Q * 2 * DIM**0.5 * VECTORS},
    )


if __name__ == "__main__":
    main()
