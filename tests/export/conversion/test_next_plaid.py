"""Folders of next-plaid's exporter become model folders with a warning, or are refused."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import ParityError, UnsupportedCheckpoint
from refcolbert_export.conversion import next_plaid
from refcolbert_export.conversion.colbert import export_checkpoint, verify_against
from refcolbert_export.conversion.next_plaid import read_next_plaid
from refcolbert_export.graph.to_onnx import to_onnx
from refcolbert_export.layouts.checkpoints import read_checkpoint
from refcolbert_export.layouts.tokenizers import load_tokenizer

GOLDEN = Path(__file__).parents[3] / "golden" / "encode"
CHECKPOINT = GOLDEN / "pylate-unexpanded" / "checkpoint"


def _graph(types):
    """The checkpoint's graph as next-plaid writes it: other output name, and for BERT a token_type_ids input."""
    proto = to_onnx(read_checkpoint(CHECKPOINT).model)
    proto.graph.node.append(helper.make_node("Identity", ["vectors"], ["output"]))
    shape = ["batch_size", "sequence_length", 8]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, shape))
    if types:  # added to the ids: anything but zeros changes the vectors
        for node in proto.graph.node:
            node.input[:] = ["typed" if name == "input_ids" else name for name in node.input]
        proto.graph.node.insert(0, helper.make_node("Add", ["input_ids", "token_type_ids"], ["typed"]))
        proto.graph.input.append(
            helper.make_tensor_value_info("token_type_ids", onnx.TensorProto.INT64, shape[:2]),
        )
    return proto


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder as next-plaid's exporter makes it, read-only."""
    folder = tmp_path_factory.mktemp("next-plaid") / "folder"
    folder.mkdir()
    onnx.save(_graph(types=True), folder / "model.onnx")
    settings = json.loads((CHECKPOINT / "config_sentence_transformers.json").read_text())
    tokenizer = load_tokenizer(CHECKPOINT)
    markers = [settings["query_prefix"], settings["document_prefix"]]
    tokenizer.add_tokens(markers)
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    copied = ("query_prefix", "document_prefix", "query_length", "document_length", "skiplist_words")
    config = {
        **{key: settings[key] for key in copied},
        **{"model_type": "ColBERT", "model_name": "tiny", "model_class": "BertModel", "uses_token_type_ids": True},
        **{"do_query_expansion": False, "attend_to_expansion_tokens": False, "embedding_dim": 8},
        **{"mask_token_id": tokenizer.mask_token_id, "pad_token_id": tokenizer.mask_token_id, "do_lower_case": False},
        **dict(zip(("query_prefix_id", "document_prefix_id"), tokenizer.convert_tokens_to_ids(markers), strict=True)),
    }
    (folder / "onnx_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def own(made, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(made, tmp_path / "own")


def _set(own, **changes):
    found = json.loads((own / "onnx_config.json").read_text())
    (own / "onnx_config.json").write_text(json.dumps({**found, **changes}))
    return own


def test_the_import_encodes_as_the_checkpoint(made, tmp_path, caplog):
    """The imported model gives the vectors of the checkpoint's own export, with a warning in log and card."""
    with caplog.at_level(logging.WARNING, "refcolbert"):
        report = export_checkpoint(made, tmp_path / "out")
    assert report["layout"] == "next-plaid"
    assert "do_query_expansion=false" in caplog.text
    card = (tmp_path / "out" / "README.md").read_text()
    assert "do_query_expansion=false" in card
    assert "residuals" in card
    export_checkpoint(CHECKPOINT, tmp_path / "exported")
    ours, other = Encoder.load(tmp_path / "out"), Encoder.load(tmp_path / "exported")
    assert ours.spec == other.spec
    for text in ("what color is amber urine?", "", " [Q] [MASK] the late interaction " * 9):
        np.testing.assert_allclose(ours.encode_queries([text])[0], other.encode_queries([text])[0], atol=1e-6)
        np.testing.assert_allclose(ours.encode_documents([text])[0], other.encode_documents([text])[0], atol=1e-6)
    verify_against(tmp_path / "out", made)


@pytest.mark.parametrize("attend", [False, True])
def test_expansion_is_imported_where_the_file_says_so(own, tmp_path, attend):
    """Queries are filled up with the mask token when onnx_config.json says do_query_expansion true."""
    _set(own, do_query_expansion=True, attend_to_expansion_tokens=attend, do_lower_case=True)
    export_checkpoint(own, tmp_path / "out")
    assert "do_query_expansion=false" not in (tmp_path / "out" / "README.md").read_text()
    (tokens,) = Encoder.load(tmp_path / "out").tokenizer.queries(["amber"])
    assert (len(tokens.ids), tokens.attention.all()) == (12, attend)


def test_no_markers_and_two_inputs(own, tmp_path):
    """Empty prefixes mean no marker, and a graph without token types is taken as it is."""
    _set(own, query_prefix="", document_prefix="", query_prefix_id=None)
    onnx.save(_graph(types=False), own / "model.onnx")
    export_checkpoint(own, tmp_path / "out")
    assert len(Encoder.load(tmp_path / "out").spec.query_prefix_ids) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_prefix_id": 7}, "has id 7"),
        ({"do_query_expansion": True, "mask_token_id": 103}, "103"),
        ({"embedding_dim": 9}, "expected float32 vectors"),
        ({"document_length": None}, "document_length"),
        ({"document_length": 65}, "65 tokens"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(own, tmp_path, changes, message):
    """The import is refused by name when a setting contradicts tokenizer or graph."""
    with pytest.raises(UnsupportedCheckpoint, match=message):
        export_checkpoint(_set(own, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_settings_may_have_their_older_name(own, tmp_path):
    """The import has the same spec when the settings file is called as releases of the exporter call it."""
    newer = read_next_plaid(own)[1]
    (own / "onnx_config.json").rename(own / "config_sentence_transformers.json")
    export_checkpoint(own, tmp_path / "out")
    assert Encoder.load(tmp_path / "out").spec == newer


def _rename_input(proto):
    proto.graph.input[0].name = "ids"
    proto.graph.node[0].input[0] = "ids"


def _not_normalized(proto):
    proto.graph.node[-1].CopyFrom(helper.make_node("Add", ["vectors", "vectors"], ["output"]))


@pytest.mark.parametrize(
    ("change", "message"), [(_rename_input, "must take input_ids"), (_not_normalized, "does not normalize")]
)
def test_a_graph_that_does_not_fit_is_refused(own, tmp_path, change, message):
    """The import is refused when the graph has other inputs or rows of another norm."""
    proto = _graph(types=True)
    change(proto)
    onnx.save(proto, own / "model.onnx")
    with pytest.raises(UnsupportedCheckpoint, match=message):
        export_checkpoint(own, tmp_path / "out")


def test_bytes_that_are_no_graph_are_refused(own, tmp_path):
    """The import is refused when model.onnx or tokenizer.json is something else."""
    (own / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UnsupportedCheckpoint, match=r"model\.onnx"):
        export_checkpoint(own, tmp_path / "out")
    (own / "tokenizer.json").write_text("{}")
    with pytest.raises(UnsupportedCheckpoint, match=r"tokenizer\.json"):
        export_checkpoint(own, tmp_path / "out")


def test_a_checkpoint_beside_it_is_the_better_source(own):
    """A folder with the checkpoint's own files is read as that checkpoint."""
    assert next_plaid.is_next_plaid(own)
    (own / "modules.json").write_text("[]")
    assert not next_plaid.is_next_plaid(own)


def test_a_wrong_skiplist_is_refused(made, tmp_path, monkeypatch):
    """Parity refuses the import when the reader drops a skiplist word."""
    right = next_plaid._word_id
    monkeypatch.setattr(next_plaid, "_word_id", lambda t, word: right(t, "!" if word == "." else word))
    with pytest.raises(ParityError, match="kept"):
        export_checkpoint(made, tmp_path / "out")
