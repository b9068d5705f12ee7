"""Smaller storage or faster arithmetic of an exported model, made from its float32 graph.

    float32        as exported
    float16        weights stored in half precision, computed in float32: half the size
    int8           weights stored as int8 with a float16 scale per 32 values, computed in float32: a quarter of the size
    int8-int4      the same, but token embeddings in four bits: they are half of a small model
    dynamic-int8   matrix products in int8 arithmetic, activations quantized at run time: faster, less exact

A stored weight is a Cast, times its scale, in front of the product. ONNX Runtime folds that into an ordinary float32
weight when it loads the model. It would turn a DequantizeLinear into another kernel with a larger error. Token
embeddings stay small in memory too: rows are gathered first and scaled then. Weights of products are rounded together
(`gptq`). Rounded to its nearest value each, MiniLM's smallest cosine is 0.983 on a text that repeats one sentence.
"""

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from refcolbert.encoding.tokens import Tokens
from refcolbert.errors import ExportError

from ..parity.report import LIMIT, Tolerance
from .four_bits import OFFSET
from .four_bits import stored as in_four_bits
from .gptq import constant_products, moments, nearest, rounded
from .to_onnx import scratch_file

__all__ = ["VARIANTS", "Samples", "Variant"]

Samples = Sequence[Sequence[Tokens]]  # texts of several kinds

# Smaller weights are not worth a node.
MIN_VALUES = 256
# Values that share a scale.
BLOCK = 32
# Of ONNX's BitwiseAnd.
LEAST_OPSET = 18


@dataclass(frozen=True, slots=True)
class Variant:
    """How to make a variant from the float32 graph, which is changed, and how far its vectors may differ."""

    make: Callable[[ModelProto, Samples], ModelProto]
    tolerance: Tolerance


def store_float16(graph: ModelProto, _: Samples = ()) -> ModelProto:
    """Store weights as float16 behind a Cast."""
    for name, weight in _weights(graph):
        half = weight.astype(np.float16)
        if np.isfinite(half).all():
            _replace(graph, name, f"{name}_float16", half, [_cast(f"{name}_float16", name)])
    return graph


def store_int8(graph: ModelProto, samples: Samples, *, four_bits: bool = False) -> ModelProto:
    """Store weights of products and token embeddings as int8, position tables as float16. Small weights stay.

    four_bits: store the token embeddings in four bits instead. Raises `ExportError` where the graph does not allow it.
    """
    if four_bits:
        _check_four_bits(graph)
    measured = moments(graph, samples)
    inputs = {node.input[1]: node.input[0] for node in constant_products(graph)}
    for name, weight in _weights(graph):
        users = [node for node in graph.graph.node if name in node.input]
        if all(node.op_type == "MatMul" and node.input[1] == name for node in users):
            _store_columns(graph, name, weight, measured[inputs[name]])
        elif len(users) == 1 and users[0].op_type == "Gather" and users[0].input[0] == name:
            if users[0].input[1] == "input_ids":
                _store_rows(graph, name, weight, users[0], four_bits)
            else:
                # Positions are all that tells the tokens of a repetitive text apart, so they keep more bits.
                _replace(graph, name, f"{name}_float16", weight.astype(np.float16), [_cast(f"{name}_float16", name)])
    return graph


def _check_four_bits(graph: ModelProto) -> None:
    """Refuse a graph that would keep its token embeddings in more bits."""
    opset = next(each.version for each in graph.opset_import if each.domain in ("", "ai.onnx"))
    tables = {node.input[0] for node in graph.graph.node if node.op_type == "Gather" and node.input[1] == "input_ids"}
    used = [name for node in graph.graph.node for name in node.input if name in tables]
    if opset < LEAST_OPSET or len(used) != 1:
        raise ExportError(
            f"expected opset {LEAST_OPSET} or newer and one table of token embeddings with one use, found opset "
            f"{opset}, and {len(used)} uses of {len(tables)} tables; choose the variant int8"
        )


def compute_int8(graph: ModelProto, samples: Samples) -> ModelProto:
    """Compute matrix products with constant weights in int8, except contracting ones. Store the other weights as int8.

    A contracting product (the second of a feed-forward layer, the head) sums over the widest activations, where few
    outliers set the scale for all. In float32 these products take MiniLM's smallest cosine on 168 documents from 0.86
    to 0.97, at about the same speed.
    """
    # This import takes a second, and few exports need it.
    from onnxruntime.quantization import QuantType, quantize_dynamic

    wide = {name for name, weight in _weights(graph) if weight.shape[0] > weight.shape[1]}
    contracting = [node.name for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in wide]
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        quantized = Path(folder) / "int8.onnx"
        quantize_dynamic(
            scratch_file(graph, Path(folder)),
            quantized,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            # 7 bits: on CPUs without VNNI two products of 8 bits overflow the 16-bit sum
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=contracting,
            extra_options={"MatMulConstBOnly": True},
        )
        return store_int8(onnx.load(quantized), samples)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Suppress the quantizer's advice in the root logger to pre-process the graph, which changes no product here."""
    root = logging.getLogger()
    root.addFilter(_is_no_advice)
    try:
        yield
    finally:
        root.removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()


VARIANTS = {
    "float32": Variant(lambda graph, _: graph, Tolerance(LIMIT)),
    "float16": Variant(store_float16, Tolerance(None, 0.9999)),
    "int8": Variant(store_int8, Tolerance(None, 0.999)),
    "int8-int4": Variant(partial(store_int8, four_bits=True), Tolerance(None, 0.999)),
    "dynamic-int8": Variant(compute_int8, Tolerance(None, 0.8)),
}


def _weights(graph: ModelProto) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The large float32 matrices of the graph, one at a time: together they may be gigabytes."""
    large = (t for t in graph.graph.initializer if len(t.dims) == 2 and math.prod(t.dims) >= MIN_VALUES)
    for name in [t.name for t in large if t.data_type == onnx.TensorProto.FLOAT]:
        yield name, numpy_helper.to_array(next(t for t in graph.graph.initializer if t.name == name))


def _store_columns(
    proto: ModelProto,
    name: str,
    weight: NDArray[np.float32],  # [in, out]
    moment: NDArray[np.float32],  # [in, in]
) -> None:
    """Store the weight of a product as int8. Each column has one scale per BLOCK rows."""
    rows, columns = weight.shape
    stored, scale = rounded(weight, moment, math.gcd(rows, BLOCK))
    _add(proto, f"{name}_scale", scale)
    _add(proto, f"{name}_shape", np.array([rows, columns]))
    nodes = [
        _cast(f"{name}_int8", f"{name}_float"),
        _cast(f"{name}_scale", f"{name}_scale_float"),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale_float"], [f"{name}_blocks"]),
        helper.make_node("Reshape", [f"{name}_blocks", f"{name}_shape"], [name]),
    ]
    _replace(proto, name, f"{name}_int8", stored, nodes)


def _store_rows(
    proto: ModelProto,
    name: str,
    weight: NDArray[np.float32],  # [rows, columns]
    gather: NodeProto,
    four_bits: bool,
) -> None:
    """Store token embeddings, each row with one scale per block of columns. Gather rows before they are scaled."""
    columns = weight.shape[1]
    stored: NDArray[np.generic]  # [rows, columns / block, values or bytes of a block]
    if four_bits:
        stored, scale = in_four_bits(weight)  # scale [rows, columns / block, 1]
    else:
        block = math.gcd(columns, BLOCK)
        by_column, scales = nearest(np.ascontiguousarray(weight.T), block)  # [columns / block, block or 1, rows]
        stored, scale = by_column.transpose(2, 0, 1), scales.transpose(2, 0, 1)
    kept = f"{name}_int{4 if four_bits else 8}"
    _add(proto, f"{name}_scale", scale)
    # 0 keeps batch and length
    _add(proto, f"{name}_shape", np.array([0, 0, columns]))
    ids, out = gather.input[1], gather.output[0]
    nodes = [
        helper.make_node("Gather", [kept, ids], [f"{name}_rows"]),
        *(_halves(proto, name) if four_bits else [_cast(f"{name}_rows", f"{name}_float")]),
        helper.make_node("Gather", [f"{name}_scale", ids], [f"{name}_row_scale"]),
        _cast(f"{name}_row_scale", f"{name}_scale_float"),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale_float"], [f"{name}_blocks"]),
        helper.make_node("Reshape", [f"{name}_blocks", f"{name}_shape"], [out]),
    ]
    position = list(proto.graph.node).index(gather)
    del proto.graph.node[position]
    _replace(proto, name, kept, stored, nodes, position)


def _halves(proto: ModelProto, name: str) -> list[NodeProto]:
    """The nodes that take the two integers out of each byte: low bits, high bits, and no more offset."""
    _add(proto, f"{name}_low", np.array(15, np.uint8))
    _add(proto, f"{name}_high", np.array(4, np.uint8))
    _add(proto, f"{name}_offset", np.array(OFFSET, np.float32))
    return [
        helper.make_node("BitwiseAnd", [f"{name}_rows", f"{name}_low"], [f"{name}_first"]),
        helper.make_node("BitShift", [f"{name}_rows", f"{name}_high"], [f"{name}_second"], direction="RIGHT"),
        helper.make_node("Concat", [f"{name}_first", f"{name}_second"], [f"{name}_integers"], axis=-1),
        _cast(f"{name}_integers", f"{name}_unsigned"),
        helper.make_node("Sub", [f"{name}_unsigned", f"{name}_offset"], [f"{name}_float"]),
    ]


def _cast(source: str, out: str) -> NodeProto:
    return helper.make_node("Cast", [source], [out], to=onnx.TensorProto.FLOAT)


def _add(proto: ModelProto, name: str, array: NDArray[np.generic]) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(array, name))


def _replace(
    proto: ModelProto, name: str, stored: str, array: NDArray[np.generic], nodes: list[NodeProto], position: int = 0
) -> None:
    """Replace the initializer `name` by `array`, and insert the nodes that restore it."""
    old = next(t for t in proto.graph.initializer if t.name == name)
    old.CopyFrom(numpy_helper.from_array(np.asarray(array), stored))
    for offset, node in enumerate(nodes):
        proto.graph.node.insert(position + offset, node)
