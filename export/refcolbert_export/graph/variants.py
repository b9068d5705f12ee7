"""Smaller storage or faster arithmetic of an exported model, made from its float32 graph.

    float32        as exported
    float16        weights stored in half precision, computed in float32: half the size
    int8           weights stored as int8, a float16 scale for every 32, computed in float32: about a quarter
    dynamic-int8   matrix products in int8 arithmetic, activations quantized as they come: faster, and less exact

Storage is written as Cast (times scale) in front of the product. ONNX Runtime folds that into an ordinary float32
weight when it loads the model; a DequantizeLinear it would turn into another kernel with a larger error. Token
embeddings stay small in memory too: rows are gathered first and scaled then. Weights of products are rounded together
(`rounding`): each rounded to its nearest value, MiniLM's smallest cosine is 0.983 on a text that repeats one sentence.
"""

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from refcolbert.encoding.tokens import Tokens

from ..parity.report import LIMIT, Tolerance
from .gptq import constant_products, moments, nearest, rounded
from .to_onnx import scratch_file

__all__ = ["VARIANTS", "Samples", "Variant"]

Samples = Sequence[Sequence[Tokens]]  # texts of several kinds

LEAST_VALUES = 256  # smaller weights are not worth a node
BLOCK = 32  # values that share a scale


@dataclass(frozen=True, slots=True)
class Variant:
    """How to make a variant from the float32 graph, which is used up, and what it may lose."""

    make: Callable[[ModelProto, Samples], ModelProto]
    tolerance: Tolerance


def store_float16(graph: ModelProto, _: Samples = ()) -> ModelProto:
    """Weights as float16 behind a Cast."""
    for name, weight in _weights(graph):
        half = weight.astype(np.float16)
        if np.isfinite(half).all():
            _replace(graph, name, f"{name}_float16", half, [_cast(f"{name}_float16", name)])
    return graph


def store_int8(graph: ModelProto, samples: Samples) -> ModelProto:
    """Weights of matrix products and token embeddings as int8, position tables as float16, small ones as they are."""
    measured = moments(graph, samples)
    inputs = {node.input[1]: node.input[0] for node in constant_products(graph)}
    for name, weight in _weights(graph):
        users = [node for node in graph.graph.node if name in node.input]
        if all(node.op_type == "MatMul" and node.input[1] == name for node in users):
            _store_columns(graph, name, weight, measured[inputs[name]])
        elif len(users) == 1 and users[0].op_type == "Gather" and users[0].input[0] == name:
            if users[0].input[1] == "input_ids":
                _store_rows(graph, name, weight, users[0])
            else:  # positions: nothing else tells the tokens of a repetitive text apart
                _replace(graph, name, f"{name}_float16", weight.astype(np.float16), [_cast(f"{name}_float16", name)])
    return graph


def compute_int8(graph: ModelProto, samples: Samples) -> ModelProto:
    """Matrix products with constant weights in int8, but those that contract; what is left is stored as int8.

    A product that contracts (the second of a feed-forward layer, the head) sums over the widest activations, where few
    outliers set the scale for all. Leaving these in float32 takes MiniLM's smallest cosine on 168 documents from 0.86
    to 0.97, at about the same speed.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # takes a second to import, and few need it

    wide = {name for name, weight in _weights(graph) if weight.shape[0] > weight.shape[1]}
    contracting = [node.name for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in wide]
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        given, made = scratch_file(graph, Path(folder)), Path(folder) / "int8.onnx"
        quantize_dynamic(
            given,
            made,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,  # 7 bits: without VNNI two products of 8 bits overflow the 16-bit sum
            weight_type=QuantType.QInt8,
            nodes_to_exclude=contracting,
            extra_options={"MatMulConstBOnly": True},
        )
        return store_int8(onnx.load(made), samples)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep the quantizer from advising, through the root logger, a pre-processing that changes no product here."""
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
    "dynamic-int8": Variant(compute_int8, Tolerance(None, 0.8)),
}


def _weights(graph: ModelProto) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The float32 matrices of the graph that are large enough, one after the other: together they may be gigabytes."""
    large = (t for t in graph.graph.initializer if len(t.dims) == 2 and math.prod(t.dims) >= LEAST_VALUES)
    for name in [t.name for t in large if t.data_type == onnx.TensorProto.FLOAT]:
        yield name, numpy_helper.to_array(next(t for t in graph.graph.initializer if t.name == name))


def _store_columns(
    proto: ModelProto,
    name: str,
    weight: NDArray[np.float32],  # [in, out]
    moment: NDArray[np.float32],  # [in, in]
) -> None:
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
    proto: ModelProto, name: str, weight: NDArray[np.float32], gather: NodeProto
) -> None:  # [rows, columns]
    columns = weight.shape[1]
    block = math.gcd(columns, BLOCK)
    by_column, scales = nearest(np.ascontiguousarray(weight.T), block)  # [columns / block, block or 1, rows]
    stored, scale = by_column.transpose(2, 0, 1), scales.transpose(2, 0, 1)  # [rows, columns / block, block or 1]
    _add(proto, f"{name}_scale", scale)
    _add(proto, f"{name}_shape", np.array([0, 0, columns]))  # 0 keeps batch and length
    ids, out = gather.input[1], gather.output[0]
    nodes = [
        helper.make_node("Gather", [f"{name}_int8", ids], [f"{name}_rows"]),
        _cast(f"{name}_rows", f"{name}_float"),
        helper.make_node("Gather", [f"{name}_scale", ids], [f"{name}_row_scale"]),
        _cast(f"{name}_row_scale", f"{name}_scale_float"),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale_float"], [f"{name}_blocks"]),
        helper.make_node("Reshape", [f"{name}_blocks", f"{name}_shape"], [out]),
    ]
    position = list(proto.graph.node).index(gather)
    del proto.graph.node[position]
    _replace(proto, name, f"{name}_int8", stored, nodes, position)


def _cast(given: str, out: str) -> NodeProto:
    return helper.make_node("Cast", [given], [out], to=onnx.TensorProto.FLOAT)


def _add(proto: ModelProto, name: str, array: NDArray[np.generic]) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(array, name))


def _replace(
    proto: ModelProto, name: str, stored: str, array: NDArray[np.generic], nodes: list[NodeProto], position: int = 0
) -> None:
    """Put `array` in the place of the initializer `name`, and the nodes that restore it where it is needed."""
    old = next(t for t in proto.graph.initializer if t.name == name)
    old.CopyFrom(numpy_helper.from_array(np.asarray(array), stored))
    for offset, node in enumerate(nodes):
        proto.graph.node.insert(position + offset, node)
