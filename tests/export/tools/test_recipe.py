"""The default model's recipe, on a training set and a start that are tiny."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file
from train_data import records

from refcolbert_export.graph.four_bits import restored, stored
from tools.training import recipe
from tools.training.pairs import write_lines

SMALL = {"steps": 2, "batch": 4, "block": 2, "freeze": 0, "document_length": 32}


@pytest.fixture
def work(tmp_path, checkpoint, monkeypatch):
    """A recipe's folder whose texts are drawn already, and settings for seconds."""
    folder = tmp_path / "work"
    shutil.copytree(checkpoint, folder / "start")
    write_lines(folder / "blocks.jsonl.gz", records())
    write_lines(folder / "pairs.jsonl.gz", [{"query": r["query"], "positive": r["positive"]} for r in records()])
    for name in ("SETTINGS", "LONG", "SMALL_SETTINGS"):
        monkeypatch.setattr(recipe, name, dataclasses.replace(getattr(recipe, name), **SMALL))
    monkeypatch.setattr(recipe, "HELD_OUT", 1)
    monkeypatch.setattr(recipe, "SMALL_LAYERS", (1,))
    return folder


def test_the_recipe_goes_on_with_what_is_there(work, tmp_path):
    """From start and blocks it trains both models, exports them, and at a second call does nothing again."""
    (tmp_path / "data").mkdir()
    arguments = ["--train", str(tmp_path), "--data", str(tmp_path / "data"), "--work", str(work)]
    (work / "run").mkdir()
    (work / "run" / "settings.json").write_text("{}")  # cut off before a state was saved
    CliRunner().invoke(recipe.main, arguments, catch_exceptions=False)
    spec = json.loads((work / "model" / "encoding.json").read_text())
    assert spec["query_length"] == min(recipe.QUERY_LENGTH, spec["document_length"])
    assert json.loads((work / "small-run" / "checkpoint" / "config.json").read_text())["num_hidden_layers"] == 1
    words = load_file(work / "small-run" / "checkpoint" / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(restored(*stored(words)), words)  # rounded to four bits and kept
    sizes = [(work / model / "model.onnx").stat().st_size for model in ("model", "small-model")]
    assert sizes[1] < sizes[0]
    log = [json.loads(line) for line in (work / "small-run" / "log.jsonl").read_text().splitlines()]
    assert log[-2]["vectors"] < log[1]["vectors"]  # the large model teaches it
    for run in ("run", "long", "small-run"):
        log = [json.loads(line) for line in (work / run / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in log if "loss" in line] == [1, 2]
        assert [line["step"] for line in log if "validation" in line] == [0, 2]
    before = (work / "model" / "model.onnx").stat().st_mtime_ns
    CliRunner().invoke(recipe.main, arguments, catch_exceptions=False)
    assert (work / "model" / "model.onnx").stat().st_mtime_ns == before
