"""A tiny seeded checkpoint that brings its own Python code, as jina-colbert does: auto_map in config.json.

`write_checkpoint(folder)` writes Stanford's layout around a transformer that no library knows.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..goldens.bases import write_base

__all__ = ["write_checkpoint"]

SEED, DIM = 11, 8
CODE = '''"""A transformer of one layer that no library knows."""

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class OwnConfig(PretrainedConfig):
    model_type = "own-colbert"

    def __init__(self, vocab_size=200, hidden_size=16, max_position_embeddings=64, gain=1.0, **more):
        super().__init__(**more)
        self.vocab_size, self.hidden_size, self.gain = vocab_size, hidden_size, gain
        self.max_position_embeddings = max_position_embeddings


class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    base_model_prefix = "own"

    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.places = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.mix = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, **unused):
        x = self.words(input_ids) + self.places.weight[: input_ids.shape[1]]
        scores = (x @ x.transpose(1, 2)).masked_fill(attention_mask[:, None] == 0, -1e9)
        mixed = self.mix(torch.softmax(scores, dim=-1) @ x)
        return BaseModelOutput(last_hidden_state=x + self.config.gain * torch.tanh(mixed))
'''


def write_checkpoint(folder: Path) -> Path:
    """Write the checkpoint; equal bytes every time."""
    folder.mkdir(parents=True)
    write_base("bert-uncased", folder)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    (folder / "own_model.py").write_text(CODE)
    config = {
        "model_type": "own-colbert",
        "architectures": ["HF_ColBERT"],
        "auto_map": {"AutoConfig": "own_model.OwnConfig", "AutoModel": "own_model.OwnModel"},
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "max_position_embeddings": 64,
        "gain": 0.5,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "artifact.metadata").write_text(json.dumps({"dim": DIM, "query_maxlen": 12, "doc_maxlen": 24}, indent=1))
    shapes = {"words.weight": (vocabulary, 16), "places.weight": (64, 16), "mix.weight": (16, 16), "mix.bias": (16,)}
    generator = torch.Generator().manual_seed(SEED)
    tensors = {f"own.{name}": torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}
    tensors["linear.weight"] = torch.randn(DIM, 16, generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
