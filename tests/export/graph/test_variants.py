"""Stored and computed precisions of an exported model."""

import json
import logging

import numpy as np
import onnx
import onnxruntime
import pytest

from refcolbert.encoding.encoder import Encoder
from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import ExportError, ParityError
from refcolbert_export.conversion.colbert import export_checkpoint, verify_against
from refcolbert_export.graph.gptq import nearest, rounded, samples
from refcolbert_export.graph.variants import VARIANTS, store_int8
from refcolbert_export.parity.report import recheck


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The float32 export of the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("float32") / "out"
    export_checkpoint(checkpoint, folder)
    return folder


@pytest.mark.parametrize(
    ("variant", "cosine"), [("float16", 0.9999), ("int8", 0.999), ("int8-int4", 0.999), ("dynamic-int8", 0.8)]
)
def test_a_variant_is_smaller_and_close(checkpoint_for, exported, tmp_path, variant, cosine):
    """A variant loads as any model, reports its loss and verifies when it is exported."""
    out, checkpoint = tmp_path / "out", checkpoint_for(variant)
    if variant == "int8-int4":
        exported = tmp_path / "float32"
        export_checkpoint(checkpoint, exported)
    report = export_checkpoint(checkpoint, out, variant=variant)
    assert (report["variant"], report["tolerance"]["min_cosine"]) == (variant, cosine)
    assert (out / "model.onnx").stat().st_size < (exported / "model.onnx").stat().st_size
    text = "what is the number of the line"
    a, b = (Encoder.load(folder).encode_documents([text])[0] for folder in (out, exported))
    assert np.einsum("nd,nd->n", a, b).min() >= cosine
    recheck(out)
    verify_against(out, checkpoint)


def test_embeddings_that_were_not_rounded_are_refused_in_four_bits(checkpoint, tmp_path):
    """A model that was trained with other embeddings loses too much."""
    with pytest.raises(ParityError):
        export_checkpoint(checkpoint, tmp_path / "out", variant="int8-int4")


def test_int8_storage_computes_in_float32(exported, tmp_path):
    """ONNX Runtime folds the stored int8 into ordinary MatMul weights when it loads the model."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    tokenizer_json, spec = ((exported / name).read_text() for name in ("tokenizer.json", "encoding.json"))
    sample = samples(EncodingSpec.from_json(spec), tokenizer_json)
    stored = store_int8(onnx.load(exported / "model.onnx"), sample)
    onnxruntime.InferenceSession(stored.SerializeToString(), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    kinds = {node.op_type for node in graph.node}
    assert not kinds & {"MatMulNBits", "MatMulInteger", "DequantizeLinear", "QLinearMatMul", "DynamicQuantizeMatMul"}
    weights = {t.name: t.data_type for t in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "FusedMatMul", "Attention")]
    assert products
    assert {weights[n.input[1]] for n in products if n.input[1] in weights} == {onnx.TensorProto.FLOAT}
    gathered = [n for n in graph.node if n.op_type == "Gather" and weights.get(n.input[0]) == onnx.TensorProto.INT8]
    assert gathered, "the token embeddings must stay int8 in memory"


def test_rounding_together_loses_less():
    """The product changes less when losses are made up by later inputs, if the inputs are correlated."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((500, 64)) @ rng.standard_normal((64, 64))).astype(np.float32)  # [n, in]
    weight = rng.standard_normal((64, 16)).astype(np.float32)  # [in, out]

    def loss(stored, scale):
        back = (stored * scale.astype(np.float32)).reshape(weight.shape)
        return np.linalg.norm(x @ (back - weight))

    assert loss(*rounded(weight, x.T @ x, 32)) < 0.8 * loss(*nearest(weight, 32))


def test_inputs_that_never_vary_are_rounded_to_the_nearest():
    """A moment of zeros, as of a layer that is never reached, gives finite weights within half a step."""
    weight = np.random.default_rng(0).standard_normal((64, 16)).astype(np.float32)
    stored, scale = rounded(weight, np.zeros((64, 64), np.float32), 32)
    back = (stored * scale.astype(np.float32)).reshape(weight.shape)
    assert (np.abs(back - weight) <= 0.51 * np.repeat(scale[:, 0].astype(np.float32), 32, 0)).all()


def test_dynamic_int8_is_quiet(checkpoint, tmp_path, caplog):
    """Nothing is logged, and the root logger is as before, when the quantizer has run."""
    before = list(logging.getLogger().filters)
    with caplog.at_level(logging.WARNING):
        export_checkpoint(checkpoint, tmp_path / "out", variant="dynamic-int8")
    assert caplog.text == ""
    assert logging.getLogger().filters == before


def test_every_text_and_shape_is_held_to_the_bound():
    """No entry of a report is exempt from the smallest cosine, whatever its text or shape."""
    tolerance = VARIANTS["int8"].tolerance
    for name in ({"text": "long repetition"}, {"text": "plain"}, {"shape": [1, 512]}):
        assert tolerance.refuses({**name, "max_abs": 0.1, "min_cosine": 0.9989})
        assert not tolerance.refuses({**name, "max_abs": 0.1, "min_cosine": 0.9991})


def test_a_variant_that_loses_too_much_is_refused(checkpoint, tmp_path, monkeypatch):
    """Parity refuses int8 storage when its values are coarser than they should be."""
    from refcolbert_export.graph import variants

    right = variants.rounded
    monkeypatch.setattr(variants, "rounded", lambda *given: _coarser(*right(*given)))
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
