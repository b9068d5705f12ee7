"""Training starts from checkpoints of every layout and saves them in the same."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from train_data import examples, run

from refcolbert.errors import UnsupportedCheckpoint
from refcolbert_export.layouts.checkpoints import read_checkpoint
from refcolbert_export.training.start import Head, read_start, save_start

GOLDEN = Path(__file__).parents[3] / "golden" / "encode"
CHECKPOINTS = sorted(path.parent.name for path in GOLDEN.glob("*/checkpoint"))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_changed_weights_come_back_in_the_layout_they_came_in(tmp_path, name):
    """Every weight that a vector depends on is saved, whatever package wrote the checkpoint; all else stays."""
    start = read_start(GOLDEN / name / "checkpoint", Head())
    with torch.no_grad():
        for parameter in start.model.parameters():
            parameter += 0.25
    save_start(start, tmp_path / "saved")
    found = read_checkpoint(tmp_path / "saved")
    assert found.layout == read_checkpoint(GOLDEN / name / "checkpoint").layout
    assert (found.spec, found.tokenizer_json) == (start.spec, start.tokenizer_json)
    ids = torch.tensor([[1, 2, 3, 4]])
    attention = torch.ones_like(ids)
    with torch.no_grad():
        assert torch.equal(found.model(ids, attention), start.model.eval()(ids, attention))


@pytest.mark.parametrize("name", ["pylate-chain", "multivector-t5", "pylate-modernbert"])
def test_other_layouts_train(tmp_path, name):
    """A run moves the weights, and its checkpoint has the layout of the start."""
    source = GOLDEN / name / "checkpoint"
    found = run(source, tmp_path / "run", examples(tmp_path, 8), steps=2)
    assert read_checkpoint(found).layout == read_checkpoint(source).layout
    weights = [read_checkpoint(folder).model.head[0].weight for folder in (found, source)]
    assert not torch.equal(*weights)


def test_a_checkpoint_without_a_place_for_a_weight_is_refused(tmp_path):
    """Tied weights that a file stores once are fine; a file that lost one is not read at all."""
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / "pylate-bert" / "checkpoint", source)
    tensors = load_file(source / "model.safetensors")
    tensors.pop(next(key for key in tensors if "layer.0.attention.self.query.weight" in key))
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(UnsupportedCheckpoint, match=r"query\.weight"):
        read_start(source, Head())
