"""A ranking by colbert-ai, in its environment: python -m tools.goldens.origins.ranking IN.npz OUT.npz CHECKPOINT."""

import json
import sys

import numpy as np
import torch
from colbert.infra import ColBERTConfig
from colbert.modeling.checkpoint import Checkpoint
from colbert.modeling.colbert import colbert_score

from .common import versions


def main() -> None:
    """Encode, score, sort: vectors of all documents, their lengths, scores and order of each query's documents."""
    given = np.load(sys.argv[1])
    checkpoint = Checkpoint(sys.argv[3], colbert_config=ColBERTConfig(), verbose=0)
    queries = torch.cat([checkpoint.queryFromText([str(text)]) for text in given["queries"]])
    documents = [checkpoint.docFromText([str(text)], keep_dims=False)[0] for text in given["documents"]]
    padded = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True)
    lengths = torch.tensor([len(d) for d in documents])
    mask = (torch.arange(padded.shape[1])[None] < lengths[:, None])[:, :, None]
    scores = torch.stack([colbert_score(q[None], padded, mask) for q in queries])
    order = torch.sort(scores, descending=True, stable=True).indices
    found = {"scores": scores, "order": order, "lengths": lengths, "vectors": torch.cat(documents)}
    found["query_vectors"] = queries
    arrays = {name: t.numpy() for name, t in found.items()}
    np.savez(sys.argv[2], allow_pickle=False, **arrays)
    print(json.dumps(versions(["colbert-ai", "torch", "transformers", "tokenizers", "numpy"])))


if __name__ == "__main__":
    main()
