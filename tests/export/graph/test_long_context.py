"""Long inputs: rotary positions and local attention far beyond the shapes that the exporter traced."""

import json
import shutil

import onnx
import torch
from safetensors.torch import save_file
from transformers import ModernBertConfig, ModernBertModel

from refcolbert.encoding.encoder import Encoder
from refcolbert_export.conversion.colbert import export_checkpoint
from tools import ROOT

TEMPLATE = ROOT / "golden" / "encode" / "pylate-modernbert" / "checkpoint"
LENGTH, HIDDEN, DIM = 768, 32, 64


def edit(path, **changes):
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_long_context_passes_the_gate(tmp_path):
    """A ModernBERT exports with its whole length when that is many windows of local attention."""
    checkpoint = shutil.copytree(TEMPLATE, tmp_path / "checkpoint")
    golden = json.loads((TEMPLATE / "config.json").read_text())
    config = ModernBertConfig(
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN * 3 // 2,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        local_attention=128,
        global_attn_every_n_layers=3,  # as ModernBERT was trained: every third layer sees everything
        **{key: golden[key] for key in golden if key == "vocab_size" or key.endswith("_token_id")},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        ModernBertModel(config).save_pretrained(checkpoint)
        save_file({"linear.weight": torch.randn(DIM, HIDDEN)}, checkpoint / "1_Dense" / "model.safetensors")
    edit(checkpoint / "1_Dense" / "config.json", in_features=HIDDEN, out_features=DIM)
    edit(checkpoint / "config_sentence_transformers.json", document_length=LENGTH)
    report = export_checkpoint(checkpoint, tmp_path / "out")
    assert report["shapes"][-1]["shape"] == [1, LENGTH]
    assert report["worst"]["max_abs"] < 1e-5
    # no zeros where a token attends to nothing, in matrices of [heads, length, length]
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    assert [makers[node.input[0]] for node in graph.node if node.op_type == "IsNaN"] == ["MatMul"] * 4
    assert len(Encoder.load(tmp_path / "out").tokenizer.documents(["word " * 5000])[0].ids) == LENGTH
