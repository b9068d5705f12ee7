"""Torch module -> ONNX graph with dynamic batch and length, and its files.

A graph is one file where protobuf can hold it. Beyond, its large tensors lie beside it in the safetensors format, which
the encoder hashes and hands to ONNX Runtime.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from safetensors.numpy import save_file

from refcolbert.encoding.encoder import WEIGHTS

from ..model import ColbertModel

__all__ = ["LARGEST_FILE", "OPSET", "scratch_file", "to_onnx", "write_model"]

# The newest that torch's TorchScript exporter has symbols for (its ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET, in torch 2.4 as
# in 2.13). The oldest ONNX Runtime that the core allows, 1.19, runs it: tiny models of seven backbones gave the bits of
# opset 17 there, and MiniLM was no slower. Opset 20 adds Gelu as one node.
OPSET = 20
LARGEST_FILE = 2**31 - 1  # protobuf's limit of one message
GRAPH_BYTES = 2**24  # left for all that is no large tensor: nodes, names, shapes
LEAST_BYTES = 1024  # smaller tensors stay in the graph: ONNX Runtime reads some of them while it loads


def to_onnx(model: ColbertModel) -> ModelProto:
    """The model as an ONNX graph: input_ids, attention_mask [batch, length] int64 -> vectors [batch, length, dim]."""
    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0  # so that no branch for an all-ones mask is traced
    axes = {0: "batch", 1: "length"}
    names = ("input_ids", "attention_mask", "vectors")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer notes about Python branches; parity at other shapes is the judge
        path = str(Path(folder) / "model.onnx")  # a text: given a Path, torch puts no weights beside a large graph
        torch.onnx.export(
            model.eval(),
            (ids, mask),
            path,
            input_names=list(names[:2]),
            output_names=[names[2]],
            dynamic_axes=dict.fromkeys(names, axes),
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(path)


def write_model(graph: ModelProto, folder: Path, largest: int = LARGEST_FILE) -> None:
    """Write model.onnx, and WEIGHTS where the graph's tensors take more than `largest` bytes; `graph` is used up."""
    tensors = [t for t in graph.graph.initializer if len(t.raw_data) >= LEAST_BYTES]
    if sum(len(t.raw_data) for t in tensors) > largest - min(GRAPH_BYTES, largest // 2):
        save_file({t.name: np.ascontiguousarray(numpy_helper.to_array(t)) for t in tensors}, folder / WEIGHTS)
        for tensor in tensors:
            _move_out(tensor)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())


def _move_out(tensor: TensorProto) -> None:
    """Leave the name, type and shape of a tensor in the graph, nothing else."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    location = tensor.external_data.add()
    location.key, location.value = "location", WEIGHTS


def scratch_file(graph: ModelProto, folder: Path) -> Path:
    """The graph as a file for ONNX Runtime's own tools, with large weights as ONNX has them."""
    large = sum(len(t.raw_data) for t in graph.graph.initializer) > LARGEST_FILE - GRAPH_BYTES
    path = folder / "graph.onnx"
    onnx.save(graph, path, save_as_external_data=large)
    if large:
        onnx.load_external_data_for_model(graph, str(folder))  # saving emptied the tensors
    return path
