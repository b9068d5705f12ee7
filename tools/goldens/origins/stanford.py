"""Goldens from colbert-ai: python -m tools.goldens.origins.stanford CASES OUT, in an environment that has it.

options: metadata (keys of artifact.metadata, null removes one), pickled (weights as pytorch_model.bin).
"""

import json
from pathlib import Path
from typing import Any

import torch
from colbert.infra import ColBERTConfig
from colbert.modeling.base_colbert import BaseColBERT
from colbert.modeling.checkpoint import Checkpoint

from .common import Answer, alter, answer, run

VOLATILE = ("meta", "root", "experiment", "name", "checkpoint", "index_root", "overwrite", "rank", "nranks", "gpus")


def write(case: dict[str, Any], folder: Path) -> None:
    """Let colbert-ai make and save a checkpoint, then set its metadata."""
    metadata = {"dim": 8, "query_maxlen": 12, "doc_maxlen": 24, **case["options"].get("metadata", {})}
    torch.manual_seed(3)
    given = {key: value for key, value in metadata.items() if value is not None}
    model = BaseColBERT(case["base"], ColBERTConfig(checkpoint=case["base"], **given))
    torch.nn.init.normal_(model.linear.weight)
    folder.mkdir()
    model.model.save_pretrained(folder, safe_serialization=not case["options"].get("pickled"))
    model.raw_tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": ""}, indent=1))
    model.colbert_config.save_for_checkpoint(str(folder))
    saved = json.loads((folder / "artifact.metadata").read_text())
    saved = {key: value for key, value in saved.items() if key not in VOLATILE}
    if case["options"].get("minimal"):
        saved = given
    for key, value in metadata.items():
        if value is None:
            saved.pop(key, None)
    nested = {"config": saved} if case["options"].get("nested") else saved
    (folder / "artifact.metadata").write_text(json.dumps(nested, indent=1))


def encode(case: dict[str, Any], folder: Path) -> dict[str, list[Answer]]:
    """Each text alone, as Checkpoint encodes it."""
    write(case, folder)
    alter(folder, case["options"].get("alter", []))
    checkpoint = Checkpoint(str(folder), colbert_config=ColBERTConfig(), verbose=0)
    queries, documents = [], []
    for text in case["texts"]["query"]:
        ids, mask = checkpoint.query_tokenizer.tensorize([text])
        (vectors,) = checkpoint.queryFromText([text])
        queries.append(answer(ids[0], mask[0], torch.ones_like(ids[0]), vectors))
    for text in case["texts"]["document"]:
        ids, mask = checkpoint.doc_tokenizer.tensorize([text])
        kept = checkpoint.mask(ids, skiplist=checkpoint.skiplist)[0]
        (vectors,) = checkpoint.docFromText([text], keep_dims=False)
        documents.append(answer(ids[0], mask[0], kept, vectors))
    return {"query": queries, "document": documents}


if __name__ == "__main__":
    run(encode, ["colbert-ai", "torch", "transformers", "tokenizers"])
