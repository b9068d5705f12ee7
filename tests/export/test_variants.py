"""Stored and computed precisions of an exported model."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from refcolbert.encoder import Encoder
from refcolbert.errors import ExportError, ParityError
from refcolbert_export.folder import export_checkpoint, verify_against
from refcolbert_export.parity import recheck
from refcolbert_export.variants import VARIANTS, store_int8


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The float32 export of the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("float32") / "out"
    export_checkpoint(checkpoint, folder)
    return folder


@pytest.mark.parametrize(("variant", "cosine"), [("float16", 0.9999), ("int8", 0.999), ("dynamic-int8", 0.8)])
def test_a_variant_is_smaller_and_close(checkpoint, exported, tmp_path, variant, cosine):
    """A variant loads as any model, reports its loss and verifies when it is exported."""
    out = tmp_path / "out"
    report = export_checkpoint(checkpoint, out, variant=variant)
    assert (report["variant"], report["tolerance"]["min_cosine"]) == (variant, cosine)
    assert (out / "model.onnx").stat().st_size < (exported / "model.onnx").stat().st_size
    text = "what is the number of the line"
    a, b = (Encoder.load(folder).encode_documents([text])[0] for folder in (out, exported))
    assert np.einsum("nd,nd->n", a, b).min() >= cosine
    recheck(out)
    verify_against(out, checkpoint)


def test_int8_storage_computes_in_float32(exported, tmp_path):
    """ONNX Runtime folds the stored int8 into ordinary MatMul weights when it loads the model."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    stored = store_int8((exported / "model.onnx").read_bytes())
    onnxruntime.InferenceSession(stored, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    kinds = {node.op_type for node in graph.node}
    assert not kinds & {"MatMulNBits", "MatMulInteger", "DequantizeLinear", "QLinearMatMul", "DynamicQuantizeMatMul"}
    weights = {t.name: t.data_type for t in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "FusedMatMul", "Attention")]
    assert products
    assert {weights[n.input[1]] for n in products if n.input[1] in weights} == {onnx.TensorProto.FLOAT}
    gathered = [n for n in graph.node if n.op_type == "Gather" and weights.get(n.input[0]) == onnx.TensorProto.INT8]
    assert gathered, "the token embeddings must stay int8 in memory"


def test_a_variant_that_loses_too_much_is_refused(checkpoint, tmp_path, monkeypatch):
    """Parity refuses int8 storage when its values are coarser than they should be."""
    from refcolbert_export import variants

    right = variants._quantize
    monkeypatch.setattr(variants, "_quantize", lambda blocks, axis: _coarser(*right(blocks, axis)))
    with pytest.raises(ParityError):
        export_checkpoint(checkpoint, tmp_path / "out", variant="int8")
    assert list(tmp_path.iterdir()) == []


def _coarser(stored, scale):
    return (stored // 32) * 32, scale


def test_an_unknown_variant_is_refused(checkpoint, tmp_path):
    """The message lists the variants when the name is none of them."""
    with pytest.raises(ExportError, match=", ".join(VARIANTS)):
        export_checkpoint(checkpoint, tmp_path / "out", variant="int4")


def test_the_report_says_how_fast_it_was(exported):
    """parity.json holds the measured speed when a model is exported."""
    speed = json.loads((exported / "parity.json").read_text())["speed"]
    assert speed["query_ms"] > 0
    assert speed["document_tokens_per_second"] > 0
