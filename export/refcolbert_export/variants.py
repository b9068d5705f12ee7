"""Smaller storage or faster arithmetic of an exported model, made from its float32 ONNX bytes.

    float32        as exported
    float16        weights stored in half precision, computed in float32: half the size
    int8           weights stored as int8, a float16 scale for every 32, computed in float32: about a quarter
    dynamic-int8   matrix products in int8 arithmetic, activations quantized as they come: faster, and less exact

Storage is written as Cast (times scale) in front of the product. ONNX Runtime folds that into an ordinary float32
weight when it loads the model; a DequantizeLinear it would turn into another kernel with a larger error. Token
embeddings stay small in memory too: rows are gathered first and scaled then. One scale for a whole column of MiniLM
gives a smallest cosine of 0.996 on ordinary text, one for every 32 values 0.9991.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from .parity import LIMIT, Tolerance

__all__ = ["VARIANTS", "Variant"]

LEAST_VALUES = 256  # smaller weights are not worth a node
BLOCK = 32  # values that share a scale


@dataclass(frozen=True, slots=True)
class Variant:
    """How to make a variant from float32 bytes, and what it may lose."""

    make: Callable[[bytes], bytes]
    tolerance: Tolerance


def store_float16(model: bytes) -> bytes:
    """Weights as float16 behind a Cast."""
    proto = onnx.load_from_string(model)
    for name, weight in _weights(proto).items():
        half = weight.astype(np.float16)
        if np.isfinite(half).all():
            _replace(proto, name, f"{name}_float16", half, [_cast(f"{name}_float16", name)])
    return bytes(proto.SerializeToString())


def store_int8(model: bytes) -> bytes:
    """Weights of matrix products and embeddings as int8; others, which are small, as they are."""
    proto = onnx.load_from_string(model)
    for name, weight in _weights(proto).items():
        users = [node for node in proto.graph.node if name in node.input]
        if all(node.op_type == "MatMul" and node.input[1] == name for node in users):
            _store_columns(proto, name, weight)
        elif len(users) == 1 and users[0].op_type == "Gather" and users[0].input[0] == name:
            _store_rows(proto, name, weight, users[0])
    return bytes(proto.SerializeToString())


def compute_int8(model: bytes) -> bytes:
    """Matrix products with constant weights in int8, but those that contract; what is left is stored as int8.

    A product that contracts (the second of a feed-forward layer, the head) sums over the widest activations, where few
    outliers set the scale for all. Leaving these in float32 takes MiniLM's smallest cosine on 168 documents from 0.86
    to 0.97, at about the same speed.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # takes a second to import, and few need it

    proto = onnx.load_from_string(model)
    wide = {name for name, weight in _weights(proto).items() if weight.shape[0] > weight.shape[1]}
    contracting = [node.name for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in wide]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        given.write_bytes(model)
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
        return store_int8(made.read_bytes())


VARIANTS = {
    "float32": Variant(lambda model: model, Tolerance(LIMIT)),
    "float16": Variant(store_float16, Tolerance(None, 0.9999)),
    "int8": Variant(store_int8, Tolerance(None, 0.999)),
    "dynamic-int8": Variant(compute_int8, Tolerance(None, 0.8)),
}


def _weights(proto: ModelProto) -> dict[str, NDArray[np.float32]]:
    """The float32 matrices of the graph that are large enough, by name."""
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if len(t.dims) == 2}
    return {name: a for name, a in arrays.items() if a.dtype == np.float32 and a.size >= LEAST_VALUES}


def _store_columns(proto: ModelProto, name: str, weight: NDArray[np.float32]) -> None:  # [in, out]
    rows, columns = weight.shape
    block = math.gcd(rows, BLOCK)
    stored, scale = _quantize(weight.reshape(rows // block, block, columns), axis=1)
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
    rows, columns = weight.shape
    block = math.gcd(columns, BLOCK)
    stored, scale = _quantize(weight.reshape(rows, columns // block, block), axis=2)
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


def _quantize(blocks: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Values as -127 ... 127 and the scale of each block; 1 for a block of zeros."""
    largest: NDArray[np.float32] = np.abs(blocks).max(axis=axis, keepdims=True) / np.float32(127)
    scale: NDArray[np.float16] = np.where(largest > np.finfo(np.float16).tiny, largest, 1).astype(np.float16)
    stored: NDArray[np.int8] = np.clip(np.rint(blocks / scale.astype(np.float32)), -127, 127).astype(np.int8)
    return stored, scale


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
