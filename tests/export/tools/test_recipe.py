"""The default model's recipe and the comparison of losses, on a training set and a start that are tiny."""

import dataclasses
import json
import shutil

import pytest
from click.testing import CliRunner
from train_data import records

from tools.training import by_loss, recipe
from tools.training.pairs import write_lines

SMALL = {"steps": 2, "batch": 4, "block": 2, "freeze": None, "document_length": 32}


@pytest.fixture
def work(tmp_path, checkpoint, monkeypatch):
    """A recipe's folder whose texts are drawn already, and settings for seconds."""
    folder = tmp_path / "work"
    shutil.copytree(checkpoint, folder / "start")
    write_lines(folder / "blocks.jsonl.gz", records())
    write_lines(folder / "pairs.jsonl.gz", [])
    monkeypatch.setattr(recipe, "SETTINGS", dataclasses.replace(recipe.SETTINGS, **SMALL))
    monkeypatch.setattr(by_loss, "SETTINGS", recipe.SETTINGS)
    return folder


def test_the_recipe_goes_on_with_what_is_there(work, tmp_path):
    """From start and blocks it trains, exports for long queries, and at a second call does nothing again."""
    (tmp_path / "data").mkdir()
    arguments = ["--train", str(tmp_path), "--data", str(tmp_path / "data"), "--work", str(work)]
    (work / "run").mkdir()
    (work / "run" / "settings.json").write_text("{}")  # cut off before a state was saved
    CliRunner().invoke(recipe.main, arguments, catch_exceptions=False)
    spec = json.loads((work / "model" / "encoding.json").read_text())
    assert spec["query_length"] == min(recipe.QUERY_LENGTH, spec["document_length"])
    assert len((work / "run" / "log.jsonl").read_text().splitlines()) == 2
    before = (work / "model" / "model.onnx").stat().st_mtime_ns
    CliRunner().invoke(recipe.main, arguments, catch_exceptions=False)
    assert (work / "model" / "model.onnx").stat().st_mtime_ns == before


def test_every_loss_is_trained_and_measured(work, tmp_path):
    """A row for the start and for each loss; the models differ from each other."""
    folder = tmp_path / "data" / "one"
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": str(i), "text": row["positive"]}) + "\n" for i, row in enumerate(records())]
    (folder / "corpus.jsonl").write_text("".join(lines))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": records()[3]["query"]}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t3\t1\n")
    out = tmp_path / "losses.json"
    arguments = ["--work", str(work), "--data", str(folder.parent), "--collection", "one", "--steps", "2"]
    done = CliRunner().invoke(by_loss.main, [*arguments, "--json", str(out)], catch_exceptions=False)
    found = json.loads(out.read_text())
    assert list(found["figures"]) == ["not trained", *by_loss.LOSSES]
    assert (found["steps"], all(name in done.stdout for name in by_loss.LOSSES)) == (2, True)
    models = [path.read_bytes() for path in (work / "losses").glob("*/**/model.onnx")]
    assert len({*models}) == len(models) == 1 + len(by_loss.LOSSES)
