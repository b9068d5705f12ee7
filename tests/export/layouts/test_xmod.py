"""XMOD: one adapter per language in every layer, of which a model uses one."""

import json

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, XmodConfig, XmodModel

from refcolbert import Encoder
from refcolbert.errors import UnsupportedCheckpoint
from refcolbert_export.conversion.colbert import export_checkpoint, verify_against
from refcolbert_export.layouts.overrides import Choices
from tools.goldens.bases import write_base

LANGUAGES = ["en_XX", "de_DE", "fr_XX"]


@pytest.fixture(scope="module")
def xmod(tmp_path_factory):
    """A tiny XMOD in Stanford's layout, read-only."""
    folder = tmp_path_factory.mktemp("xmod") / "checkpoint"
    folder.mkdir()
    write_base("xlm-roberta", folder)
    sizes = AutoConfig.from_pretrained(folder).to_dict()
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    ids = ("max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id")
    config = XmodConfig(**{name: sizes[name] for name in names + ids}, languages=LANGUAGES, default_language="en_XX")
    config.architectures = ["HF_ColBERT"]
    config.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = XmodModel(config)
        tensors = {f"roberta.{name}": torch.randn_like(tensor) / 4 for name, tensor in model.named_parameters()}
        tensors["linear.weight"] = torch.randn(8, config.hidden_size)
    save_file(tensors, folder / "model.safetensors")
    (folder / "artifact.metadata").write_text(json.dumps({"dim": 8, "query_maxlen": 12, "doc_maxlen": 24}))
    return folder


def adapters(folder):
    """The number of adapters' matrices in an exported graph."""
    graph = onnx.load(folder / "model.onnx").graph
    bottleneck = 8  # hidden_size / 2
    return sum(sorted(tensor.dims) == [bottleneck, 16] for tensor in graph.initializer) - 1  # without the projection


def test_one_language_is_exported(xmod, tmp_path):
    """The graph has two matrices per layer for the adapter of the chosen language, whose vectors are its own."""
    vectors = []
    for language in (None, "de_DE"):
        out = tmp_path / str(language)
        export_checkpoint(xmod, out, choices=Choices(language=language))
        assert adapters(out) == 2 * 2
        verify_against(out, xmod)
        vectors.append(Encoder.load(out).encode_documents(["late interaction"])[0])
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


@pytest.mark.parametrize(("source", "message"), [("xmod", "en_XX, de_DE, fr_XX"), ("checkpoint", "found bert")])
def test_a_language_that_is_not_there_is_refused(request, tmp_path, source, message):
    """The message names the languages of the model, or says that it has none."""
    with pytest.raises(UnsupportedCheckpoint, match=message):
        export_checkpoint(request.getfixturevalue(source), tmp_path / "out", choices=Choices(language="la"))
