"""Torch module -> ONNX graph with dynamic batch and length -> files.

A graph is one file when it fits into a protobuf message (2 GiB). Otherwise its large tensors are in a safetensors file
beside it. The encoder hashes that file and passes its tensors to ONNX Runtime.
"""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from safetensors.numpy import save_file
from torch import nn

from refcolbert.encoding.encoder import WEIGHTS

from ..model import ColbertModel

__all__ = ["LARGEST_FILE", "OPSET", "scratch_file", "to_onnx", "trace", "write_model"]

# The newest opset of torch's TorchScript exporter (ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET, from torch 2.4 to 2.13). ONNX
# Runtime 1.19, the oldest that the core allows, runs it. Opset 20 adds Gelu as one node.
OPSET = 20
# Protobuf's limit of one message.
LARGEST_FILE = 2**31 - 1
# Reserved for nodes, names and shapes.
GRAPH_BYTES = 2**24
# Smaller tensors stay in the graph, because ONNX Runtime reads some of them while it loads the graph.
LEAST_BYTES = 1024


def to_onnx(model: ColbertModel, release: bool = False) -> ModelProto:
    """The model as an ONNX graph: input_ids, attention_mask [batch, length] int64 -> vectors [batch, length, dim].

    release  the model's weights are freed when they are in the graph: it cannot be used again
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        trace(model, ("input_ids", "attention_mask"), {"vectors": {0: "batch", 1: "length"}}, path)
        if release:
            model.to("meta")
        graph = onnx.load(path)
    _zero_late(graph)
    return graph


def _zero_late(graph: ModelProto) -> None:
    """Make the rows of attention without a token zero after the product with the values, not before it.

    Torch exports where(isnan(weights), 0, weights) @ values, two more matrices of [heads, length, length]. In a row the
    weights are all NaN or none is, so where(isnan(weights @ values), 0, weights @ values) is the same.
    """
    nodes = graph.graph.node
    users: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for isnan in [node for node in nodes if node.op_type == "IsNaN"]:
        (where,) = users[isnan.output[0]]
        product, *others = users[where.output[0]]
        if (where.op_type, product.op_type, others) != ("Where", "MatMul", []) or product.input[0] != where.output[0]:
            continue
        late = f"{product.output[0]}_or_nan"
        product.input[0], product.output[0], where.output[0] = isnan.input[0], late, product.output[0]
        isnan.input[0], where.input[2] = late, late
        # In a graph every node follows those whose outputs it takes.
        for node in (isnan, where):
            nodes.remove(node)
        position = list(nodes).index(product) + 1
        nodes.insert(position, isnan)
        nodes.insert(position + 1, where)


def trace(
    model: nn.Module, inputs: Sequence[str], output: dict[str, dict[int, str]], path: Path, n_types: int = 1
) -> None:
    """Write the ONNX graph of a model whose inputs are int64 [batch, length].

    inputs   names: ids, attention mask and perhaps token types, in the order of the model's parameters
    output   name -> its dynamic axes
    n_types  number of token types
    """
    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask, types = torch.ones_like(ids), torch.zeros_like(ids)
    # An all-ones mask would trace a branch that ignores the mask.
    mask[1, 5:] = 0
    types[:, 3:] = min(n_types - 1, 1)
    with torch.inference_mode(), warnings.catch_warnings():
        # The tracer warns about Python branches. Parity is checked at other shapes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (ids, mask, types)[: len(inputs)],
            # Given a Path, torch writes no weights beside a large graph.
            str(path),
            input_names=list(inputs),
            output_names=list(output),
            dynamic_axes={**{name: {0: "batch", 1: "length"} for name in inputs}, **output},
            opset_version=OPSET,
            dynamo=False,
        )


def write_model(graph: ModelProto, folder: Path, largest: int = LARGEST_FILE) -> None:
    """Write model.onnx, and WEIGHTS when the tensors take more than `largest` bytes. Changes `graph`."""
    tensors = [t for t in graph.graph.initializer if len(t.raw_data) >= LEAST_BYTES]
    if sum(len(t.raw_data) for t in tensors) > largest - min(GRAPH_BYTES, largest // 2):
        arrays = {}
        # One at a time, so that graph and arrays together hold the weights once.
        for tensor in tensors:
            arrays[tensor.name] = np.ascontiguousarray(numpy_helper.to_array(tensor))
            _move_out(tensor)
        save_file(arrays, folder / WEIGHTS)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())


def _move_out(tensor: TensorProto) -> None:
    """Keep only the name, type and shape of a tensor in the graph."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    location = tensor.external_data.add()
    location.key, location.value = "location", WEIGHTS


def scratch_file(graph: ModelProto, folder: Path) -> Path:
    """The graph as a file for ONNX Runtime's tools, with large weights in ONNX's own external format."""
    large = sum(len(t.raw_data) for t in graph.graph.initializer) > LARGEST_FILE - GRAPH_BYTES
    path = folder / "graph.onnx"
    onnx.save(graph, path, save_as_external_data=large)
    if large:
        # saving emptied the tensors
        onnx.load_external_data_for_model(graph, str(folder))
    return path
