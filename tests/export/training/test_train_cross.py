"""The cross-encoder: trained, saved, exported, run without torch."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from train_data import SMALL, examples, interrupted, records, write_jsonl
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from refcolbert.errors import ExportError, InvalidModel, ParityError, TrainingError, UnsupportedCheckpoint
from refcolbert_export import cli
from refcolbert_export.conversion import cross_encoder
from refcolbert_export.conversion.cross_encoder import export_cross_encoder
from refcolbert_export.cross_encoder import CrossEncoder, PairTokenizer
from refcolbert_export.training.batches import Draw
from refcolbert_export.training.cross_encoder import QUERY_ROOM, CrossInteraction, read_cross_start
from refcolbert_export.training.loop import train
from refcolbert_export.training.settings import Settings
from refcolbert_export.training.start import Head, read_start
from refcolbert_export.training.validate import Pool, read_pool

CROSS = {**SMALL, "architecture": "cross-encoder", "losses": {"n-way": 1.0}, "learning_rate": 3e-3}


def run(start, out, data, resume=False, validation=None, teacher=None, **settings):
    """Train a cross-encoder."""
    chosen = Settings(**{"steps": 6, **CROSS, **settings})
    return train(read_cross_start(start), data, out, chosen, teacher=teacher, resume=resume, validation=validation)


@pytest.fixture(scope="module")
def trained(transformer, tmp_path_factory):
    """(run folder, checkpoint folder) of a short run with validation."""
    folder = tmp_path_factory.mktemp("cross")
    pool = read_pool(write_jsonl(folder / "held.jsonl", records(14)))
    how = {"steps": 40, "batch": 8, "validate_every": 20, "metric": "nDCG@10"}
    return folder / "run", run(transformer, folder / "run", examples(folder), validation=pool, **how)


def test_a_cross_encoder_learns(trained):
    """Positives rise among their negatives, and the saved folder is one that transformers loads."""
    out, found = trained
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    metrics = [e["validation"]["nDCG@10"] for e in entries if "validation" in e]
    losses = [e["loss"] for e in entries if "loss" in e]
    assert max(metrics) > metrics[0]
    assert sum(losses[-5:]) < sum(losses[:5])
    model = AutoModelForSequenceClassification.from_pretrained(found)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert model.config.num_labels == 1


def test_the_exported_scorer_is_the_checkpoint(trained, tmp_path):
    """ONNX scores equal transformers' on pairs of all lengths, in the order asked for, whatever the batch."""
    _, found = trained
    report = export_cross_encoder(found, tmp_path / "model")
    assert report["worst"]["max_abs"] <= 1e-4
    scorer = CrossEncoder.load(tmp_path / "model", threads=1)
    texts = ["the date of it", "x", "wing and heat. " * 40, ""]
    scores = scorer.score("how to read a date", texts)
    model = AutoModelForSequenceClassification.from_pretrained(found).eval()
    tokenizer = AutoTokenizer.from_pretrained(found)
    with torch.inference_mode():
        for text, score in zip(texts, scores, strict=True):
            given = tokenizer(["how to read a date"], [text], truncation=True, max_length=64, return_tensors="pt")
            np.testing.assert_allclose(score, model(**given).logits[0, 0], atol=1e-4)
    np.testing.assert_allclose(scorer.score("how to read a date", texts[::-1]), scores[::-1], atol=1e-5)
    assert len(scorer.score("q", [])) == 0


def test_pairs_are_used_as_long_as_they_were_trained(transformer, tmp_path):
    """Positions that training never reached rank badly: checkpoint and export cut there, more training may go on."""
    found = run(transformer, tmp_path / "run", examples(tmp_path), steps=1, document_length=9)
    start = read_cross_start(found)
    assert (start.max_length, start.longest) == (9 + QUERY_ROOM, 64)
    export_cross_encoder(found, tmp_path / "model")
    scorer = CrossEncoder.load(tmp_path / "model", threads=1)
    assert scorer.tokenizer.max_length == 9 + QUERY_ROOM
    assert AutoTokenizer.from_pretrained(found).model_max_length == 9 + QUERY_ROOM
    longer = run(found, tmp_path / "longer", examples(tmp_path), steps=1, document_length=20)
    assert read_cross_start(longer).max_length == 20 + QUERY_ROOM


def test_pairs_are_cut_as_transformers_cuts_them(transformer):
    """Equal ids and types for texts of every length around the limit, on both sides."""
    theirs = AutoTokenizer.from_pretrained(transformer)
    ours = PairTokenizer((transformer / "tokenizer.json").read_text(), 12, 0)
    for n in range(14):
        for m in range(14):
            first, second = "a " * n, "b " * m
            found = theirs([first], [second], truncation="longest_first", max_length=12)
            (pair,) = ours.pairs([(first, second)])
            assert pair.ids.tolist() == found["input_ids"][0], (n, m)
            assert pair.types.tolist() == found["token_type_ids"][0], (n, m)


def test_the_scorer_needs_no_torch():
    """Importing it leaves torch out."""
    code = "import sys, refcolbert_export.cross_encoder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_resumed_cross_encoder_has_the_same_bytes(transformer, tmp_path):
    """Four steps equal two, an interruption and two more."""
    data = examples(tmp_path)
    whole = run(transformer, tmp_path / "whole", data, steps=4, dropout=0.1)
    interrupted(lambda: run(transformer, tmp_path / "parts", data, steps=4, dropout=0.1, save_every=2), 3)
    resumed = run(transformer, tmp_path / "parts", data, steps=4, dropout=0.1, save_every=2, resume=True)
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_scores_are_at_their_pairs(transformer, tmp_path):
    """A query's score is in the column of its document when texts are grouped by length."""
    settings = Settings(steps=1, **{**CROSS, "group_tokens": 40})
    scorer = CrossInteraction(read_cross_start(transformer), settings)
    scorer.model.eval()
    batch = Draw(examples(tmp_path), 3, None, 0).batch(0)
    with torch.no_grad():
        table, _ = scorer.scores(batch)
        for i, columns in enumerate(batch.columns):
            for j in columns:
                alone = scorer._score([(batch.queries[i], batch.documents[j])])
                np.testing.assert_allclose(table[i, j], alone[0], atol=1e-5)


def test_a_start_of_the_other_architecture_is_refused(checkpoint, transformer, trained, tmp_path):
    """Each architecture refuses the other's checkpoints; a cross-encoder refuses losses and pools over all pairs."""
    with pytest.raises(UnsupportedCheckpoint, match="is a ColBERT checkpoint"):
        read_cross_start(checkpoint)
    with pytest.raises(UnsupportedCheckpoint, match="is a cross-encoder"):
        read_start(trained[1], Head())
    with pytest.raises(UnsupportedCheckpoint, match="found none"):
        read_cross_start(tmp_path / "nowhere")
    for more in ({"losses": {"in-batch": 1.0}}, {"cached": True}):
        with pytest.raises(TrainingError, match="own documents alone"):
            run(transformer, tmp_path / "run", examples(tmp_path), **more)
    with pytest.raises(TrainingError, match="no token vectors"):
        run(transformer, tmp_path / "run", examples(tmp_path), losses={"vectors": 1.0})
    with pytest.raises(TrainingError, match="no token vectors"):
        run(transformer, tmp_path / "run", examples(tmp_path), teacher=read_start(checkpoint, Head()))
    whole = Pool({"0": "q"}, {"0": "d"}, {"0": {"0": 1}})
    with pytest.raises(TrainingError, match="whole collection"):
        run(transformer, tmp_path / "run", examples(tmp_path), validation=whole)
    broken = tmp_path / "broken"
    shutil.copytree(transformer, broken)
    tensors = load_file(broken / "model.safetensors")
    save_file({k: t for k, t in tensors.items() if "layer.1" not in k}, broken / "model.safetensors")
    with pytest.raises(UnsupportedCheckpoint, match="lacks weights"):
        read_cross_start(broken)
    assert not (tmp_path / "run").exists()


def test_a_model_that_differs_is_not_exported(trained, tmp_path, monkeypatch):
    """A graph of other weights is a ParityError and writes nothing; an occupied path is an ExportError."""
    graph = cross_encoder._graph

    def shaken(start):
        with torch.no_grad():
            start.model.classifier.bias += 1
        exported = graph(start)
        with torch.no_grad():
            start.model.classifier.bias -= 1
        return exported

    monkeypatch.setattr(cross_encoder, "_graph", shaken)
    with pytest.raises(ParityError, match="differ"):
        export_cross_encoder(trained[1], tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "model").mkdir()
    with pytest.raises(ExportError, match="already there"):
        export_cross_encoder(trained[1], tmp_path / "model")


def test_a_damaged_folder_is_refused(trained, tmp_path):
    """InvalidModel names the file: settings, tokenizer, graph, or one that is missing."""
    export_cross_encoder(trained[1], tmp_path / "model")
    for name, content in (
        ("cross_encoder.json", b"{}"),
        ("cross_encoder.json", b'{"max_length": 2, "pad_id": 0}'),
        ("cross_encoder.json", b"["),
        ("tokenizer.json", b"{}"),
        ("model.onnx", b"nothing"),
        ("model.onnx", None),
    ):
        kept = (tmp_path / "model" / name).read_bytes()
        (tmp_path / "model" / name).unlink()
        if content is not None:
            (tmp_path / "model" / name).write_bytes(content)
        with pytest.raises(InvalidModel, match=name.partition(".")[0]):
            CrossEncoder.load(tmp_path / "model")
        (tmp_path / "model" / name).write_bytes(kept)


def test_train_and_export_from_the_command_line(transformer, tmp_path):
    """The verbs train a cross-encoder and make it ONNX."""
    data = write_jsonl(tmp_path / "train.jsonl", records(8))
    arguments = [str(transformer), str(tmp_path / "run"), "--data", str(data), "--steps", "1"]
    arguments += ["--batch", "2", "--threads", "1", "--architecture", "cross-encoder", "--loss", "margin-mse"]
    done = CliRunner().invoke(cli.train, arguments, catch_exceptions=False)
    assert "the trained checkpoint" in done.output
    folders = [str(tmp_path / "run" / "checkpoint"), str(tmp_path / "model")]
    assert "pairs agree" in CliRunner().invoke(cli.export, folders, catch_exceptions=False).output
    assert CliRunner().invoke(cli.export, [*folders[:1], str(tmp_path / "b"), "--variant", "int8"]).exit_code == 2
