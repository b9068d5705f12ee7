"""Stanford checkpoints become model folders, and broken exports are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import ExportError, ParityError, UnsupportedCheckpoint
from refcolbert_export import model
from refcolbert_export.conversion.colbert import export_checkpoint, verify_against
from refcolbert_export.graph.to_onnx import OPSET
from refcolbert_export.parity.report import recheck
from tools.export_checks.broken_exports import is_refused

TINY = Path(__file__).parents[2] / "models" / "tiny"


@pytest.fixture
def own(checkpoint, tmp_path):
    """A copy of the checkpoint that a test may change."""
    return shutil.copytree(checkpoint, tmp_path / "own")


def _metadata(own, changes):
    found = json.loads((own / "artifact.metadata").read_text())
    found.update(changes)
    (own / "artifact.metadata").write_text(json.dumps({k: v for k, v in found.items() if v is not ...}))
    return own


def _tensors(own, change):
    found = load_file(own / "model.safetensors")
    change(found)
    save_file(found, own / "model.safetensors")
    return own


def test_export_reproduces_the_committed_tiny_model(checkpoint, tmp_path):
    """The exporter gives the committed model's vectors when it exports the seeded checkpoint again."""
    export_checkpoint(checkpoint, tmp_path / "out")
    ours, committed = Encoder.load(tmp_path / "out"), Encoder.load(TINY)
    assert ours.spec == committed.spec
    for text in ("what color is amber urine", "", "Café ?!"):
        np.testing.assert_allclose(ours.encode_queries([text])[0], committed.encode_queries([text])[0], atol=1e-6)


def test_the_committed_model_has_the_exporters_opset():
    """The tests in the environment of the lowest versions run the opset that the exporter writes."""
    assert [imported.version for imported in onnx.load(TINY / "model.onnx").opset_import] == [OPSET]


def test_exporting_twice_gives_the_same_bytes(checkpoint, tmp_path):
    """The model folder has the same content hash when it is written twice."""
    assert (
        export_checkpoint(checkpoint, tmp_path / "a")["model"] == export_checkpoint(checkpoint, tmp_path / "b")["model"]
    )


def test_missing_metadata_means_stanfords_defaults(own, tmp_path):
    """Absent keys of artifact.metadata take colbert-ai's defaults when dim and lengths allow it."""
    _metadata(own, dict.fromkeys(("query_maxlen", "mask_punctuation", "attend_to_mask_tokens"), ...))
    export_checkpoint(own, tmp_path / "out")
    spec = Encoder.load(tmp_path / "out").spec
    assert (spec.query_length, spec.expansion_attended, len(spec.skiplist)) == (32, False, 33)


@pytest.mark.parametrize("switch", [{"attend_to_mask_tokens": True}, {"mask_punctuation": False}, {"query_maxlen": 8}])
def test_each_switch_is_exported(own, tmp_path, switch):
    """A switch of artifact.metadata reaches the spec and parity holds when it is not the default."""
    export_checkpoint(_metadata(own, switch), tmp_path / "out")
    spec = Encoder.load(tmp_path / "out").spec
    assert spec.expansion_attended == switch.get("attend_to_mask_tokens", False)
    assert len(spec.skiplist) == (33 if switch.get("mask_punctuation", True) else 1)
    assert spec.query_length == switch.get("query_maxlen", 32)


def test_pickled_weights_are_read(own, tmp_path):
    """A pytorch_model.bin with nothing but tensors exports like safetensors."""
    torch.save(load_file(own / "model.safetensors"), own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()
    export_checkpoint(own, tmp_path / "out")


def test_a_pickle_with_code_is_refused(own, tmp_path):
    """A pytorch_model.bin that would run code is refused when it is opened."""
    torch.save({"linear.weight": print}, own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()
    with pytest.raises(UnsupportedCheckpoint, match=r"pytorch_model\.bin"):
        export_checkpoint(own, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"score_scaler.weight": torch.ones(1)}), "score_scaler"),
        (lambda t: t.update({"bert.extra.weight": torch.ones(1)}), r"extra\.weight"),
        (lambda t: t.pop("linear.weight"), r"linear\.weight"),
        (lambda t: t.pop("bert.encoder.layer.1.output.dense.bias"), r"layer\.1\.output\.dense\.bias"),
        (lambda t: t.update({"linear.weight": torch.ones(8, 32)}), "dim 16"),
        (lambda t: t.update({"bert.embeddings.word_embeddings.weight": torch.ones(9, 32)}), "shapes"),
    ],
)
def test_every_tensor_is_accounted_for(own, tmp_path, change, message):
    """The export is refused by name when a tensor is unknown, missing or of another shape."""
    with pytest.raises(UnsupportedCheckpoint, match=message):
        export_checkpoint(_tensors(own, change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("switch", "message"),
    [({"similarity": "l2"}, "l2"), ({"interaction": "flipr"}, "flipr")],
)
def test_settings_that_cannot_be_followed_are_refused(own, tmp_path, switch, message):
    """The export is refused when artifact.metadata asks for vectors that no index here can score."""
    with pytest.raises(UnsupportedCheckpoint, match=message):
        export_checkpoint(_metadata(own, switch), tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("position_embedding_type", "relative_key", "relative_key"),
        ("position_embedding_type", "alibi", "alibi"),
        ("auto_map", {"AutoModel": "x.Y"}, "trust"),
        ("auto_map", {"AutoConfig": "configuration_bert.JinaBertConfig", "AutoModel": "x.BertModel"}, "trust"),
    ],
)
def test_a_configuration_that_transformers_cannot_follow_is_refused(own, tmp_path, key, value, message):
    """The export is refused when config.json asks for other positions or other code than transformers has."""
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(UnsupportedCheckpoint, match=message):
        export_checkpoint(own, tmp_path / "out")


def test_an_existing_place_is_refused(checkpoint, tmp_path):
    """Nothing is touched when there is already something at OUT."""
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError, match="already"):
        export_checkpoint(checkpoint, tmp_path / "out")


def test_a_folder_of_no_layout_is_refused(tmp_path):
    """The message lists the known layouts when a folder has none of them."""
    with pytest.raises(UnsupportedCheckpoint, match="stanford"):
        export_checkpoint(tmp_path, tmp_path / "out")


def test_a_broken_graph_is_refused(checkpoint, tmp_path, monkeypatch):
    """Parity refuses the export when the graph computes something that is a little off."""
    right = model.ColbertModel.forward
    nudged = lambda self, ids, mask: torch.nn.functional.normalize(right(self, ids, mask) + 3e-4, dim=2)  # noqa: E731
    monkeypatch.setattr(model.ColbertModel, "forward", nudged)
    with pytest.raises(ParityError):
        export_checkpoint(checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_dropped_bias_is_refused():
    """Parity refuses the export when one bias of the backbone is lost on the way."""

    def change(read):
        read.model.backbone.encoder.layer[1].output.dense.bias.data.zero_()
        return read

    assert is_refused("stanford-bert", change)


def test_verify_against_the_checkpoint(checkpoint, own):
    """The committed model verifies against its checkpoint, and not against one with another weight."""
    assert verify_against(TINY, checkpoint)["worst"]["max_abs"] < 1e-5
    with pytest.raises(ParityError):
        verify_against(TINY, _tensors(own, lambda t: t["linear.weight"][0].mul_(2)))


def test_recheck_needs_no_checkpoint(tmp_path):
    """The stored probes confirm the committed model, and refuse it when a report is about another."""
    own = shutil.copytree(TINY, tmp_path / "own")
    assert recheck(own)["worst_probe"] < 1e-5
    report = json.loads((own / "parity.json").read_text())
    report["texts"][0]["probe"][0] += 1e-3
    (own / "parity.json").write_text(json.dumps(report))
    with pytest.raises(ParityError, match="differ"):
        recheck(own)
    (own / "encoding.json").write_text((own / "encoding.json").read_text() + " ")
    with pytest.raises(ParityError, match="another model"):
        recheck(own)


@pytest.mark.parametrize(
    ("report", "message"),
    [(None, r"expected parity\.json"), ("x", "not JSON"), ("[]", "must hold"), ('{"a": 1}', "must hold")],
)
def test_a_folder_without_a_readable_report_is_refused(tmp_path, report, message):
    """Verifying fails with a hint when the report is missing or cannot be read."""
    own = shutil.copytree(TINY, tmp_path / "own")
    (own / "parity.json").unlink()
    if report is not None:
        (own / "parity.json").write_text(report)
    with pytest.raises(ParityError, match=message):
        recheck(own)


def test_a_report_of_an_unknown_variant_is_refused(checkpoint, tmp_path):
    """Comparing with the checkpoint fails when the report names an unknown variant."""
    own = shutil.copytree(TINY, tmp_path / "own")
    report = json.loads((own / "parity.json").read_text())
    (own / "parity.json").write_text(json.dumps({**report, "variant": "int3"}))
    with pytest.raises(ParityError, match="int3"):
        verify_against(own, checkpoint)
