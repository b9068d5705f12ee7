"""Checkpoints that bring their own Python code run it only where that is asked for."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import UnsupportedCheckpoint
from refcolbert_export.cli import export, verify
from refcolbert_export.conversion.colbert import export_checkpoint
from tools.goldens.bases import write_base

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


@pytest.fixture
def own(tmp_path):
    """A checkpoint in Stanford's layout around CODE, which leaves a trace when it runs."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_base("bert-uncased", folder)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    (folder / "own_model.py").write_text(CODE + f"\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n")
    classes = {"AutoConfig": "own_model.OwnConfig", "AutoModel": "own_model.OwnModel"}
    config = {"model_type": "own-colbert", "architectures": ["HF_ColBERT"], "auto_map": classes, "gain": 0.5}
    sizes = {"vocab_size": vocabulary, "hidden_size": 16, "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps({**config, **sizes}))
    (folder / "artifact.metadata").write_text(json.dumps({"dim": 8, "query_maxlen": 12, "doc_maxlen": 24}))
    shapes = {"words.weight": (vocabulary, 16), "places.weight": (64, 16), "mix.weight": (16, 16), "mix.bias": (16,)}
    generator = torch.Generator().manual_seed(11)
    tensors = {f"own.{name}": torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}
    tensors["linear.weight"] = torch.randn(8, 16, generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """transformers copies such code into its cache; here into a folder of the test."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def test_code_is_refused_by_name_and_does_not_run(own, tmp_path):
    """The refusal names the classes and the option, and no code has run, when nothing was said about trust."""
    with pytest.raises(UnsupportedCheckpoint, match=r"own_model\.OwnModel.*--trust-remote-code"):
        export_checkpoint(own, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()


def test_trusted_code_is_exported(own, tmp_path):
    """The model folder needs neither torch nor the code when the checkpoint was exported with trust."""
    out = str(tmp_path / "out")
    done = CliRunner().invoke(export, [str(own), out, "--trust-remote-code"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "ran").exists()
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".onnx", ".json", ".md"}
    assert Encoder.load(out).encode_queries(["what color is amber urine"])[0].shape == (12, 8)
    against = [out, "--against", str(own), "--trust-remote-code"]
    assert "max-abs" in CliRunner().invoke(verify, against, catch_exceptions=False).output


def test_keys_that_trusted_code_does_not_list_are_reported(own, tmp_path):
    """Trust does not mean that unknown settings are passed over in silence."""
    text = (own / "config.json").read_text()
    (own / "config.json").write_text(text.replace('"gain"', '"new_switch": 1, "gain"'))
    report = export_checkpoint(own, tmp_path / "out", trust_remote_code=True)
    assert report["unread_keys"] == {"config.json": ["new_switch"]}
