"""Look-alikes of published checkpoints export and equal their origin's path, or are refused rightly."""

import pytest
from lookalikes import LOOKALIKES, ROTARY_POSITIONS, write
from safetensors.torch import load_file, save_file

from refcolbert.errors import UnsupportedCheckpoint
from refcolbert_export.conversion.colbert import export_checkpoint
from refcolbert_export.layouts.checkpoints import read_checkpoint
from refcolbert_export.layouts.single_file import as_folder
from refcolbert_export.parity.report import LIMIT
from refcolbert_export.training.start import Head, read_start, save_start

EXPORTED = [look for look in LOOKALIKES if not look.refused]
REFUSED = [look for look in LOOKALIKES if look.refused]


def named(name):
    """The look-alike of that name."""
    return next(look for look in LOOKALIKES if look.name == name)


@pytest.mark.parametrize("look", EXPORTED, ids=lambda look: look.name)
def test_the_export_equals_the_origins_path(tmp_path, look):
    """Vectors are equal and the unread keys are reported when a look-alike is exported."""
    source = write(look, tmp_path / "checkpoint")
    tokenizer = tmp_path / "checkpoint" if source.is_file() else None
    report = export_checkpoint(source, tmp_path / "out", tokenizer=tokenizer)
    assert report["worst"]["max_abs"] <= LIMIT
    assert report["unread_keys"] == look.unread
    assert look.notes in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        *("colbert-ir/colbertv2.0", "answerdotai/answerai-colbert-small-v1", "ColBERT v1, a .dnn file", "BAAI/bge-m3"),
        *("mixedbread-ai/mxbai-edge-colbert-v0-32m", "LiquidAI/LFM2-ColBERT-350M", "google/xtr-base-en"),
        *("VAGOsolutions/SauerkrautLM-EuroColBERT", "a ColBERT on Qwen/Qwen3-Embedding-0.6B"),
    ],
)
def test_training_starts_from_what_is_exported(tmp_path, name):
    """The start has the export's spec and is the same after saving when a look-alike is trained further."""
    source = write(named(name), tmp_path / "checkpoint")
    with as_folder(source, tmp_path / "checkpoint" if source.is_file() else None) as folder:
        assert read_start(folder, Head()).spec == read_checkpoint(folder).spec


@pytest.mark.parametrize("name", ["colbert-ir/colbertv2.0", "lightonai/LateOn-Code-edge", "BAAI/bge-m3"])
def test_a_snapshot_in_the_hubs_cache_is_exported(tmp_path, name):
    """The export reads files that are links into another folder when a snapshot of the hub's cache is given."""
    source, snapshot = write(named(name), tmp_path / "blobs"), tmp_path / "snapshots" / "0a1b"
    for path in [path for path in source.rglob("*") if path.is_file()]:
        link = snapshot / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    assert export_checkpoint(snapshot, tmp_path / "out")["worst"]["max_abs"] <= LIMIT
    start = read_start(snapshot, Head())
    save_start(start, tmp_path / "trained")
    assert not any(path.is_symlink() for path in (tmp_path / "trained").rglob("*"))


def test_a_leftover_projection_that_differs_is_named(tmp_path):
    """The card says which file has the last word when linear.weight is not the last Dense's, and training makes one."""
    source = write(named("answerdotai/answerai-colbert-small-v1"), tmp_path / "checkpoint")
    tensors = load_file(source / "model.safetensors")
    tensors["linear.weight"] *= 2
    save_file(tensors, source / "model.safetensors")
    export_checkpoint(source, tmp_path / "out")
    assert "not the weight in 1_Dense, which has the last word" in (tmp_path / "out" / "README.md").read_text()
    save_start(read_start(source, Head()), tmp_path / "saved")
    linear = load_file(tmp_path / "saved" / "model.safetensors")["linear.weight"]
    assert linear.equal(load_file(tmp_path / "saved" / "1_Dense" / "model.safetensors")["linear.weight"])


@pytest.mark.parametrize(
    ("name", "tokenizer", "message"),
    [("ColBERT v1, a .dnn file", False, "--tokenizer FOLDER"), ("colbert-ir/colbertv2.0", True, "leave it out")],
)
def test_a_tokenizer_is_given_for_a_single_file_alone(tmp_path, name, tokenizer, message):
    """The refusal says what to do when the tokenizer of a .dnn file is missing, or one is given for a folder."""
    source = write(named(name), tmp_path / "checkpoint")
    with pytest.raises(UnsupportedCheckpoint, match=message):
        export_checkpoint(source, tmp_path / "out", tokenizer=tmp_path / "checkpoint" if tokenizer else None)


def test_a_rotary_model_is_cut_at_its_document_length(tmp_path):
    """Documents may be longer than max_position_embeddings when positions are rotary."""
    spec = read_checkpoint(write(named("lightonai/Reason-ModernColBERT"), tmp_path / "checkpoint")).spec
    assert spec.document_length == 40 > ROTARY_POSITIONS


@pytest.mark.parametrize("look", REFUSED, ids=lambda look: look.name)
def test_what_cannot_be_followed_is_refused(tmp_path, look):
    """The refusal says why when transformers alone cannot compute the vectors."""
    with pytest.raises(UnsupportedCheckpoint, match=look.refused):
        export_checkpoint(write(look, tmp_path / "checkpoint"), tmp_path / "out")
