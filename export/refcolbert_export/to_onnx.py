"""Torch module -> ONNX bytes, with dynamic batch and length."""

import tempfile
import warnings
from pathlib import Path

import torch

from refcolbert.errors import UnsupportedCheckpoint

from .colbert import ColbertModel

__all__ = ["LARGEST_FILE", "OPSET", "check_size", "to_onnx"]

# The newest that torch's TorchScript exporter has symbols for (its ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET, in torch 2.4 as
# in 2.13). The oldest ONNX Runtime that the core allows, 1.19, runs it: tiny models of seven backbones gave the bits of
# opset 17 there, and MiniLM was no slower. Opset 20 adds Gelu as one node.
OPSET = 20
LARGEST_FILE = 2**31 - 1  # protobuf's limit of one message, which a model loaded by its hash has to be


def to_onnx(model: ColbertModel) -> bytes:
    """The model as one ONNX file: input_ids, attention_mask [batch, length] int64 -> vectors [batch, length, dim].

    Raises `UnsupportedCheckpoint` when its weights do not fit into one file.
    """
    check_size(sum(p.numel() * p.element_size() for p in {*model.parameters(), *model.buffers()}))
    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0  # so that no branch for an all-ones mask is traced
    axes = {0: "batch", 1: "length"}
    names = ("input_ids", "attention_mask", "vectors")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer notes about Python branches; parity at other shapes is the judge
        torch.onnx.export(
            model.eval(),
            (ids, mask),
            Path(folder) / "model.onnx",
            input_names=list(names[:2]),
            output_names=[names[2]],
            dynamic_axes=dict.fromkeys(names, axes),
            opset_version=OPSET,
            dynamo=False,
        )
        return (Path(folder) / "model.onnx").read_bytes()


def check_size(weights: int) -> None:
    """Raise `UnsupportedCheckpoint` when so many bytes of float32 weights do not fit into one ONNX file."""
    if weights > LARGEST_FILE:
        raise UnsupportedCheckpoint(
            f"the weights take {weights / 1e9:.2f} GB in float32, one ONNX file holds at most "
            f"{LARGEST_FILE / 1e9:.2f}; a model folder holds one file that is loaded by its hash, so this model is too "
            "large: choose a checkpoint of less than about 530 million parameters"
        )
