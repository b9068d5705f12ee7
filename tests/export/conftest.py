"""Everything here needs the torch side."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the export extra is not installed")
pytest.importorskip("transformers", reason="the export extra is not installed")

import json
import shutil

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, processors

torch.set_num_threads(1)  # tiny models: several threads only wait for each other


def pytest_collection_modifyitems(items):
    """Mark every test of this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.export)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """The tiny Stanford checkpoint, read-only."""
    from tools.goldens.tiny_model import write_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint_for(checkpoint, tmp_path_factory):
    """The tiny checkpoint for a variant: for int8-int4 with token embeddings that were rounded to four bits."""
    from refcolbert_export.graph.four_bits import restored, stored

    folder = tmp_path_factory.mktemp("four-bits") / "tiny"
    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    rounded = {**tensors, name: torch.from_numpy(restored(*stored(tensors[name].numpy())))}
    save_file(rounded, folder / "model.safetensors")
    return lambda variant: folder if variant == "int8-int4" else checkpoint


@pytest.fixture(scope="session")
def transformer(checkpoint, tmp_path_factory):
    """The tiny transformer without a projection, with a tokenizer that frames pairs; read-only."""
    folder = tmp_path_factory.mktemp("transformer") / "bare"
    shutil.copytree(checkpoint, folder)
    (folder / "artifact.metadata").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    frame = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    single, pair = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=frame)
    tokenizer.save(str(folder / "tokenizer.json"))
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("linear.weight")
    save_file(tensors, folder / "model.safetensors")
    return folder
