"""Goldens from PyLate: python -m tools.goldens.origins.pylate CASES OUT, in an environment that has it.

options: arguments of pylate.models.ColBERT; dense (a list of Dense arguments), lowercase, prompts, default_prompt_name,
remove (keys to delete from config_sentence_transformers.json).
"""

import json
from pathlib import Path
from typing import Any

import torch
from pylate import models
from sentence_transformers.models import Transformer
from torch import nn

from .common import Answer, alter, answer, run

OWN = ("dense", "lowercase", "remove", "alter")


def write(case: dict[str, Any], folder: Path) -> None:
    """Let PyLate make and save a checkpoint."""
    options = case["options"]
    torch.manual_seed(5)
    chain = []
    for layer in options.get("dense", [{"in_features": 16, "out_features": 8, "bias": False}]):
        activation = getattr(nn, layer.get("activation_function", "Identity"))()
        chain.append(models.Dense(**{**layer, "activation_function": activation}))
        for parameter in chain[-1].parameters():
            nn.init.normal_(parameter)
    arguments = {key: value for key, value in options.items() if key not in OWN}
    lengths = {"query_length": 12, "document_length": 24}
    transformer = Transformer(case["base"], do_lower_case=bool(options.get("lowercase")))
    model = models.ColBERT(modules=[transformer, *chain], device="cpu", **{**lengths, **arguments})
    model.save(str(folder), create_model_card=False)
    path = folder / "config_sentence_transformers.json"
    saved = json.loads(path.read_text())
    saved.pop("__version__", None)
    for key in options.get("remove", []):
        saved.pop(key, None)
    path.write_text(json.dumps(saved, indent=1))


def encode(case: dict[str, Any], folder: Path) -> dict[str, list[Answer]]:
    """Each text alone, as ColBERT.encode does it."""
    write(case, folder)
    alter(folder, case["options"].get("alter", []))
    model = models.ColBERT(str(folder), device="cpu")
    prompt = model.prompts.get(model.default_prompt_name) or ""
    out: dict[str, list[Answer]] = {"query": [], "document": []}
    for side, answers in out.items():
        query = side == "query"
        for text in case["texts"][side]:
            tokens = model.tokenize([prompt + text], is_query=query)
            ids, attention = tokens["input_ids"][0], tokens["attention_mask"][0]
            kept = torch.ones_like(ids) if query and model.do_query_expansion else attention
            if not query:
                kept = kept.bool() & model.skiplist_mask(ids[None], model.skiplist)[0]
            (vectors,) = model.encode([text], is_query=query, show_progress_bar=False)
            answers.append(answer(ids, attention, kept, vectors))
    return out


if __name__ == "__main__":
    run(encode, ["pylate", "sentence-transformers", "torch", "transformers", "tokenizers"])
