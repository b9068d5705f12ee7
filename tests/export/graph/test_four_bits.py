"""Tables of four bits per value."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import ExportError
from refcolbert_export.conversion.colbert import export_checkpoint
from refcolbert_export.graph.four_bits import BLOCK, restored, stored
from refcolbert_export.graph.gptq import samples
from refcolbert_export.graph.variants import store_int8

tables = st.tuples(st.integers(1, 5), st.sampled_from([2, 50, 96, 128, 192])).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-100, 100, width=32))
)


@given(tables)
def test_rounding_twice_changes_nothing(table):
    """A table that went through four bits once comes back bit for bit the second time."""
    once = restored(*stored(table))
    np.testing.assert_array_equal(restored(*stored(once)), once)


def test_the_documented_bytes():
    """Integers of the first half are in the low bits, those of the second half in the high bits."""
    row = np.array([[1, 2, 3, 4, 5, 7]], np.float32)
    pairs, scale = stored(row)
    assert [hex(byte) for byte in pairs.ravel()] == ["0xc9", "0xda", "0xfb"]
    assert scale.ravel().tolist() == [1.0]
    np.testing.assert_array_equal(restored(pairs, scale), row)


def test_an_outlier_is_cut_off_where_that_loses_less():
    """The scale of least squared error is taken, which means less than the largest value of many."""
    rng = np.random.default_rng(0)
    row = rng.standard_normal((1, BLOCK)).astype(np.float32)
    row[0, 0] = 4.0
    plain = np.float32(4 / 7)
    error = np.square(np.rint(row / plain) * plain - row).sum()
    pairs, scale = stored(row)
    assert scale[0, 0, 0] < plain
    assert np.square(restored(pairs, scale) - row).sum() < error


def test_a_row_of_zeros_stays_zero():
    """A block without a value has the scale 1."""
    pairs, scale = stored(np.zeros((2, BLOCK), np.float32))
    assert (scale == 1).all()
    assert (restored(pairs, scale) == 0).all()


@pytest.mark.parametrize(("columns", "n_blocks"), [(384, 4), (1024, 16), (100, 2), (2, 1)])
def test_a_block_is_the_largest_even_divisor(columns, n_blocks):
    """Rows of any even width have as few scales as blocks of at most 96 allow."""
    assert stored(np.ones((1, columns), np.float32))[1].shape == (1, n_blocks, 1)


def test_odd_columns_are_refused():
    """Two values share a byte, so an odd number of them cannot be stored."""
    with pytest.raises(ExportError, match="even number of columns, found 3"):
        stored(np.ones((1, 3), np.float32))


def test_a_graph_that_cannot_hold_four_bits_is_refused(checkpoint, tmp_path):
    """An older opset, and a table with a second use, are errors instead of more bits than the name says."""
    export_checkpoint(checkpoint, tmp_path / "float32")
    graph = onnx.load(tmp_path / "float32" / "model.onnx")
    (gather,) = (node for node in graph.graph.node if node.op_type == "Gather" and node.input[1] == "input_ids")
    graph.graph.node.append(onnx.helper.make_node("Gather", list(gather.input), ["again"]))
    with pytest.raises(ExportError, match="found opset 20, and 2 uses of 1 tables; choose the variant int8"):
        store_int8(graph, [], four_bits=True)
    del graph.graph.node[-1]
    graph.opset_import[0].version = 17
    with pytest.raises(ExportError, match="found opset 17, and 1 uses"):
        store_int8(graph, [], four_bits=True)


def test_the_graph_computes_with_the_restored_rows(checkpoint, tmp_path):
    """ONNX Runtime's token embeddings are those of `restored`, bit for bit."""
    export_checkpoint(checkpoint, tmp_path / "float32")
    tokenizer_json, spec = ((tmp_path / "float32" / name).read_text() for name in ("tokenizer.json", "encoding.json"))
    graph = onnx.load(tmp_path / "float32" / "model.onnx")
    (gather,) = (node for node in graph.graph.node if node.op_type == "Gather" and node.input[1] == "input_ids")
    table = next(onnx.numpy_helper.to_array(t) for t in graph.graph.initializer if t.name == gather.input[0])
    embeddings = onnx.helper.make_tensor_value_info(gather.output[0], onnx.TensorProto.FLOAT, None)
    small = store_int8(graph, samples(EncodingSpec.from_json(spec), tokenizer_json), four_bits=True)
    small.graph.output.append(embeddings)
    session = onnxruntime.InferenceSession(small.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.array([[2, 7, 7, 11], [3, 1, 0, 5]])
    found = session.run([embeddings.name], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    np.testing.assert_array_equal(found, restored(*stored(table))[ids])
