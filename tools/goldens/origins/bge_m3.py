"""Goldens from FlagEmbedding: python -m tools.goldens.origins.bge_m3 CASES OUT, in an environment that has it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from FlagEmbedding import BGEM3FlagModel

from .common import Answer, alter, answer, run


def write(case: dict[str, Any], folder: Path) -> None:
    """The base with both heads of M3 beside it, as FlagEmbedding saves them."""
    shutil.copytree(case["base"], folder)
    torch.manual_seed(13)
    for name, columns in (("colbert_linear", 16), ("sparse_linear", 1)):
        linear = torch.nn.Linear(16, columns)
        torch.nn.init.normal_(linear.weight)
        torch.save(linear.state_dict(), folder / f"{name}.pt")


def encode(case: dict[str, Any], folder: Path) -> dict[str, list[Answer]]:
    """Each text alone, as encode_queries and encode_corpus do it."""
    write(case, folder)
    alter(folder, case["options"].get("alter", []))
    model = BGEM3FlagModel(str(folder), use_fp16=False, devices="cpu")
    out: dict[str, list[Answer]] = {}
    for side, method in (("query", model.encode_queries), ("document", model.encode_corpus)):
        out[side] = []
        for text in case["texts"][side]:
            (vectors,) = method([text], return_dense=False, return_colbert_vecs=True)["colbert_vecs"]
            tokens = model.tokenizer(text, truncation=True, max_length=512)
            ids = np.array(tokens["input_ids"])
            out[side].append(answer(ids, tokens["attention_mask"], np.arange(len(ids)) > 0, vectors))
    return out


if __name__ == "__main__":
    run(encode, ["FlagEmbedding", "torch", "transformers", "tokenizers"])
