"""Goldens from Sentence-Transformers, in an environment that has it.

    python -m tools.goldens.origins.multivector CASES OUT

options: transformer (arguments of Transformer), dense (a list of Dense arguments), mask (arguments of MultiVectorMask),
prompts, default_prompt_name, special (tokens to register as special, as for markers), settings (keys to set in
sentence_bert_config.json after saving).
"""

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from tokenizers import AddedToken
from torch import nn

from .common import Answer, alter, answer, run


def write(case: dict[str, Any], folder: Path) -> None:
    """Let Sentence-Transformers make and save a checkpoint."""
    options = case["options"]
    torch.manual_seed(9)
    lengths = {"query_length": 12, "document_length": 24}
    transformer = Transformer(case["base"], **{**lengths, **options.get("transformer", {})})
    markers = [AddedToken(token, normalized=False, special=True) for token in options.get("special", [])]
    if markers:
        transformer.tokenizer.add_special_tokens({"additional_special_tokens": markers})
        transformer.model.resize_token_embeddings(len(transformer.tokenizer))
    chain = []
    for layer in options.get("dense", [{"in_features": 16, "out_features": 8, "bias": False}]):
        activation = getattr(nn, layer.get("activation_function", "Identity"))()
        chain.append(Dense(**{**layer, "activation_function": activation}, module_input_name="token_embeddings"))
        for parameter in chain[-1].parameters():
            nn.init.normal_(parameter)
    mask, normalize = MultiVectorMask(**options.get("mask", {})), Normalize(module_input_name="token_embeddings")
    prompts = {key: options[key] for key in ("prompts", "default_prompt_name") if key in options}
    model = MultiVectorEncoder(modules=[transformer, *chain, mask, normalize], device="cpu", **prompts)
    model.save(str(folder), create_model_card=False)
    path = folder / "config_sentence_transformers.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in saved.items() if k != "__version__"}, indent=1))
    path = folder / "sentence_bert_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **options.get("settings", {})}, indent=1))


def encode(case: dict[str, Any], folder: Path) -> dict[str, list[Answer]]:
    """Each text alone, as encode_query and encode_document do it."""
    write(case, folder)
    alter(folder, case["options"].get("alter", []))
    model = MultiVectorEncoder(str(folder), device="cpu")
    names = {"query": ("query",), "document": ("document", "passage", "corpus")}
    out: dict[str, list[Answer]] = {"query": [], "document": []}
    for side, answers in out.items():
        name = next((n for n in names[side] if n in model.prompts), model.default_prompt_name)
        method = model.encode_query if side == "query" else model.encode_document
        for text in case["texts"][side]:
            features = model.preprocess([text], prompt=model.prompts.get(name), task=side)
            ids, attention = features["input_ids"][0], features["attention_mask"][0]
            full = model.forward({**features}, task=side)
            answers.append(answer(ids, attention, full["attention_mask"][0], method([text])[0].cpu()))
    return out


if __name__ == "__main__":
    run(encode, ["sentence-transformers", "torch", "transformers", "tokenizers"])
