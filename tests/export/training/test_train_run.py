"""The training loop: learning, determinism, resumption, and the checkpoint that it keeps."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from train_data import examples, interrupted, records, run, write_jsonl

from refcolbert.errors import TrainingError, UnsupportedCheckpoint
from refcolbert_export.conversion.colbert import export_checkpoint
from refcolbert_export.layouts.checkpoints import read_checkpoint
from refcolbert_export.training import loop
from refcolbert_export.training.data import read_examples
from refcolbert_export.training.objective import weighted
from refcolbert_export.training.start import read_teacher
from refcolbert_export.training.validate import read_pool


def weights(folder):
    """The bytes of a trained checkpoint's weights."""
    return (folder / "model.safetensors").read_bytes()


def log(out, key="loss"):
    """The logged entries that have `key`."""
    return [e for e in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if key in e]


@pytest.mark.parametrize("more", [{}, {"dropout": 0.1}, {"cached": True, "dropout": 0.1, "group_tokens": 32}])
def test_an_interrupted_run_ends_with_the_same_bytes(checkpoint, tmp_path, more):
    """Ten steps, and five, a kill and five more give equal weights, when dropout draws numbers and without it."""
    data = examples(tmp_path)
    whole = run(checkpoint, tmp_path / "whole", data, steps=10, **more)
    interrupted(lambda: run(checkpoint, tmp_path / "parts", data, steps=10, save_every=5, **more), 7)
    resumed = run(checkpoint, tmp_path / "parts", data, steps=10, save_every=5, resume=True, **more)
    assert weights(resumed) == weights(whole)
    assert [e["step"] for e in log(tmp_path / "parts")] == list(range(1, 11))


def test_another_seed_gives_another_model(checkpoint, tmp_path):
    """Equal settings give equal bytes, and the seed decides the order of the examples."""
    data = examples(tmp_path)
    first, again, other = (
        run(checkpoint, tmp_path / name, data, steps=2, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert weights(first) == weights(again)
    assert weights(first) != weights(other)


def test_cached_gradients_are_the_direct_ones(checkpoint, tmp_path):
    """One step with gradient caching moves the weights as one without, up to float32's rounding."""
    data, options = examples(tmp_path), {"steps": 1, "losses": {"in-batch": 1.0, "kl": 1.0}, "clip": 1e9}
    direct = load_file(run(checkpoint, tmp_path / "direct", data, **options) / "model.safetensors")
    cached = load_file(run(checkpoint, tmp_path / "cached", data, cached=True, **options) / "model.safetensors")
    start = load_file(checkpoint / "model.safetensors")
    for name, tensor in direct.items():
        assert torch.allclose(tensor, cached[name], atol=2e-5), name
    assert not torch.allclose(direct["linear.weight"], start["linear.weight"], atol=2e-3)


def test_training_teaches_and_the_result_exports(checkpoint, tmp_path):
    """Held-out ranking improves, and `export` proves the trained checkpoint's parity."""
    pool = read_pool(write_jsonl(tmp_path / "held.jsonl", records(14)))
    out = tmp_path / "out"
    found = run(checkpoint, out, examples(tmp_path), steps=30, batch=8, validation=pool, validate_every=10)
    metrics = [e["validation"]["RR@10"] for e in log(out, "validation")]
    assert len(metrics) == 4
    assert max(metrics) > metrics[0] + 0.1
    assert log(out)[-1]["loss"] < log(out)[0]["loss"]
    assert export_checkpoint(found, tmp_path / "model")["worst"]["max_abs"] <= 1e-4
    assert read_checkpoint(found).spec == read_checkpoint(checkpoint).spec
    assert (out / "metrics.png").stat().st_size > 0


def test_a_loss_that_is_not_finite_ends_the_run(checkpoint, tmp_path, monkeypatch):
    """A loss of NaN is a TrainingError, and the last saved checkpoint stays as it was."""
    data, out = examples(tmp_path), tmp_path / "out"
    factors = iter([1, 1, 1, float("nan")])
    monkeypatch.setattr(loop, "weighted", lambda *arguments: weighted(*arguments) * next(factors))
    with pytest.raises(TrainingError, match=r"step 4: .*the loss is nan"):
        run(checkpoint, out, data, save_every=2)
    kept = weights(out / "checkpoint")
    assert torch.isfinite(load_file(out / "checkpoint" / "model.safetensors")["linear.weight"]).all()
    monkeypatch.undo()
    assert weights(run(checkpoint, out, data, save_every=2, resume=True)) != kept


def test_the_best_weights_are_kept_and_patience_ends(checkpoint, tmp_path):
    """With a learning rate that only harms, the weights of step 0 stay and the run ends after two validations."""
    pool = read_pool(write_jsonl(tmp_path / "held.jsonl", records(14)))
    options = {"steps": 20, "learning_rate": 3.0, "head_learning_rate": 3.0, "validate_every": 1, "patience": 2}
    found = run(checkpoint, tmp_path / "out", examples(tmp_path), validation=pool, **options)
    validations = log(tmp_path / "out", "validation")
    best = max(range(len(validations)), key=lambda i: validations[i]["validation"]["RR@10"])
    assert len(validations) == best + 3 < 20
    if best == 0:
        assert torch.equal(
            load_file(found / "model.safetensors")["linear.weight"], read_checkpoint(checkpoint).model.head[0].weight
        )


def test_the_newest_weights_are_kept_if_wanted(checkpoint, tmp_path):
    """A validation that prefers the start does not decide: the checkpoint has the weights of the last step."""
    pool = read_pool(write_jsonl(tmp_path / "held.jsonl", records(14)))
    options = {"steps": 3, "learning_rate": 3.0, "head_learning_rate": 3.0, "validate_every": 1}
    data = examples(tmp_path)
    best = run(checkpoint, tmp_path / "best", data, validation=pool, **options)
    newest = run(checkpoint, tmp_path / "newest", data, validation=pool, keep="newest", **options)
    alone = run(checkpoint, tmp_path / "alone", data, **options)
    assert weights(newest) == weights(alone) != weights(best)
    found = run(checkpoint, tmp_path / "best", data, validation=pool, keep="newest", resume=True, **options)
    assert weights(found) == weights(newest)


def test_a_run_that_does_not_fit_is_refused(checkpoint, tmp_path):
    """Other settings or data at resumption, an occupied path, nothing to resume, a damaged state: TrainingError."""
    data, out = examples(tmp_path), tmp_path / "out"
    with pytest.raises(TrainingError, match="found none"):
        run(checkpoint, out, data, resume=True)
    run(checkpoint, out, data, steps=1)
    before = weights(out / "checkpoint")
    with pytest.raises(TrainingError, match="already there"):
        run(checkpoint, out, data)
    with pytest.raises(TrainingError, match="batch was 4, is 5"):
        run(checkpoint, out, data, steps=1, batch=5, resume=True)
    with pytest.raises(TrainingError, match="metric was 'RR@10', is 'nDCG@10'"):
        run(checkpoint, out, data, steps=1, metric="nDCG@10", resume=True)
    with pytest.raises(TrainingError, match="data was"):
        run(checkpoint, out, data[1:], steps=1, resume=True)
    (out / "state.pt").write_bytes(b"not a state")
    with pytest.raises(TrainingError, match="not the state of a run"):
        run(checkpoint, out, data, steps=1, resume=True)
    assert weights(out / "checkpoint") == before


def test_losses_without_their_data_are_refused(checkpoint, tmp_path):
    """kl without scores, pairwise without negatives, in-batch alone with one example: TrainingError before any work."""
    plain = [{"query": r["query"], "positive": r["positive"]} for r in records()]
    data = examples(tmp_path)
    bare = read_examples([write_jsonl(tmp_path / "bare.jsonl", plain)])
    for losses, given, more in (
        ({"kl": 1.0}, bare, {}),
        ({"pairwise-hinge": 1.0}, bare, {}),
        ({"n-way": 1.0}, data, {"negatives": 0}),
        ({"in-batch": 1.0}, bare, {"batch": 1}),
    ):
        with pytest.raises(TrainingError, match="needs"):
            run(checkpoint, tmp_path / "out", given, losses=losses, **more)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [{}, {"cached": True, "group_tokens": 32}])
def test_a_teacher_gives_its_vectors(checkpoint, tmp_path, more):
    """Each text's token vectors come closer to the teacher's, to which the loss of the teacher itself is 0."""
    data = examples(tmp_path)
    teacher = run(checkpoint, tmp_path / "teacher", data, steps=30)
    options = {"losses": {"vectors": 1.0}, "teacher": teacher, "steps": 30, "dropout": 0.0, **more}
    run(checkpoint, tmp_path / "out", data, **options)
    found = [e["vectors"] for e in log(tmp_path / "out")]
    assert max(found[-5:]) < 0.5 * found[0]
    run(teacher, tmp_path / "same", data, **{**options, "steps": 1})
    assert abs(log(tmp_path / "same")[0]["vectors"]) < 1e-6


def test_a_teacher_that_does_not_fit_is_refused(checkpoint, tmp_path):
    """One without its loss or the other way round, of other lengths or columns, or another one at resumption."""
    data, out, by_vectors = examples(tmp_path), tmp_path / "out", {"losses": {"vectors": 1.0}}
    with pytest.raises(TrainingError, match="add --teacher"):
        run(checkpoint, out, data, **by_vectors)
    with pytest.raises(TrainingError, match="add --loss vectors"):
        run(checkpoint, out, data, teacher=checkpoint)
    for name, value, found in (("dim", 4, "dim 4 instead of 16"), ("doc_maxlen", 40, "document_length 40")):
        other = tmp_path / name
        shutil.copytree(checkpoint, other)
        settings = json.loads((other / "artifact.metadata").read_text())
        (other / "artifact.metadata").write_text(json.dumps({**settings, name: value}))
        if name == "dim":
            tensors = load_file(other / "model.safetensors")
            save_file({**tensors, "linear.weight": tensors["linear.weight"][:4].clone()}, other / "model.safetensors")
        with pytest.raises(TrainingError, match=f"found one with {found}"):
            run(checkpoint, out, data, teacher=other, **by_vectors)
    assert not out.exists()
    run(checkpoint, out, data, steps=1, teacher=checkpoint, **by_vectors)
    trained = run(checkpoint, tmp_path / "trained", data, steps=1)
    with pytest.raises(TrainingError, match="teacher was"):
        run(checkpoint, out, data, steps=1, teacher=trained, resume=True, **by_vectors)
    with pytest.raises(UnsupportedCheckpoint, match="expected a trained ColBERT checkpoint as teacher"):
        read_teacher(bare(checkpoint, tmp_path / "bare"))


def bare(checkpoint, folder):
    """The transformer of a checkpoint alone."""
    shutil.copytree(checkpoint, folder)
    (folder / "artifact.metadata").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t for name, t in tensors.items() if name != "linear.weight"}, folder / "model.safetensors")
    return folder
